"""Leases: background work that one process of all does at a time."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from mailserver.storage.database import Executor


async def take(
    database: Executor, name: str, owner: str, now: datetime, duration: timedelta
) -> bool:
    """Take or prolong a lease; False while another owner has it."""
    held = await database.fetchval(
        """
        INSERT INTO lease (name, owner, expires_at)
        VALUES ($1, $2, $4)
        ON CONFLICT (name)
        DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
        WHERE lease.owner = excluded.owner OR lease.expires_at < $3
        RETURNING true
        """,
        name,
        owner,
        now,
        now + duration,
    )
    return held is True


async def take_all(
    database: Executor, names: Sequence[str], owner: str, now: datetime, duration: timedelta
) -> set[str]:
    """Take or prolong leases in one go; return those that the owner has now."""
    rows = await database.fetch(
        """
        INSERT INTO lease (name, owner, expires_at)
        SELECT name, $2, $4 FROM unnest($1::text[]) AS given (name) ORDER BY name
        ON CONFLICT (name)
        DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
        WHERE lease.owner = excluded.owner OR lease.expires_at < $3
        RETURNING name
        """,
        names,
        owner,
        now,
        now + duration,
    )
    return {row["name"] for row in rows}


async def give_back(database: Executor, owner: str) -> None:
    """Release everything an owner holds, at a clean stop."""
    await database.execute("DELETE FROM lease WHERE owner = $1", owner)
