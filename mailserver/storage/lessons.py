"""What users call spam or not: noted by the change that moves or flags a message, learned later."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import AccountId, BlobId, MailboxId
from mailserver.storage.database import Executor


class Lesson(NamedTuple):
    """A message that a user judged; the newest row of a message counts."""

    id: int
    account_id: AccountId
    blob_id: BlobId
    spam: bool | None  # None: neither


async def note(
    tx: Executor, account: AccountId, emails: Sequence[int], spam: bool | None, now: datetime
) -> None:
    """Note that emails are spam, are not, or that nobody says so any more."""
    if not emails:
        return
    await tx.execute(
        """
        INSERT INTO spam_lesson (account_id, blob_id, spam, created_at)
        SELECT $1, blob_id, $3::boolean, $4
        FROM email
        WHERE account_id = $1 AND id = ANY($2::bigint[])
        """,
        account,
        emails,
        spam,
        now,
    )


async def note_moves(
    tx: Executor,
    account: AccountId,
    emails: Sequence[int],
    source: MailboxId,
    target: MailboxId,
    now: datetime,
) -> None:
    """Note what a copy or a move says: into Junk, or out of it to where mail is kept."""
    await tx.execute(
        """
        WITH moved AS (
            SELECT source.role AS source, target.role AS target
            FROM mailbox source
            JOIN mailbox target ON target.account_id = $1 AND target.id = $4
            WHERE source.account_id = $1 AND source.id = $3
                  AND (source.role IS NOT DISTINCT FROM 'junk')
                      <> (target.role IS NOT DISTINCT FROM 'junk')
                  AND target.role IS DISTINCT FROM 'trash'
        )
        INSERT INTO spam_lesson (account_id, blob_id, spam, created_at)
        SELECT $1, email.blob_id, moved.target IS NOT DISTINCT FROM 'junk', $5
        FROM moved
        JOIN email ON email.account_id = $1 AND email.id = ANY($2::bigint[])
        """,
        account,
        emails,
        source,
        target,
        now,
    )


async def note_junk(
    tx: Executor, account: AccountId, emails: Sequence[int], mailbox: MailboxId, now: datetime
) -> None:
    """Note that emails are spam if the mailbox is Junk."""
    await tx.execute(
        """
        INSERT INTO spam_lesson (account_id, blob_id, spam, created_at)
        SELECT $1, email.blob_id, true, $4
        FROM mailbox
        JOIN email ON email.account_id = $1 AND email.id = ANY($2::bigint[])
        WHERE mailbox.account_id = $1 AND mailbox.id = $3 AND mailbox.role = 'junk'
        """,
        account,
        emails,
        mailbox,
        now,
    )


async def oldest(database: Executor, after: int, limit: int) -> list[Lesson]:
    """Return lessons in the order in which they were noted, those behind an id."""
    rows = await database.fetch(
        """
        SELECT id, account_id, blob_id, spam
        FROM spam_lesson
        WHERE id > $1
        ORDER BY id
        LIMIT $2
        """,
        after,
        limit,
    )
    return [Lesson(*row) for row in rows]


async def take(tx: Executor, ids: Sequence[int]) -> int:
    """Take lessons away; return how many were still there."""
    tag = await tx.execute("DELETE FROM spam_lesson WHERE id = ANY($1::bigint[])", ids)
    return int(tag.rpartition(" ")[2])


async def waiting(database: Executor) -> int:
    """Return how many lessons are not learned yet."""
    count: int = await database.fetchval("SELECT count(*) FROM spam_lesson")
    return count
