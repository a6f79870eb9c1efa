"""Who is connected to a process by IMAP: counted by network and account, and woken when need be."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailserver.auth.throttle import network_of
from mailserver.config import Imap
from mailserver.errors import TooMany
from mailserver.events import Hub, Subscription, shares_of
from mailserver.metrics import Metrics
from mailserver.model import AccountId

if TYPE_CHECKING:
    from mailserver.imap.session import Session


class _Sessions:
    """Those of one account."""

    __slots__ = ("members", "subscription")

    def __init__(self, subscription: Subscription) -> None:
        self.members: set[Session] = set()
        self.subscription = subscription
        subscription.wake = self.look

    def look(self) -> None:
        """Let each look at once whether it may still be there."""
        for session in self.members:
            session.recheck_at = 0.0
            session.channel.wake()


class Clients:
    """What the IMAP listeners of a process know of all their connections."""

    def __init__(
        self, config: Imap, events: Hub, metrics: Metrics, share: Callable[[int], int] = int
    ) -> None:
        """Take the limits; `share` says what this process has of something."""
        self._per_network = share(config.max_connections_per_ip)
        self._per_account = share(config.max_connections_per_account)
        self._events = events
        self._refused = metrics.imap_refused
        self._by_network: Counter[str] = Counter()
        self._by_account: dict[AccountId, _Sessions] = {}

    def enter(self, peer: str) -> bool:
        """Count a new connection; False when its network has too many, and it is not counted."""
        network = network_of(peer)
        if self._by_network[network] >= self._per_network:
            self._refused.labels("address").inc()
            return False
        self._by_network[network] += 1
        return True

    def leave(self, peer: str) -> None:
        """Count the end of a connection that was let in."""
        network = network_of(peer)
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]

    def log_in(self, session: "Session", account: AccountId) -> None:
        """Note whose session it is now; TooMany when the account has too many."""
        sessions = self._by_account.get(account)
        if sessions is None:
            # whether somebody may be here is told like what is shared with them
            sessions = _Sessions(self._events.subscribe(shares_of(account)))
            self._by_account[account] = sessions
        elif len(sessions.members) >= self._per_account:
            self._refused.labels("account").inc()
            raise TooMany("connections of one account")
        sessions.members.add(session)

    def log_out(self, session: "Session", account: AccountId) -> None:
        """Forget a session."""
        sessions = self._by_account.get(account)
        if sessions is None:
            return
        sessions.members.discard(session)
        if not sessions.members:
            self._events.unsubscribe(sessions.subscription)
            del self._by_account[account]
