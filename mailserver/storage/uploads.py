"""Statements on uploads: blobs that a client sent and that no message needs yet."""

from collections.abc import Sequence
from datetime import datetime

from mailserver.model import AccountId, BlobId
from mailserver.storage.database import Executor


async def touch(tx: Executor, account: AccountId, blob: BlobId, now: datetime) -> bool:
    """Note an upload, or that it came again; return whether it is new."""
    new = await tx.fetchval(
        """
        INSERT INTO upload (account_id, blob_id, created_at)
        VALUES ($1, $2, $3)
        ON CONFLICT (account_id, blob_id) DO UPDATE SET created_at = excluded.created_at
        RETURNING xmax = 0
        """,
        account,
        blob,
        now,
    )
    return new is True


async def release(tx: Executor, account: AccountId, blobs: Sequence[BlobId], now: datetime) -> None:
    """Forget uploads that something else refers to now."""
    await tx.execute(
        """
        WITH gone AS (
            DELETE FROM upload
            WHERE account_id = $1 AND blob_id = ANY($2::bytea[])
            RETURNING blob_id
        )
        UPDATE blob
        SET refs = blob.refs - 1,
            unreferenced_at = CASE WHEN blob.refs = 1 THEN $3::timestamptz END
        FROM gone
        WHERE blob.account_id = $1 AND blob.id = gone.blob_id
        """,
        account,
        blobs,
        now,
    )


async def size(tx: Executor, account: AccountId) -> int:
    """Return the bytes of all uploads of an account."""
    total: int = await tx.fetchval(
        """
        SELECT coalesce(sum(blob.size), 0)::bigint
        FROM upload
        JOIN blob ON blob.account_id = upload.account_id AND blob.id = upload.blob_id
        WHERE upload.account_id = $1
        """,
        account,
    )
    return total


async def accounts_with_old(database: Executor, before: datetime, limit: int) -> list[AccountId]:
    """Return accounts that have uploads from before a time."""
    rows = await database.fetch(
        """
        SELECT DISTINCT account_id
        FROM (
            SELECT account_id FROM upload WHERE created_at < $1 ORDER BY created_at LIMIT $2
        ) AS old
        """,
        before,
        limit,
    )
    return [AccountId(row["account_id"]) for row in rows]


async def expire(tx: Executor, account: AccountId, before: datetime, now: datetime) -> int:
    """Forget the uploads of an account from before a time; return how many there were."""
    count: int = await tx.fetchval(
        """
        WITH gone AS (
            DELETE FROM upload WHERE account_id = $1 AND created_at < $2 RETURNING blob_id
        ), released AS (
            UPDATE blob
            SET refs = blob.refs - 1,
                unreferenced_at = CASE WHEN blob.refs = 1 THEN $3::timestamptz END
            FROM gone
            WHERE blob.account_id = $1 AND blob.id = gone.blob_id
        )
        SELECT count(*) FROM gone
        """,
        account,
        before,
        now,
    )
    return count
