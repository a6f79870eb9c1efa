"""What all processes have counted together."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.storage.database import Executor


class Amount(NamedTuple):
    """What one process adds, for a key in a stretch of time."""

    key: bytes
    period: int
    amount: int
    expires_at: datetime


class Total(NamedTuple):
    """What all have together, in this stretch of time and in the one before."""

    key: bytes
    period: int
    amount: int
    before: int


async def add(database: Executor, amounts: Sequence[Amount]) -> list[Total]:
    """Add amounts and return the totals; an amount of 0 only asks."""
    rows = await database.fetch(
        """
        WITH given AS (
            SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::timestamptz[])
                 AS d(key, period, amount, expires_at)
        ), added AS (
            INSERT INTO rate (key, period, amount, expires_at)
            SELECT key, period, amount, expires_at FROM given WHERE amount > 0 ORDER BY key, period
            ON CONFLICT (key, period) DO UPDATE SET amount = rate.amount + excluded.amount
            RETURNING key, period, amount
        )
        SELECT given.key, given.period, coalesce(added.amount, this.amount, 0),
               coalesce(last.amount, 0)
        FROM given
        LEFT JOIN added ON added.key = given.key AND added.period = given.period
        LEFT JOIN rate this ON this.key = given.key AND this.period = given.period
        LEFT JOIN rate last ON last.key = given.key AND last.period = given.period - 1
        """,
        *zip(*amounts, strict=True),
    )
    return [Total(*row) for row in rows]


async def expire(database: Executor, now: datetime, most: int) -> int:
    """Forget at most so many counts that are over; return how many."""
    count: int = await database.fetchval(
        """
        WITH gone AS (
            DELETE FROM rate
            WHERE (key, period) IN (
                SELECT key, period FROM rate WHERE expires_at <= $1 LIMIT $2
            )
            RETURNING 1
        )
        SELECT count(*) FROM gone
        """,
        now,
        most,
    )
    return count
