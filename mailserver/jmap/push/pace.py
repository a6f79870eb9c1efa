"""How often something may happen for one account: what it asks of others is not without end."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

MAX_KEYS = 10_000


class Pace:
    """Lets so many things of each key happen in any stretch of time."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._times: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def delay(self, key: Hashable) -> float:
        """Take the next turn of a key; return how many seconds away it is."""
        now = self._clock()
        times = self._times.setdefault(key, deque(maxlen=self._most))
        self._times.move_to_end(key)
        if len(self._times) > MAX_KEYS:
            self._times.popitem(last=False)
        turn = now if len(times) < self._most else max(now, times[0] + self._seconds)
        times.append(turn)
        return turn - now
