"""Statements on names that stay subscribed without a mailbox (RFC 3501 §6.3.6)."""

from collections.abc import Sequence

from mailserver.model import AccountId
from mailserver.storage.database import Executor

LONGEST = 2500  # octets of a name: one of more than 2704 cannot be in an index
LIMIT = 1000  # names of one account; a client could make, subscribe and remove without end


async def of_account(database: Executor, account: AccountId) -> list[str]:
    """Return the names, in their order."""
    rows = await database.fetch(
        "SELECT path FROM subscribed_name WHERE account_id = $1 ORDER BY path", account
    )
    return [row["path"] for row in rows]


async def keep(tx: Executor, account: AccountId, path: str) -> None:
    """Add the name of a mailbox that is removed, unless it is too long or there are too many."""
    await tx.execute(
        """
        INSERT INTO subscribed_name (account_id, path)
        SELECT $1, $2
        WHERE octet_length($2) <= $4
              AND (SELECT count(*) FROM subscribed_name WHERE account_id = $1) < $3
        ON CONFLICT DO NOTHING
        """,
        account,
        path,
        LIMIT,
        LONGEST,
    )


async def take(database: Executor, account: AccountId, paths: Sequence[str]) -> set[str]:
    """Remove names, and return those that were there."""
    rows = await database.fetch(
        """
        DELETE FROM subscribed_name
        WHERE account_id = $1 AND path = ANY($2::text[])
        RETURNING path
        """,
        account,
        paths,
    )
    return {row["path"] for row in rows}
