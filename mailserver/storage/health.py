"""Whether PostgreSQL would take a change now, and what time it has."""

from datetime import datetime

from mailserver.storage.database import Executor


async def writable(database: Executor) -> bool:
    """Return whether this is a primary that takes writes; Unavailable when nobody answers."""
    answer = await database.fetchval(
        "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'"
    )
    return answer is True


async def time(database: Executor) -> datetime:
    """Return the time of the database's machine; Unavailable when nobody answers."""
    told: datetime = await database.fetchval("SELECT clock_timestamp()")
    return told
