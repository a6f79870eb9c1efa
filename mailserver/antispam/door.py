"""What is decided before a message arrives: who may come, from whom, to whom, and when."""

import asyncio
import logging
from collections.abc import Sequence

from mailserver.address import Address, quoted
from mailserver.antispam.authentication import Authentication, check_iprev
from mailserver.antispam.authentication.results import Spf
from mailserver.antispam.authentication.spf import check_spf
from mailserver.antispam.checks import Checks, Guard
from mailserver.antispam.evidence import Finding
from mailserver.antispam.greylist import is_global, is_recommended, is_suspicious, subnet
from mailserver.antispam.ratelimit import Limit
from mailserver.antispam.verdict import Action, Verdict
from mailserver.antispam.visit import Visit
from mailserver.config import Antispam

log = logging.getLogger(__name__)

LOOK_TIME = 10.0  # seconds to find out about a client
MAX_MET = 20  # recipients of a connection that are noted by greylisting, the others only put off
WELCOME = Verdict(Action.ACCEPT, "nothing speaks against it")


class Door:
    """Asks what can be known of a client and an envelope."""

    def __init__(self, settings: Antispam, checks: Checks, guard: Guard) -> None:
        limits = settings.limits
        self._checks = checks
        self._guard = guard
        self._by_ip = Limit("connections by address", limits.connections_per_ip, 60)
        self._by_network = Limit("connections by network", limits.connections_per_network, 60)
        self._errors = Limit("errors by address", limits.errors_per_ip, 3600)
        self._by_sender = Limit("messages by sender", limits.messages_per_sender, 3600)
        self._by_recipient = Limit("messages by recipient", limits.messages_per_recipient, 3600)

    async def connected(self, visit: Visit) -> Verdict:
        """Say whether a client may speak at all."""
        if visit.trusted:
            return WELCOME
        rates, people = self._checks.rates, self._checks.people
        # what is not of the Internet may be a balancer, behind which is everybody
        if rates is not None and is_global(visit.ip):
            if rates.is_over(self._errors, visit.ip):
                return _later(f"too many errors of {visit.ip}")
            at_once = rates.count(self._by_ip, visit.ip)
            if not rates.count(self._by_network, subnet(visit.ip)) or not at_once:
                return _later(f"too many connections from {visit.ip}")
        if people is not None:
            ruling = (await people.shared()).client(visit.ip)
            visit.trusted = ruling is not None and ruling.allowed
        return WELCOME

    def ended(self, visit: Visit, errors: int) -> None:
        """Take note of how a client behaved."""
        if visit.looking is not None:
            visit.looking.cancel()
        if errors and self._checks.rates is not None and is_global(visit.ip):
            self._checks.rates.count(self._errors, visit.ip, errors)

    def greeted(self, visit: Visit) -> None:
        """Begin to ask about a client that has said its name: who only connects asks nobody."""
        if visit.looking is None and not visit.trusted:
            visit.looking = asyncio.create_task(self._look(visit), name="look at client")

    async def sender(self, visit: Visit, sender: Address | None) -> Verdict:
        """Say whether a client may begin a message of a sender, None: the null one."""
        if visit.trusted:
            return WELCOME
        if self._checks.people is not None:
            ruling = (await self._checks.people.shared()).client(visit.ip)
            if ruling is not None:  # it is no permission, that would have been seen before
                return Verdict(Action.REJECT, ruling.reason)
        if (
            self._checks.rates is not None
            and sender is not None
            and not self._checks.rates.fits(self._by_sender, str(sender), 1)
        ):
            return _later(f"too many messages from {sender}")
        return WELCOME

    async def recipient(
        self, visit: Visit, sender: Address | None, recipient: Address | None
    ) -> Verdict:
        """Say whether a message may be sent to a recipient, None: the postmaster."""
        if self._checks.people is not None and recipient is not None:
            ruling = (await self._checks.people.shared()).recipient(recipient)
            if ruling is not None and not ruling.allowed:
                return Verdict(Action.REJECT, ruling.reason, status="5.2.1")
        if visit.trusted:
            return WELCOME
        if (
            self._checks.rates is not None
            and recipient is not None
            and not self._checks.rates.fits(self._by_recipient, str(recipient), 1)
        ):
            return _later(f"too many messages to {recipient}")
        self.greeted(visit)  # a client may begin without a greeting after a reset
        if visit.looking is not None:
            await visit.looking
        refusal = self._refusal(visit)
        # Whoever is listed by mistake must be able to say so (RFC 5321 §4.5.1).
        if refusal is not None and not _is_postmaster(recipient):
            return refusal
        return await self._greylist(visit, sender, recipient)

    def took(self, sender: Address | None, recipients: Sequence[Address]) -> None:
        """Count a message that is accepted.

        What is only said in an envelope does not count: a stranger could use up the limit of
        somebody else without a single message.
        """
        if self._checks.rates is None:
            return
        if sender is not None:
            self._checks.rates.count(self._by_sender, str(sender))
        for recipient in recipients:
            self._checks.rates.count(self._by_recipient, str(recipient))

    def sent_good_mail(
        self, visit: Visit, sender: Address | None, done: Authentication | None
    ) -> None:
        """Know a client that sent what somebody wanted: it need not come twice."""
        if self._checks.greylist is not None:
            spf = done.mail_from if done is not None else None
            self._checks.greylist.good(_whose(visit, spf), sender)

    async def _look(self, visit: Visit) -> None:
        """Find out about a client what does not depend on a message."""
        deadline = self._guard.clock() + LOOK_TIME
        checks = dict(self._checks.dns_lists.of_client(visit.ip)) if self._checks.dns_lists else {}
        if self._checks.authentication is not None:
            checks["iprev"] = self._iprev(visit)
        visit.findings = await self._guard.ask(checks, deadline)

    async def _iprev(self, visit: Visit) -> Finding:
        assert self._checks.authentication is not None
        found = await check_iprev(self._checks.authentication[0], visit.ip, LOOK_TIME)
        visit.name = found.name
        return Finding("iprev", found.result, found.name)

    def _refusal(self, visit: Visit) -> Verdict | None:
        """Return why a client is refused for what is known of it."""
        if self._checks.dns_lists is None or is_recommended(visit.findings):
            return None
        for finding in visit.findings:
            if reason := self._checks.dns_lists.refusal(finding):
                return Verdict(Action.REJECT, reason, tuple(visit.findings))
        return None

    async def _greylist(
        self, visit: Visit, sender: Address | None, recipient: Address | None
    ) -> Verdict:
        """Ask a client that nobody knows to come again."""
        greylist = self._checks.greylist
        if (
            greylist is None
            or not greylist.wanted(suspicious=True)
            or is_recommended(visit.findings)
            or greylist.is_known(subnet(visit.ip), sender)
        ):
            return WELCOME
        spf = await self._spf(visit, sender)
        suspicious = is_suspicious(visit, spf.result if spf is not None else "none")
        if not greylist.wanted(suspicious=suspicious):
            return WELCOME
        if visit.met >= MAX_MET:
            return _come_again(visit, 60)
        wait = await greylist.meet(_whose(visit, spf), sender, recipient)
        if not wait:
            return WELCOME
        visit.met += 1
        return _come_again(visit, wait)

    async def _spf(self, visit: Visit, sender: Address | None) -> Spf | None:
        """Return what SPF says; it is cheap, because what is asked in DNS is asked only once."""
        if self._checks.authentication is None:
            return None
        resolver, rules = self._checks.authentication
        return await check_spf(
            resolver,
            ip=visit.ip,
            sender=f"{quoted(sender.local_part)}@{sender.domain}" if sender else "",
            helo=visit.helo,
            receiver=rules.authserv_id,
            now=visit.came_at,
        )


def _whose(visit: Visit, spf: Spf | None) -> str:
    """Return as what a client is known: its SPF domain, so that all its machines are one."""
    if spf is not None and spf.result == "pass" and spf.domain:
        return f"spf:{spf.domain.lower()}"
    return subnet(visit.ip)


def _is_postmaster(recipient: Address | None) -> bool:
    return recipient is None or recipient.local_part == "postmaster"


def _later(reason: str) -> Verdict:
    return Verdict(Action.DEFER, f"{reason}, try again later", status="4.7.0")


def _come_again(visit: Visit, seconds: float) -> Verdict:
    return Verdict(
        Action.DEFER,
        f"not seen before, try again in {max(round(seconds), 1)} seconds",
        tuple(visit.findings),
        "4.7.1",
    )
