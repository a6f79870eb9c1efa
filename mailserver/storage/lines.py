"""How processes reach each other through PostgreSQL: by NOTIFY, or by rows where it cannot reach.

A transaction pooler lends a backend for each transaction, so nobody can LISTEN through one. There
what is told is put into the table `hint`, and everybody looks into it every second.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mailserver.storage.connect import Raw
from mailserver.storage.database import Database, Executor, translated

if TYPE_CHECKING:
    from mailserver.storage.database import Statement

log = logging.getLogger(__name__)

POLL_TIME = 1.0  # seconds between two looks
LATE = 5.0  # seconds within which a row may be seen after one with a larger id
KEEP = 60  # seconds that rows are kept

Hear = Callable[[str, str], None]  # told channel and text


class Line(Protocol):
    """A way to reach the other processes."""

    pause: float  # seconds between two calls of `look`
    immediate: bool  # whether what is sent is heard at once

    async def open(self, lost: Callable[[], None]) -> None:
        """Begin to hear; `lost` is called when that ends by itself."""
        ...

    async def send(self, channels: Sequence[str], texts: Sequence[str]) -> None:
        """Tell the others."""
        ...

    async def look(self) -> None:
        """Hear what does not come by itself."""
        ...

    async def tidy(self) -> None:
        """Put away what everybody has heard."""
        ...

    def close(self) -> None:
        """Stop hearing."""
        ...


class Notifications:
    """LISTEN and NOTIFY on one connection."""

    pause = math.inf
    immediate = True

    def __init__(self, connection: Raw, channels: Iterable[str], hear: Hear) -> None:
        self._connection = connection
        self._channels = channels
        self._hear = hear
        self._notify: Statement | None = None  # prepared once: to plan it costs more than to run it

    async def open(self, lost: Callable[[], None]) -> None:
        """Listen to the channels."""

        def heard(connection: object, pid: int, channel: str, payload: object) -> None:
            self._hear(channel, str(payload))

        with translated():
            # a lost connection is noticed now, not at the next change
            self._connection.add_termination_listener(lambda _: lost())
            await self._connection.execute("SET synchronous_commit = off")
            for channel in self._channels:
                await self._connection.add_listener(channel, heard)

    async def send(self, channels: Sequence[str], texts: Sequence[str]) -> None:
        """Notify; a closed connection raises even when there is nothing to say."""
        with translated():
            if self._notify is None:  # not before: until it is run nothing else is heard
                self._notify = await self._connection.prepare(
                    """
                    SELECT pg_notify(name, text)
                    FROM unnest($1::text[], $2::text[]) AS n(name, text)
                    """,
                    name="tell",  # without a name it would be prepared again at every use
                )
            await self._notify.fetch(channels, texts)

    async def look(self) -> None:
        """Do nothing: notifications come by themselves."""

    async def tidy(self) -> None:
        """Do nothing: PostgreSQL does."""

    def close(self) -> None:
        """Close the connection."""
        self._connection.terminate()


class Rows:
    """The table `hint`, into which everybody looks."""

    pause = POLL_TIME
    immediate = False

    def __init__(self, database: Database, hear: Hear, origin: str) -> None:
        """Hear all rows but those of `origin`, in which this process tells the others."""
        self._database = database
        self._hear = hear
        self._origin = origin
        # An id is taken before its row is committed, so rows are not seen in the order of ids.
        self._low = 0  # all rows up to here have been seen
        self._seen: set[int] = set()  # those above
        self._marks: deque[tuple[float, int]] = deque()  # loop time of a look, its largest id

    async def open(self, lost: Callable[[], None]) -> None:
        """Begin with what is told from now on."""
        self._low = await newest(self._database)
        self._seen.clear()
        self._marks.clear()

    async def send(self, channels: Sequence[str], texts: Sequence[str]) -> None:
        """Put it into the table."""
        if texts:
            await put(self._database, self._origin, channels, texts)

    async def look(self) -> None:
        """Hear the rows that were put there since the last look."""
        rows = await after(self._database, self._low, self._origin)
        now = asyncio.get_running_loop().time()
        if rows:
            self._marks.append((now, rows[-1][0]))
        for number, channel, text in rows:
            if number not in self._seen:
                self._seen.add(number)
                self._hear(channel, text)
        while self._marks and self._marks[0][0] < now - LATE:
            self._low = max(self._low, self._marks.popleft()[1])
            self._seen = {number for number in self._seen if number > self._low}

    async def tidy(self) -> None:
        """Delete old rows."""
        await forget(self._database, KEEP)

    def close(self) -> None:
        """Do nothing: connections belong to the pool."""


async def put(
    database: Executor, origin: str, channels: Sequence[str], texts: Sequence[str]
) -> None:
    """Tell other processes; what the disk has not yet may be lost."""
    await database.execute(
        """
        INSERT INTO hint (origin, channel, text)
        SELECT $1, name, text
        FROM unnest($2::text[], $3::text[]) AS n(name, text),
            (SELECT set_config('synchronous_commit', 'off', true)) AS unhurried
        """,
        origin,
        channels,
        texts,
    )


async def after(database: Executor, low: int, origin: str) -> list[tuple[int, str, str]]:
    """Return (id, channel, text) of what others than `origin` told after an id, oldest first."""
    rows: list[Any] = await database.fetch(
        """
        SELECT id, channel, text FROM hint
        WHERE id > $1 AND origin <> $2
        ORDER BY id
        """,
        low,
        origin,
    )
    return [(row["id"], row["channel"], row["text"]) for row in rows]


async def newest(database: Executor) -> int:
    """Return the largest id, 0 when there is none."""
    number: int = await database.fetchval("SELECT coalesce(max(id), 0) FROM hint")
    return number


async def forget(database: Executor, seconds: float) -> None:
    """Delete what was told longer ago than that."""
    await database.execute(
        "DELETE FROM hint WHERE told_at < now() - make_interval(secs => $1)", seconds
    )
