"""Statements on account rows that a group commit makes."""

from collections.abc import Sequence
from typing import NamedTuple

from mailserver.model import AccountId, Modseq
from mailserver.storage.database import Executor


class Room(NamedTuple):
    """What a locked account row says: its modseq, and how much room there is."""

    modseq: Modseq
    quota_limit: int | None
    quota_used: int


async def lock_accounts(tx: Executor, accounts: Sequence[AccountId]) -> dict[AccountId, Room]:
    """Lock accounts by ascending id, as every writer does, so that none waits in a circle."""
    rows = await tx.fetch(
        """
        SELECT id, modseq, quota_limit, quota_used
        FROM account
        WHERE id = ANY($1::bigint[])
        ORDER BY id
        FOR NO KEY UPDATE
        """,
        accounts,
    )
    return {
        AccountId(row["id"]): Room(row["modseq"], row["quota_limit"], row["quota_used"])
        for row in rows
    }


async def grow_accounts(tx: Executor, growths: Sequence[tuple[AccountId, Modseq, int]]) -> None:
    """Set the new modseq of locked accounts and add to the bytes they use."""
    await tx.execute(
        """
        UPDATE account
        SET modseq = d.modseq, quota_used = account.quota_used + d.size
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS d(id, modseq, size)
        WHERE account.id = d.id
        """,
        *zip(*growths, strict=True),
    )
