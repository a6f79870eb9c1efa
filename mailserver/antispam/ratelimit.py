"""Limits on how often: counted in memory, and put together with all other processes every second.

A count is over this stretch of time and, by the part of it that is not over yet, the one before,
so that a limit cannot be doubled around the change. Between two looks at the database a process
knows of others what it read last: a limit may be passed by what they count in that second.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from mailserver.errors import Unavailable
from mailserver.storage import rates
from mailserver.storage.database import Database
from mailserver.storage.rates import Amount

MAX_KNOWN = 100_000  # counts in memory; what is not used longest goes, the database still has it


@dataclass(frozen=True, slots=True)
class Limit:
    """How many of something in how many seconds; 0: any number."""

    name: str
    most: int
    seconds: float


@dataclass(slots=True)
class _Count:
    period: int
    seconds: float
    total: int = 0  # of all processes, as of the last look
    before: int = 0  # in the stretch of time before
    waiting: int = 0  # counted here since
    is_used: bool = True  # since the last look

    def estimate(self, moment: float) -> float:
        """Return how many there were in the last `seconds`."""
        left = 1 - (moment / self.seconds - self.period)
        return self.total + self.waiting + self.before * min(max(left, 0), 1)


class Rates:
    """Counts of one process, which it shares with all others."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self._known: OrderedDict[bytes, _Count] = OrderedDict()

    def count(self, limit: Limit, who: str, amount: int = 1) -> bool:
        """Count something that happens; False when there are too many of it now."""
        if not limit.most:
            return True
        moment = self._now().timestamp()
        count = self._find(limit, who, moment)
        count.waiting += amount
        return count.estimate(moment) <= limit.most

    def fits(self, limit: Limit, who: str, amount: int) -> bool:
        """Tell whether so many more may happen now, without counting them."""
        if not limit.most:
            return True
        moment = self._now().timestamp()
        return self._find(limit, who, moment).estimate(moment) + amount <= limit.most

    def is_over(self, limit: Limit, who: str) -> bool:
        """Tell whether there are too many of something now, without counting."""
        if not limit.most:
            return False
        moment = self._now().timestamp()
        return self._find(limit, who, moment).estimate(moment) > limit.most

    async def flush(self) -> None:
        """Tell the others what was counted here, and learn what they counted; Unavailable."""
        amounts = []
        sent = {}
        for key, count in self._known.items():
            if count.is_used:
                expires_at = datetime.fromtimestamp((count.period + 2) * count.seconds, UTC)
                amounts.append(Amount(key, count.period, count.waiting, expires_at))
                sent[key] = (count, count.waiting)
                count.is_used = False
        if not amounts:
            return
        try:
            totals = await rates.add(self._database, amounts)
        except Unavailable:
            for count, _ in sent.values():
                count.is_used = True
            raise
        for total in totals:
            count, waiting = sent[total.key]
            if count.period == total.period:
                count.total, count.before = total.amount, total.before
                count.waiting -= waiting

    def _find(self, limit: Limit, who: str, moment: float) -> _Count:
        """Return the count of this stretch of time."""
        key, period = _key(limit, who), math.floor(moment / limit.seconds)
        count = self._known.get(key)
        if count is None:
            count = self._known[key] = _Count(period, limit.seconds)
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        elif count.period != period:
            before = count.total + count.waiting if count.period == period - 1 else 0
            count = self._known[key] = _Count(period, limit.seconds, before=before)
        self._known.move_to_end(key)
        count.is_used = True
        return count


def _key(limit: Limit, who: str) -> bytes:
    text = f"{limit.name}\0{who}"
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()[:16]
