"""What became of each message that was accepted, put off or refused."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.storage.database import Executor


class NewTrace(NamedTuple):
    """A message, and by what it is found."""

    id: int  # grows with time
    at: datetime
    keys: str  # in lines: addresses, the Message-ID, ids of the session and of what was stored
    story: str  # JSON


class Trace(NamedTuple):
    """A message as it was written down."""

    id: int
    at: datetime
    story: str


async def insert(database: Executor, rows: Sequence[NewTrace]) -> None:
    """Write down what became of messages; what is there already stays."""
    await database.execute(
        """
        INSERT INTO trace (id, at, keys, story)
        SELECT id, at, string_to_array(keys, E'\\n'), story::json
        FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[])
             AS d(id, at, keys, story)
        ON CONFLICT DO NOTHING
        """,
        *zip(*rows, strict=True),
    )


async def find(database: Executor, key: str, limit: int) -> list[Trace]:
    """Return the newest messages with a key, the newest first."""
    rows = await database.fetch(
        """
        WITH found AS MATERIALIZED (
            SELECT id, at, story FROM trace WHERE keys @> ARRAY[$1::text]
        )
        SELECT id, at, story FROM found ORDER BY id DESC LIMIT $2
        """,
        key,
        limit,
    )
    return [Trace(*row) for row in rows]


async def expire(database: Executor, below: int, most: int) -> int:
    """Forget at most so many messages with an id below; return how many."""
    count: int = await database.fetchval(
        """
        WITH gone AS (
            DELETE FROM trace
            WHERE id IN (SELECT id FROM trace WHERE id < $1 ORDER BY id LIMIT $2)
            RETURNING 1
        )
        SELECT count(*) FROM gone
        """,
        below,
        most,
    )
    return count
