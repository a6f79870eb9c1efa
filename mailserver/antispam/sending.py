"""How much users may send, and the brake for accounts whose password was stolen.

A stolen account sends to very many whom its owner never wrote to, and many of those addresses do
not exist. Such an account is held: nothing more of it leaves until somebody has looked at it.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from mailserver.antispam.ratelimit import Limit, Rates
from mailserver.config import Sending
from mailserver.errors import MailError, Unavailable
from mailserver.metrics import Metrics
from mailserver.model import AccountId
from mailserver.storage import leases, sending
from mailserver.storage.database import Database

log = logging.getLogger(__name__)

MAX_WAITING = 50_000  # contacts that wait to be written
PART = 1000  # contacts written with one statement
LOOK = 60.0  # seconds between two looks at what other servers refused
LEASE = "sending"
LEASE_TIME = timedelta(seconds=150)
HOUR, DAY = 3600.0, 86400.0


class Brake:
    """Says whether an account may send now: `mail.sending` asks it."""

    def __init__(
        self,
        settings: Sending,
        database: Database,
        rates: Rates,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._rates = rates
        self._metrics = metrics
        self._now = now
        self._messages = (
            Limit("messages of account, hour", settings.messages_per_hour, HOUR),
            Limit("messages of account, day", settings.messages_per_day, DAY),
        )
        self._recipients = (
            Limit("recipients of account, hour", settings.recipients_per_hour, HOUR),
            Limit("recipients of account, day", settings.recipients_per_day, DAY),
        )
        self._strangers = Limit("new recipients of account", settings.new_recipients_per_hour, HOUR)
        self._refused = settings.refused_per_hour
        self._exempt = frozenset(settings.exempt.lower().split())
        self._waiting: set[tuple[AccountId, int]] = set()

    async def admit(self, account: AccountId, login: str, recipients: Sequence[str]) -> str:
        """Return what keeps an account from sending: "held", "too fast", or nothing.

        What is admitted counts; what is not does not.
        """
        if login in self._exempt:
            return ""
        contacts = {_contact(recipient) for recipient in recipients}
        standing = await sending.standing(self._database, account, sorted(contacts))
        if standing.held is not None:
            return "held"
        who = f"{account} {standing.released_at or ''}"  # who was let go begins anew
        strangers = contacts - standing.known
        if not self._rates.fits(self._strangers, who, len(strangers)):
            most = self._strangers.most
            reason = f"it sends to more than {most} new recipients in an hour"
            await self.hold(account, login, reason)
            return "held"
        wanted = [
            *((limit, 1) for limit in self._messages),
            *((limit, len(recipients)) for limit in self._recipients),
        ]
        for limit, amount in wanted:
            if not self._rates.fits(limit, who, amount):
                log.warning("account sends too much", extra={"account": login, "limit": limit.name})
                return "too fast"
        for limit, amount in (*wanted, (self._strangers, len(strangers))):
            self._rates.count(limit, who, amount)
        if len(self._waiting) < MAX_WAITING:
            self._waiting.update((account, contact) for contact in strangers)
        return ""

    async def hold(self, account: AccountId, login: str, reason: str) -> None:
        """Let nothing more of an account leave, and raise an alarm."""
        async with self._database.transaction() as tx:
            is_new = await sending.hold(tx, account, reason, self._now())
        if is_new:
            self._metrics.accounts_held.inc()
            log.error("account is held", extra={"account": login, "reason": reason})

    async def flush(self) -> None:
        """Write to whom was sent; Unavailable when that has to wait."""
        while self._waiting:
            part = sorted(self._waiting)[:PART]
            await sending.remember(self._database, part)
            self._waiting.difference_update(part)

    async def run(self, owner: str) -> None:
        """Look again and again at what other servers refused, in one process of all."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self.look(owner)
            except MailError as error:
                level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
                log.log(level, "refused mail was not looked at", extra={"error": str(error)})

    async def look(self, owner: str) -> None:
        """Hold accounts many of whose recipients were refused, unless another process looks."""
        now = self._now()
        if not await leases.take(self._database, LEASE, owner, now, LEASE_TIME):
            return
        await sending.hold_rest(self._database, sorted(self._exempt))
        if not self._refused:
            return
        since = now - timedelta(hours=1)
        for account, login, count in await sending.refused(self._database, since, self._refused):
            if login in self._exempt:
                continue
            reason = f"other servers refused {count} of its recipients in an hour"
            await self.hold(account, login, reason)


def _contact(recipient: str) -> int:
    digest = hashlib.sha256(recipient.lower().encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
