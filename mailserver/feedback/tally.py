"""What is counted for reports to others: kept in memory for a minute, then added to the store.

A process that is killed loses the counts of its last minute: a report is a statistic, and no
message waits for it.
"""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date, datetime

import orjson

from mailserver.errors import Unavailable
from mailserver.feedback.model import Kind
from mailserver.storage import feedback
from mailserver.storage.database import Database
from mailserver.storage.feedback import CountRow

log = logging.getLogger(__name__)

PAUSE = 60.0  # seconds between two writes
MOST = 20_000  # different rows that wait; beyond that new ones are not counted
BATCH = 1000  # rows of one statement
DIGEST = 16  # octets

Detail = Mapping[str, object]
Key = tuple[Kind, date, str, bytes]


class Tally:
    """Counts of one process; adding costs a look-up and no query."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self._counts: Counter[Key] = Counter()

    def add(self, kind: Kind, domain: str, detail: Detail) -> None:
        """Count something that happened just now and concerns a domain."""
        text = orjson.dumps(detail, option=orjson.OPT_SORT_KEYS)
        key = (kind, self._now().date(), domain, text)
        if key in self._counts or len(self._counts) < MOST:
            self._counts[key] += 1

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(PAUSE)
            try:
                await self.flush()
            except Unavailable as error:
                log.warning("counts for reports wait", extra={"error": str(error)})

    async def flush(self) -> None:
        """Write what waits; Unavailable when it has to wait on."""
        while self._counts:
            keys = list(self._counts)[:BATCH]
            taken = {key: self._counts.pop(key) for key in keys}
            try:
                await feedback.add_counts(
                    self._database, [_row(key, times) for key, times in taken.items()]
                )
            except BaseException:
                self._counts.update(taken)
                raise


def _row(key: Key, times: int) -> CountRow:
    kind, day, domain, text = key
    digest = hashlib.sha256(text).digest()[:DIGEST]
    return CountRow(kind, day, domain, digest, text.decode(), times)
