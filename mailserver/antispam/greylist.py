"""Greylisting: who comes for the first time is asked to come again, before a message is sent.

A client is known by its network, or by the domain whose SPF record names it, so that a sender with
many machines is one. What is kept is a hash and a time: no message is, so none is shown twice.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from mailserver.address import Address
from mailserver.antispam.evidence import Finding
from mailserver.antispam.visit import Visit
from mailserver.config import Greylisting
from mailserver.errors import Unavailable
from mailserver.metrics import Metrics
from mailserver.networks import plain
from mailserver.storage import greylist
from mailserver.storage.database import Database

CACHE_SIZE = 100_000  # keys of who is known
CACHE_TIME = 3600.0  # seconds that they are believed without a look at the database
MAX_WAITING = 50_000  # keys that wait to be written


class Greylist:
    """Who is known, in memory and in the database."""

    def __init__(
        self,
        settings: Greylisting,
        database: Database,
        metrics: Metrics,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        """Take the time, and a clock in seconds."""
        self._settings = settings
        self._database = database
        self._metrics = metrics
        self._now = now
        self._clock = clock
        self._known: OrderedDict[bytes, float] = OrderedDict()  # until when
        self._waiting: set[bytes] = set()

    def wanted(self, *, suspicious: bool) -> bool:
        """Tell whether a client is asked to come again at all."""
        return self._settings.mode == "on" or (suspicious and self._settings.mode == "suspicious")

    def is_known(self, whose: str, sender: Address | None) -> bool:
        """Tell from memory whether somebody is known, by network or SPF domain."""
        return self._known.get(_key(whose, sender), 0) > self._clock()

    async def meet(self, whose: str, sender: Address | None, recipient: Address | None) -> float:
        """Return how many seconds somebody is asked to stay away; 0: welcome."""
        known = _key(whose, sender)
        if self.is_known(whose, sender):
            return self._passed("known")
        now = self._now()
        expires_at = now + timedelta(seconds=self._settings.retry_time)
        key = _key(whose, sender, str(recipient) if recipient else "postmaster")
        since = await greylist.meet(self._database, [known], key, now, expires_at)
        if since is None:
            self._keep(known)
            return self._passed("known")
        left = self._settings.delay - (now - since).total_seconds()
        if left > 0:
            self._metrics.greylist.labels("new" if since == now else "early").inc()
            return left
        self.good(whose, sender)
        return self._passed("passed")

    def good(self, whose: str, sender: Address | None) -> None:
        """Know somebody from now on; written behind, and again at most every hour."""
        key = _key(whose, sender)
        if self._known.get(key, 0) > self._clock():
            return
        self._keep(key)
        if len(self._waiting) < MAX_WAITING:
            self._waiting.add(key)

    async def flush(self) -> None:
        """Write who is known; Unavailable when that has to wait."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, set()
        now = self._now()
        known_until = now + timedelta(seconds=self._settings.known_time)
        try:
            await greylist.remember(self._database, sorted(waiting), now, known_until)
        except Unavailable:
            self._waiting |= waiting
            raise

    def _passed(self, outcome: str) -> float:
        self._metrics.greylist.labels(outcome).inc()
        return 0.0

    def _keep(self, key: bytes) -> None:
        self._known[key] = self._clock() + CACHE_TIME
        self._known.move_to_end(key)
        while len(self._known) > CACHE_SIZE:
            self._known.popitem(last=False)


def subnet(ip: str) -> str:
    """Return the network of a client: its /24 or /64; an unreadable address is its own."""
    try:
        address = plain(ip_address(ip.partition("%")[0]))
    except ValueError:
        return ip
    return str(ip_network((address, 24 if address.version == 4 else 64), strict=False))


def is_suspicious(visit: Visit, spf: str) -> bool:
    """Tell whether a client looks like one that never comes twice.

    Addresses that are not of the Internet have no names in DNS: those of a proxy, of one's own net.
    """
    nameless = any(
        finding.check == "iprev" and finding.result in ("fail", "permerror")
        for finding in visit.findings
    )
    return (
        spf in ("fail", "softfail")
        or (nameless and is_global(visit.ip))
        or any(finding.score > 0 for finding in visit.findings)
        or visit.helo.startswith("[")  # an address: what sends mail has a name
        or "." not in visit.helo
    )


def is_global(ip: str) -> bool:
    """Tell whether an address is one of the Internet."""
    try:
        return plain(ip_address(ip.partition("%")[0])).is_global
    except ValueError:
        return False


def is_recommended(findings: list[Finding]) -> bool:
    """Tell whether somebody vouches for a client: a list of good ones."""
    return any(finding.score < 0 for finding in findings)


def _key(whose: str, sender: Address | None, recipient: str = "") -> bytes:
    text = "\0".join((whose, sender.domain if sender else "", recipient))
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()[:16]
