"""Reports to other domains about yesterday: off until switched on, few, and never in a circle.

Of DMARC a domain hears only for a day on which mail of its own came: one that is only forged, or
only sends spam, gets nothing. Every report is from the null sender, so nothing comes back; those
who refuse one are left alone for a while. What was decided about a domain and a day is written in
the transaction that queues the report: it is sent once, whatever ends this in the middle.
"""

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import orjson

from mailserver.address import Address, parse_address
from mailserver.antispam.authentication.lookups import Lookups
from mailserver.dns import LookupFailed
from mailserver.errors import MailError
from mailserver.events import QUEUE
from mailserver.feedback import collecting, destinations, letters
from mailserver.feedback.destinations import Target, Wishes
from mailserver.feedback.model import (
    DmarcReport,
    DmarcRow,
    Kind,
    TlsFailure,
    TlsPolicy,
    TlsReport,
)
from mailserver.feedback.receiving import NAMES
from mailserver.mail import recipients
from mailserver.mail.context import Mail
from mailserver.mail.delivery import hashed
from mailserver.model import AccountId, Modseq, QueueId, QueueState
from mailserver.queue import enqueue
from mailserver.queue.enqueue import Outgoing, OutgoingRecipient
from mailserver.storage import bodies, feedback, leases, queue
from mailserver.storage.bodies import NewBody

log = logging.getLogger(__name__)

LEASE = "reports sent"
LEASE_TIME = timedelta(minutes=15)
LOOK = 600.0  # seconds between two rounds
PER_ROUND = 20  # reports: they trickle out over the day
PAGE = 50  # domains that are read at once
MAX_ROWS = 5000  # of one report: those with the most messages
SETTLED = timedelta(minutes=10)  # into a day, after which all counts of the last one are written

_POLICY_TAGS = ("p", "sp", "np", "adkim", "aspf")
_ALLOWED = {
    "p": ("none", "quarantine", "reject"),
    "sp": ("none", "quarantine", "reject"),
    "np": ("none", "quarantine", "reject"),
    "adkim": ("r", "s"),
    "aspf": ("r", "s"),
}


class Sender:
    """Makes and queues reports, in one process of all."""

    def __init__(self, mail: Mail, resolver: Lookups, owner: str) -> None:
        self._mail = mail
        self._resolver = resolver
        self._owner = owner
        self._settings = mail.config.reports

    async def run(self) -> None:
        """Work until cancelled; a round that fails is logged and tried again."""
        while True:
            try:
                await self.once()
            except MailError as error:
                self._mail.metrics.background_failures.labels("reports sent").inc()
                log.warning("reports: round failed", extra={"error": str(error)})
            await asyncio.sleep(LOOK)

    async def once(self) -> int:
        """Send what is due, some of it, unless another process does; return how many."""
        mail, settings, now = self._mail, self._settings, self._mail.now()
        wanted = [(Kind.DMARC, settings.dmarc), (Kind.TLS, settings.tls)]
        kinds = [kind for kind, is_on in wanted if is_on]
        if not kinds or not await leases.take(mail.database, LEASE, self._owner, now, LEASE_TIME):
            return 0
        await self._suppress()
        if now.astimezone(UTC) - SETTLED < _midnight(now):
            return 0
        sender = parse_address(settings.sender)
        account = await self._account(sender)
        if account is None or not await self._is_quiet(sender.domain):
            return 0
        return sum([await self._kind(kind, now, sender, account) for kind in kinds])

    async def _suppress(self) -> None:
        now = self._mail.now()
        until = now + timedelta(seconds=self._settings.suppress)
        for address in await feedback.suppress_returned(
            self._mail.database, QueueState.FAILED, until, now
        ):
            log.info("reports: address refuses them", extra={"address": address})

    async def _account(self, sender: Address) -> AccountId | None:
        """Return whose mail reports are."""
        found = await recipients.resolve(self._mail, sender)
        if found.accounts:
            return found.accounts[0].id
        log.error("reports: the sender is nobody's address", extra={"sender": str(sender)})
        return None

    async def _is_quiet(self, domain: str) -> bool:
        """Tell whether nobody reports about our reports, which would never end."""
        try:
            wishes = await destinations.of_dmarc(self._resolver, domain)
        except LookupFailed:
            log.warning("reports: DNS gives no answer", extra={"domain": domain})
            return False
        if wishes is not None and wishes.targets:
            extra = {"domain": domain, "reason": "its DMARC record has rua: reports about reports"}
            log.error("reports: not sent", extra=extra)
            return False
        return True

    async def _kind(self, kind: Kind, now: datetime, sender: Address, account: AccountId) -> int:
        database, day = self._mail.database, (now - timedelta(days=1)).astimezone(UTC).date()
        left = self._settings.max_per_day - await feedback.count_sent(
            database, kind, _midnight(now)
        )
        left, sent, after = min(left, PER_ROUND), 0, ""
        while left > sent:
            domains = await feedback.domains_to_report(database, kind, day, after, PAGE)
            for domain in domains:
                if sent >= left:
                    return sent
                sent += await self._domain(kind, day, domain, sender, account)
            if len(domains) < PAGE:
                break
            after = domains[-1]
        return sent

    async def _domain(
        self, kind: Kind, day: date, domain: str, sender: Address, account: AccountId
    ) -> bool:
        """Decide about one domain; return whether it gets a report."""
        try:
            report, targets = await _MAKERS[kind](self, day, domain)
        except LookupFailed:
            return False  # asked again in the next round, until the day is over
        if report is None or not targets:
            outcome = "nothing to say" if report is None else "nobody wants it"
            await self._decide(kind, day, domain, outcome)
            return False
        return await self._queue(kind, day, domain, report, targets, sender, account)

    async def _decide(self, kind: Kind, day: date, domain: str, outcome: str) -> None:
        now = self._mail.now()
        await feedback.decide(self._mail.database, kind, day, domain, outcome, None, now)
        self._mail.metrics.reports_sent.labels(NAMES[kind], outcome).inc()

    # What is said ---------------------------------------------------------------------------------

    async def _dmarc(self, day: date, domain: str) -> tuple[DmarcReport | None, Sequence[Target]]:
        counted = await feedback.counts(self._mail.database, Kind.DMARC, day, domain, MAX_ROWS)
        rows = [collecting.row(orjson.loads(text), times) for text, times in counted]
        if not any(row.passed for row in rows):
            return None, ()
        wishes = await destinations.of_dmarc(self._resolver, domain)
        if wishes is None:
            return None, ()
        wanting = [
            target
            for target in wishes.targets
            if await destinations.wants(self._resolver, domain, target)
        ]
        return self._dmarc_report(day, domain, wishes, rows), await self._welcome(wanting)

    def _dmarc_report(
        self, day: date, domain: str, wishes: Wishes, rows: Sequence[DmarcRow]
    ) -> DmarcReport:
        begins, ends = _span(day)
        policy = {
            name: value
            for name in _POLICY_TAGS
            if (value := wishes.tags.get(name, "").lower()) in _ALLOWED[name]
        }
        by_list = self._mail.config.authentication.suffix_list
        return DmarcReport(
            self._organization,
            self._settings.sender,
            f"{day:%Y%m%d}.{domain}",
            begins,
            ends,
            domain,
            {
                "p": "none",
                **policy,
                "discovery_method": "psl" if by_list else "treewalk",
                "testing": "y" if wishes.tags.get("t", "").lower() == "y" else "n",
            },
            tuple(rows),
        )

    async def _tls(self, day: date, domain: str) -> tuple[TlsReport | None, Sequence[Target]]:
        counted = await feedback.counts(self._mail.database, Kind.TLS, day, domain, MAX_ROWS)
        wishes = await destinations.of_tls(self._resolver, domain)
        if wishes is None or not counted:
            return None, ()
        begins, ends = _span(day)
        report = TlsReport(
            self._organization,
            self._settings.sender,
            f"{day:%Y%m%d}.{domain}",
            begins,
            ends,
            tls_policies(domain, [(orjson.loads(text), times) for text, times in counted]),
        )
        return report, await self._welcome(wishes.targets)

    async def _welcome(self, targets: Sequence[Target]) -> list[Target]:
        """Leave out addresses that refused a report before."""
        addresses = [str(target.address).lower() for target in targets]
        database, now = self._mail.database, self._mail.now()
        refused = await feedback.suppressed(database, addresses, now)
        return [each for each in targets if str(each.address).lower() not in refused]

    @property
    def _organization(self) -> str:
        return self._settings.organization or self._mail.config.server.hostname

    # How it leaves --------------------------------------------------------------------------------

    async def _queue(
        self,
        kind: Kind,
        day: date,
        domain: str,
        report: DmarcReport | TlsReport,
        targets: Sequence[Target],
        sender: Address,
        account: AccountId,
    ) -> bool:
        """Queue a report; one message for all, which is too large for none of them."""
        mail, now = self._mail, self._mail.now()
        raw = letters.compose(
            report,
            sender=sender,
            to=targets[0].address,
            submitter=mail.config.server.hostname,
            now=now,
            message_id=f"{secrets.token_hex(16)}@{mail.config.server.hostname}",
        )
        fitting = [each for each in targets if each.limit is None or len(raw) <= each.limit]
        if not fitting:
            await self._decide(kind, day, domain, "too large")
            return False
        outgoing = Outgoing(
            account,
            "",
            tuple(
                OutgoingRecipient(str(each.address), each.address.domain, notify="NEVER")
                for each in fitting
            ),
            f"report-{NAMES[kind]}-{day:%Y%m%d}",
        )
        blob, stored = hashed(raw)
        new = QueueId(mail.ids.next())
        caught = mail.config.smtp.catch_outbound
        row, rows = enqueue.rows(outgoing, new, blob, len(raw), now, caught=caught)
        async with mail.database.transaction() as tx:
            if not await feedback.decide(tx, kind, day, domain, "sent", new, now):
                return False
            await bodies.insert(tx, [NewBody(account, blob, len(raw), 1, stored)], now)
            await queue.insert(tx, [row], rows)
        mail.events.publish(QUEUE, Modseq(new))
        mail.metrics.reports_sent.labels(NAMES[kind], "sent").inc()
        addresses = [str(each.address) for each in fitting]
        log.info("report sent", extra={"kind": NAMES[kind], "domain": domain, "to": addresses})
        return True


_Made = tuple[DmarcReport | TlsReport | None, Sequence[Target]]
_MAKERS: dict[Kind, Callable[[Sender, date, str], Awaitable[_Made]]] = {
    Kind.DMARC: Sender._dmarc,
    Kind.TLS: Sender._tls,
}


def tls_policies(
    domain: str, counted: Sequence[tuple[dict[str, object], int]]
) -> tuple[TlsPolicy, ...]:
    """Return what was counted of sessions, by policy."""
    policies: dict[tuple[object, ...], TlsPolicy] = {}
    failures: dict[tuple[object, ...], list[TlsFailure]] = defaultdict(list)
    for detail, times in counted:
        lines, hosts = _words(detail["policy"]), _words(detail["hosts"])
        key = (detail["type"], lines, hosts)
        policy = policies.get(key) or TlsPolicy(str(detail["type"]), domain, 0, 0, lines, hosts)
        if detail["result"]:
            policy = replace(policy, failed=policy.failed + times)
            failures[key].append(
                TlsFailure(
                    str(detail["result"]),
                    times,
                    str(detail["host"]),
                    str(detail["ip"]),
                    "",
                    str(detail["reason"]),
                )
            )
        else:
            policy = replace(policy, succeeded=policy.succeeded + times)
        policies[key] = policy
    return tuple(replace(policy, failures=tuple(failures[key])) for key, policy in policies.items())


def _words(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _midnight(now: datetime) -> datetime:
    return datetime.combine(now.astimezone(UTC).date(), time(), UTC)


def _span(day: date) -> tuple[int, int]:
    """Return the first and the last second of a day."""
    begins = int(datetime.combine(day, time(), UTC).timestamp())
    return begins, begins + 86399
