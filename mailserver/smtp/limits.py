"""What all connections of a process share: room for them and their messages, and who is known."""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

from mailserver import config
from mailserver.auth.throttle import network_of
from mailserver.mail.memory import Memory
from mailserver.smtp.reception import Room

ARRIVING = 32 * 1024 * 1024  # octets of large messages under way that stay in memory
MEMORY = 128 * 1024 * 1024  # octets of large messages that are looked at at the same time
DISK = 2 * 1024 * 1024 * 1024  # octets of large messages that are received at the same time
MAX_KNOWN = 20_000  # networks that are no strangers


class Connections:
    """Counts connections, all of them and by network (an IPv4 address or an IPv6 /64)."""

    def __init__(self, most: int, most_per_network: int) -> None:
        self._most = most
        self._most_per_network = most_per_network
        self._by_network: Counter[str] = Counter()
        self._count = 0

    def enter(self, peer: str) -> bool:
        """Count a new connection; False when there is no room, and it is not counted."""
        network = network_of(peer)
        if self._count >= self._most or self._by_network[network] >= self._most_per_network:
            return False
        self._count += 1
        self._by_network[network] += 1
        return True

    def leave(self, peer: str) -> None:
        """Count the end of a connection that was let in."""
        network = network_of(peer)
        self._count -= 1
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]


class Strangers:
    """Knows which clients have sent mail that was accepted lately; all others are strangers."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()  # networks, the latest last

    def includes(self, peer: str) -> bool:
        """Tell whether a client is a stranger; nobody on a private network is."""
        try:
            if ip_address(peer).is_private:
                return False
        except ValueError:
            return False  # a Unix socket
        return network_of(peer) not in self._known

    def met(self, peer: str) -> None:
        """Note that mail of a client was accepted."""
        network = network_of(peer)
        self._known[network] = None
        self._known.move_to_end(network)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """All of them, for the listeners of one process."""

    connections: Connections
    room: Room
    strangers: Strangers = field(default_factory=Strangers)

    @classmethod
    def of(cls, smtp: config.Smtp, share: Callable[[int], int] = int) -> "Limits":
        """Make them as configured; `share` says what this process has of something."""
        connections = Connections(share(smtp.max_connections), share(smtp.max_connections_per_ip))
        # one message always fits
        memory, disk = (Memory(max(share(each), smtp.max_message_size)) for each in (MEMORY, DISK))
        return cls(connections, Room(Memory(share(ARRIVING)), disk, memory))
