"""Ids that grow with time and that no other process makes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from mailserver.errors import Unavailable
from mailserver.storage import leases
from mailserver.storage.database import Executor

_EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
_NODE_BITS = 10
_SEQUENCE_BITS = 12
_NODES = 1 << _NODE_BITS
NODE_LEASE = timedelta(minutes=15)
NODE_BEAT = 60.0  # seconds between two renewals of the lease


class Ids:
    """Makes ids: 41 bits of milliseconds since 2025, 10 bits of node, 12 bits of sequence."""

    def __init__(self, node: int, now: Callable[[], datetime]) -> None:
        self._node = node & _NODES - 1
        self._now = now
        self._last = 0  # milliseconds and sequence of the last id; never goes back

    @property
    def node(self) -> int:
        """Return the number of this process."""
        return self._node

    def renumber(self, node: int) -> None:
        """Make ids under another number from now on."""
        self._node = node & _NODES - 1

    def first_at(self, moment: datetime) -> int:
        """Return an id below which all ids made before `moment` are."""
        milliseconds = int((moment - _EPOCH).total_seconds() * 1000)
        return milliseconds << _NODE_BITS + _SEQUENCE_BITS

    def next(self) -> int:
        """Return a new id; a clock that goes back does not make ids go back."""
        milliseconds = int((self._now() - _EPOCH).total_seconds() * 1000)
        self._last = max(self._last + 1, milliseconds << _SEQUENCE_BITS)
        milliseconds, sequence = divmod(self._last, 1 << _SEQUENCE_BITS)
        return (milliseconds << _NODE_BITS | self._node) << _SEQUENCE_BITS | sequence


async def take_node(database: Executor, owner: str, now: datetime) -> int:
    """Take a node number that no other running process has, and hold it by a lease.

    The numbers come round after 1,024 starts, and a process may run for longer than that takes.
    """
    for _ in range(_NODES):
        node = int(await database.fetchval("SELECT nextval('node')")) & _NODES - 1
        if await keep_node(database, node, owner, now):
            return node
    raise Unavailable("every node number is taken")


async def keep_node(database: Executor, node: int, owner: str, now: datetime) -> bool:
    """Prolong the lease of a node number; False when it has become another's."""
    return await leases.take(database, f"node {node}", owner, now, NODE_LEASE)
