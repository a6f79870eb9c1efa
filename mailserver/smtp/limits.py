"""What all connections of a process share: room for connections, and memory for messages."""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass

from mailserver import config
from mailserver.auth.throttle import network_of

MEMORY = 256 * 1024 * 1024  # octets of messages that are received at the same time
FREE_MEMORY = 64 * 1024  # octets of each message that are not counted: small mail never waits


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


class Memory:
    """Octets of messages being received: who needs more than there is waits, in order."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """Return the octets that nobody holds."""
        return self._free

    async def take(self, size: int, timeout: float) -> bool:
        """Take `size` octets; False when they did not become free in `timeout` seconds."""
        if size <= self._free and not self._waiting:
            self._free -= size
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, future)
        self._waiting.append(entry)
        try:
            await asyncio.wait_for(asyncio.shield(future), timeout)
        except TimeoutError:
            return bool(future.done())
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._serve()
        return True

    def give(self, size: int) -> None:
        """Return octets."""
        self._free += size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, future = self._waiting.popleft()
            self._free -= size
            future.set_result(None)


@dataclass(frozen=True, slots=True)
class Limits:
    """Both, for the listeners of one process."""

    connections: Connections
    memory: Memory

    @classmethod
    def of(cls, smtp: config.Smtp) -> "Limits":
        """Make them as configured."""
        connections = Connections(smtp.max_connections, smtp.max_connections_per_ip)
        return cls(connections, Memory(MEMORY))
