"""Who a message is from, and what came from there before.

A domain counts only if the message surely is from it: by DMARC, or by a signature. The network of
the client counts always. What this process saw is written down together, every few seconds.
"""

import ipaddress
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from mailserver.antispam.content.views import Views
from mailserver.antispam.evidence import Finding, Inquiry, Symbol
from mailserver.model import AccountId
from mailserver.storage import correspondents, sender_history
from mailserver.storage.database import Executor
from mailserver.storage.sender_history import Record

log = logging.getLogger(__name__)

FORGET_AFTER = timedelta(days=180)
ENOUGH = 5.0  # messages from which on a record is believed
WAITING_LIMIT = 10_000  # senders of whom something is to be written down
# What a sender of nothing but spam gets, and one of nothing but other mail.
_SCORES = {"dmarc": (2.5, -1.5), "net": (1.5, -0.5)}
KNOWN_SCORE = -4.0  # of whoever the account writes to


def passed_dmarc(findings: Sequence[Finding]) -> bool:
    """Tell whether the author's domain stands behind the message."""
    return any(each.check == "dmarc" and each.result == "pass" for each in findings)


def names(views: Views, findings: Sequence[Finding]) -> list[str]:
    """Return the names under which a message's origin has a record."""
    found = []
    inquiry = views.inquiry
    if passed_dmarc(findings):
        author = views.author
        if author is not None and len(author.domain) < 256:
            found.append(f"dmarc:{author.domain}")
    network = _network(inquiry)
    if network:
        found.append(f"net:{network}")
    return found


def _network(inquiry: Inquiry) -> str:
    try:
        address = ipaddress.ip_address(inquiry.client.ip)
    except ValueError:
        return ""
    if not address.is_global:
        return ""
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 64), strict=False))


class Reputation:
    """Looks records up, and writes down what comes."""

    def __init__(self, database: Executor, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self._waiting: dict[str, Record] = {}

    async def symbols(self, found: Sequence[str]) -> list[Symbol]:
        """Return what the records of senders say."""
        if not found:
            return []
        records = await sender_history.look(self._database, found, self._now())
        symbols = []
        for name, (ham, spam) in records.items():
            total = ham + spam
            if total < ENOUGH:
                continue
            kind, _, which = name.partition(":")
            worst, best = _SCORES[kind]
            share = (spam + 1) / (total + 2)
            score = worst * (share - 0.5) * 2 if share > 0.5 else best * (0.5 - share) * 2
            text = f"{share:.0%} of what came from {which} was spam"
            symbols.append(Symbol(f"HISTORY_{kind.upper()}", round(score, 2), text))
        return symbols

    def saw(self, found: Sequence[str], *, spam: bool) -> None:
        """Remember to write down what came of a message."""
        for name in found:
            if name not in self._waiting and len(self._waiting) >= WAITING_LIMIT:
                continue
            ham, spams = self._waiting.get(name, Record(0, 0))
            self._waiting[name] = Record(ham + (not spam), spams + spam)

    async def write(self) -> None:
        """Write down what was seen; what cannot be written now waits."""
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            await sender_history.add(self._database, waiting, self._now())
        except BaseException:
            for name, (ham, spam) in waiting.items():
                more = self._waiting.get(name, Record(0, 0))
                self._waiting[name] = Record(more.ham + ham, more.spam + spam)
            raise

    async def expire(self) -> None:
        """Forget senders of whom nothing came for long."""
        await sender_history.expire(self._database, self._now() - FORGET_AFTER)

    async def knows(
        self, account: AccountId, views: Views, findings: Sequence[Finding]
    ) -> Symbol | None:
        """Return what it says that an account knows the author; nothing without DMARC."""
        if not passed_dmarc(findings):
            return None
        author = views.author
        if author is None or not await correspondents.knows(self._database, account, str(author)):
            return None
        return Symbol("KNOWN_SENDER", KNOWN_SCORE, f"the user writes to {author}")
