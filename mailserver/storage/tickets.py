"""Statements on tickets: what opens one WebSocket instead of a password."""

from datetime import datetime

from mailserver.model import AccountId, Principal
from mailserver.storage.database import Executor


async def insert(
    database: Executor, digest: bytes, account: AccountId, until: datetime, now: datetime, most: int
) -> bool:
    """Keep a ticket, and forget those of the account that expired; False above `most`."""
    tag = await database.execute(
        """
        WITH old AS (
            DELETE FROM ticket WHERE account_id = $2 AND expires_at < $4
        )
        INSERT INTO ticket (digest, account_id, expires_at)
        SELECT $1, $2, $3
        WHERE (SELECT count(*) FROM ticket WHERE account_id = $2 AND expires_at >= $4) < $5
        """,
        digest,
        account,
        until,
        now,
        most,
    )
    return tag.endswith(" 1")


async def take(database: Executor, digest: bytes, now: datetime) -> Principal | None:
    """Use a ticket up; None when there is none, it expired, or the account is disabled."""
    row = await database.fetchrow(
        """
        WITH used AS (
            DELETE FROM ticket WHERE digest = $1 RETURNING account_id, expires_at
        )
        SELECT account.id, account.login
        FROM used
        JOIN account ON account.id = used.account_id AND account.enabled
        WHERE used.expires_at >= $2
        """,
        digest,
        now,
    )
    return None if row is None else Principal(AccountId(row["id"]), row["login"])


async def delete(database: Executor, digest: bytes, account: AccountId) -> bool:
    """Remove a ticket of an account; False when there is none."""
    tag = await database.execute(
        "DELETE FROM ticket WHERE digest = $1 AND account_id = $2", digest, account
    )
    return tag.endswith(" 1")


async def delete_all(tx: Executor, account: AccountId) -> None:
    """Remove the tickets of an account: its credentials are others now."""
    await tx.execute("DELETE FROM ticket WHERE account_id = $1", account)


async def expire(database: Executor, now: datetime) -> None:
    """Remove the tickets whose time is over."""
    await database.execute("DELETE FROM ticket WHERE expires_at < $1", now)
