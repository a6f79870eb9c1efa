"""Who came for the first time and when, and who is known to come again."""

from collections.abc import Sequence
from datetime import datetime

from mailserver.storage.database import Executor


async def meet(
    database: Executor, known: Sequence[bytes], key: bytes, now: datetime, expires_at: datetime
) -> datetime | None:
    """Return since when a key is known, now for a new one; None for one of who is known.

    A key that has expired is as good as new.
    """
    row = await database.fetchrow(
        """
        WITH friend AS (
            SELECT 1 FROM greylist WHERE key = ANY($1::bytea[]) AND passed AND expires_at > $3
        ), met AS (
            INSERT INTO greylist (key, first_at, passed, expires_at)
            SELECT $2, $3, false, $4 WHERE NOT EXISTS (SELECT FROM friend)
            ON CONFLICT (key) DO UPDATE
            SET first_at = CASE WHEN greylist.expires_at > $3 THEN greylist.first_at ELSE $3 END,
                expires_at = CASE WHEN greylist.expires_at > $3 THEN greylist.expires_at ELSE $4 END
            RETURNING first_at
        )
        SELECT first_at FROM met
        """,
        known,
        key,
        now,
        expires_at,
    )
    return row["first_at"] if row is not None else None


async def remember(
    database: Executor, keys: Sequence[bytes], now: datetime, expires_at: datetime
) -> None:
    """Know keys until a time."""
    await database.execute(
        """
        INSERT INTO greylist (key, first_at, passed, expires_at)
        SELECT key, $2, true, $3 FROM unnest($1::bytea[]) AS d(key) ORDER BY key
        ON CONFLICT (key) DO UPDATE SET passed = true, expires_at = excluded.expires_at
        """,
        keys,
        now,
        expires_at,
    )


async def expire(database: Executor, now: datetime, most: int) -> int:
    """Forget at most so many that have expired; return how many."""
    count: int = await database.fetchval(
        """
        WITH gone AS (
            DELETE FROM greylist
            WHERE key IN (SELECT key FROM greylist WHERE expires_at <= $1 LIMIT $2)
            RETURNING 1
        )
        SELECT count(*) FROM gone
        """,
        now,
        most,
    )
    return count
