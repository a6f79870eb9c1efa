"""Ids that grow with time and that no other process makes."""

from collections.abc import Callable
from datetime import UTC, datetime

from mailserver.storage.database import Executor

_EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
_NODE_BITS = 10
_SEQUENCE_BITS = 12


class Ids:
    """Makes ids: 41 bits of milliseconds since 2025, 10 bits of node, 12 bits of sequence."""

    def __init__(self, node: int, now: Callable[[], datetime]) -> None:
        self._node = node & (1 << _NODE_BITS) - 1
        self._now = now
        self._last = 0  # milliseconds and sequence of the last id; never goes back

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


async def take_node(database: Executor) -> int:
    """Take a node number that no other running process has."""
    node: int = await database.fetchval("SELECT nextval('node')")
    return node
