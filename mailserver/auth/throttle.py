"""The brake on password guessing: failures slow down whoever makes them, and lock nobody out.

Three counts are kept in memory, each of them bounded: failures of a peer (an IPv4 address or an
IPv6 /64), of a login, and of a login from one peer. A peer from which that login has succeeded
lately is judged by the third count alone, so strangers elsewhere cannot slow its owner down.

What happens here is told to other processes, and what happens there is heard and counts here as
well: to guess at several at the same time is no faster.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from mailserver.errors import TooMany

FREE_FAILURES = 3  # a person mistypes
FIRST_DELAY = 0.5  # seconds, doubled by every further failure
MAX_DELAY = 10.0  # seconds between two attempts of one peer
MAX_LOGIN_DELAY = 3.0  # seconds for a login that strangers guess at: slower, never locked out
MAX_WAIT = 30.0  # seconds an attempt may queue behind others of its peer
FORGET = 3600.0  # seconds after the last failure
RENEW = 3600.0  # seconds after which others are told of a success again
TRUST = 30 * 86400.0  # seconds that a success counts for the peer it came from
MAX_ENTRIES = 50_000  # of each kind; the least recently used go first


@dataclass(frozen=True, slots=True)
class Attempt:
    """How somebody fared who tried to log in."""

    login: str
    network: str  # as `network_of` says
    succeeded: bool


def _nobody(attempt: Attempt) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class _Count:
    failures: int = 0
    last: float = 0.0  # when the latest failure was
    next: float = 0.0  # when the next attempt may start


class _Counts:
    """Failure counts by key, the least recently failed forgotten first."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def get(self, key: str, now: float) -> _Count | None:
        count = self._counts.get(key)
        if count is not None and now - count.last > FORGET:
            del self._counts[key]
            return None
        return count

    def add(self, key: str, now: float) -> None:
        count = self.get(key, now)
        if count is None:
            count = self._counts[key] = _Count()
            if len(self._counts) > MAX_ENTRIES:
                self._counts.popitem(last=False)
        count.failures += 1
        count.last = now
        self._counts.move_to_end(key)

    def drop(self, key: str) -> None:
        self._counts.pop(key, None)


class Throttle:
    """Says how long an attempt must wait; told the outcome of each."""

    def __init__(self) -> None:
        self._peers = _Counts()
        self._logins = _Counts()
        self._pairs = _Counts()
        self._trusted: OrderedDict[str, float] = OrderedDict()  # pair -> time of a success
        self._tell: Callable[[Attempt], None] = _nobody

    def forward(self, tell: Callable[[Attempt], None]) -> None:
        """Also hand what counts to a function, which must not block, for other processes."""
        self._tell = tell

    def hear(self, attempt: Attempt, now: float) -> None:
        """Count what happened in another process."""
        if attempt.succeeded:
            self._trust(attempt.login, attempt.network, now)
        else:
            self._count(attempt.login, attempt.network, now)

    def wait(self, login: str, peer: str, now: float) -> float:
        """Return the seconds to wait before the attempt; raise TooMany when too many queue."""
        network = network_of(peer)
        pair = f"{network} {login}"
        success = self._trusted.get(pair)
        if success is not None and now - success <= TRUST:
            return _reserve(self._pairs.get(pair, now), now)
        login_count = self._logins.get(login, now)
        login_delay = _delay(login_count, MAX_LOGIN_DELAY)
        return max(_reserve(self._peers.get(network, now), now), login_delay)

    def failed(self, login: str, peer: str, now: float) -> None:
        """Count a wrong password or an unknown login."""
        network = network_of(peer)
        self._count(login, network, now)
        self._tell(Attempt(login, network, succeeded=False))

    def succeeded(self, login: str, peer: str, now: float) -> None:
        """Trust this peer with this login; its other failures stay counted."""
        network = network_of(peer)
        known = self._trusted.get(f"{network} {login}")
        self._trust(login, network, now)
        if known is None or now - known > RENEW:
            self._tell(Attempt(login, network, succeeded=True))

    def _count(self, login: str, network: str, now: float) -> None:
        self._peers.add(network, now)
        self._logins.add(login, now)
        self._pairs.add(f"{network} {login}", now)

    def _trust(self, login: str, network: str, now: float) -> None:
        pair = f"{network} {login}"
        self._pairs.drop(pair)
        self._trusted[pair] = now
        self._trusted.move_to_end(pair)
        if len(self._trusted) > MAX_ENTRIES:
            self._trusted.popitem(last=False)


def network_of(peer: str) -> str:
    """Return what counts as one peer: the IPv4 address, or the /64 that an IPv6 user owns."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _delay(count: _Count | None, most: float) -> float:
    """Return the pause that the failures so far ask for."""
    excess = count.failures - FREE_FAILURES if count is not None else 0
    if excess <= 0:
        return 0.0
    return float(min(most, FIRST_DELAY * 2 ** min(excess - 1, 16)))


def _reserve(count: _Count | None, now: float) -> float:
    """Take the peer's next turn: attempts made at the same time wait one behind the other."""
    pause = _delay(count, MAX_DELAY)
    if count is None or pause == 0:
        return 0.0
    start = max(now + pause, count.next)
    if start - now > MAX_WAIT:
        raise TooMany("too many attempts to log in are waiting")
    count.next = start + pause
    return start - now
