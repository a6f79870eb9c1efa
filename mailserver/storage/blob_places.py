"""Statements that find where blobs are used, and who uploaded them to another's account."""

from collections.abc import Sequence
from typing import NamedTuple

from mailserver.model import DELETED, AccountId, BlobId, EmailId, MailboxId, ThreadId
from mailserver.storage.database import Executor


class Use(NamedTuple):
    """An email that a blob is the content of, and the mailboxes that show it."""

    blob_id: BlobId
    email_id: EmailId
    thread_id: ThreadId
    mailbox_ids: list[MailboxId]


async def uses(database: Executor, account: AccountId, ids: Sequence[BlobId]) -> list[Use]:
    """Return the emails of blobs; one that only has \\Deleted is in no mailbox.

    OFFSET keeps the look-up of each blob by the hash index apart from the join.
    """
    rows = await database.fetch(
        """
        SELECT email.blob_id, email.id, email.thread_id,
               array_agg(msg.mailbox_id ORDER BY msg.mailbox_id) AS mailbox_ids
        FROM unnest($2::bytea[]) AS given (id)
        CROSS JOIN LATERAL (
            SELECT blob_id, id, thread_id
            FROM email
            WHERE account_id = $1 AND blob_id = given.id
            OFFSET 0
        ) AS email
        JOIN msg ON msg.account_id = $1 AND msg.email_id = email.id AND msg.flags & $3 = 0
        GROUP BY email.blob_id, email.id, email.thread_id
        ORDER BY email.id
        """,
        account,
        ids,
        DELETED,
    )
    return [Use(*row.values()) for row in rows]


async def uploaded_by(
    database: Executor, account: AccountId, ids: Sequence[BlobId], uploader: AccountId
) -> set[BlobId]:
    """Return those of the blobs that somebody uploaded to the account of another."""
    rows = await database.fetch(
        """
        SELECT blob_id
        FROM upload_by
        WHERE account_id = $1 AND blob_id = ANY($2::bytea[]) AND uploader_id = $3
        """,
        account,
        ids,
        uploader,
    )
    return {BlobId(row["blob_id"]) for row in rows}


async def note_uploader(
    tx: Executor, account: AccountId, blob: BlobId, uploader: AccountId
) -> None:
    """Note who uploaded a blob to the account of another."""
    await tx.execute(
        """
        INSERT INTO upload_by (account_id, blob_id, uploader_id)
        VALUES ($1, $2, $3)
        ON CONFLICT DO NOTHING
        """,
        account,
        blob,
        uploader,
    )
