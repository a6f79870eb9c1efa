"""What a process keeps in memory of mailboxes, within bounds: the one used longest ago goes first.

Only what can never be out of date is kept so: messages do not change.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
SHELF_SIZE = 1024  # octets that a shelf costs besides its rows


class Shelf(Generic[V]):
    """What is kept of one thing, by email."""

    __slots__ = ("forgotten", "rows", "size")

    def __init__(self) -> None:
        self.rows: dict[int, V] = {}
        self.size = SHELF_SIZE
        self.forgotten = False  # it made room for others; what is read now is kept nowhere


class Shelves(Generic[V]):
    """Shelves in the order in which they were used."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._shelves: OrderedDict[Hashable, Shelf[V]] = OrderedDict()
        self.size = 0  # octets, about

    def get(self, key: Hashable) -> Shelf[V]:
        """Return a shelf, which is now the one used last."""
        shelf = self._shelves.get(key)
        if shelf is None:
            shelf = self._shelves[key] = Shelf()
            self.size += shelf.size
            self._make_room(shelf, 0)
        self._shelves.move_to_end(key)
        return shelf

    def keep(self, shelf: Shelf[V], rows: dict[int, V], size: int) -> None:
        """Put rows of about so many octets on a shelf, as far as there is room for them.

        What is larger than all the room is kept in part, and the rest is read each time.
        """
        if shelf.forgotten or not shelf.rows.keys().isdisjoint(rows):
            return  # or another session was first
        if not self._make_room(shelf, size):
            return
        shelf.rows.update(rows)
        shelf.size += size
        self.size += size

    def _make_room(self, shelf: Shelf[V], size: int) -> bool:
        """Forget other shelves until so much fits."""
        while self.size + size > self._room:
            key, oldest = next(iter(self._shelves.items()))
            if oldest is shelf:
                return False
            del self._shelves[key]
            oldest.forgotten = True
            self.size -= oldest.size
        return True


class Kept(Generic[K, V]):
    """Values that were used last, each by itself."""

    def __init__(self, room: int) -> None:
        self._left = room
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return a value, which is now the one used last."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def keep(self, key: K, value: V, size: int) -> None:
        """Put in a value of about so many octets; those used longest ago make room."""
        known = self._values.pop(key, None)
        self._left += (known[1] if known else 0) - size
        self._values[key] = (value, size)
        while self._left < 0:
            _, (_, freed) = self._values.popitem(last=False)
            self._left += freed
