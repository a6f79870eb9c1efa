"""Statements on accounts that are disabled or deleted, and on all that a deleted one has."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from mailserver.model import Account, AccountId, IdKind, id_text
from mailserver.storage import accounts
from mailserver.storage.database import Executor

Step = Callable[[Executor, AccountId, int, datetime], Awaitable[int]]


async def set_enabled(tx: Executor, account: AccountId, *, enabled: bool, refuses: bool) -> None:
    """Let an account log in or not, and say whether mail for it is refused meanwhile."""
    await tx.execute(
        "UPDATE account SET enabled = $2, refuses = $3 WHERE id = $1", account, enabled, refuses
    )


async def mark(tx: Executor, account: AccountId, remove_at: datetime) -> None:
    """Note that an account is deleted, and from when on all of it is removed."""
    await tx.execute(
        "UPDATE account SET enabled = false, remove_at = $2 WHERE id = $1", account, remove_at
    )


async def unmark(tx: Executor, account: AccountId, now: datetime) -> bool:
    """Let a deleted account come back; False when its removal has begun."""
    tag = await tx.execute(
        "UPDATE account SET remove_at = NULL WHERE id = $1 AND remove_at > $2", account, now
    )
    return tag.endswith(" 1")


async def due(database: Executor, now: datetime, limit: int) -> list[Account]:
    """Return accounts that are to be removed by now."""
    rows = await database.fetch(
        "SELECT id FROM account WHERE remove_at <= $1 ORDER BY remove_at LIMIT $2", now, limit
    )
    found = [await accounts.by_id(database, AccountId(row["id"])) for row in rows]
    return [account for account in found if account is not None]


async def lock(tx: Executor, account: AccountId, now: datetime) -> bool:
    """Let nobody else change an account that is being removed; False when it is none, or gone."""
    found = await tx.fetchval(
        "SELECT true FROM account WHERE id = $1 AND remove_at <= $2 FOR UPDATE", account, now
    )
    return found is True


async def stop_indexing(tx: Executor, account: AccountId) -> None:
    """Forget how far the search text of an account is: from now on none of it counts."""
    await tx.execute("DELETE FROM search_progress WHERE account_id = $1", account)


async def remove_emails(tx: Executor, account: AccountId, limit: int, now: datetime) -> int:
    """Remove emails with all that counts them; their bodies are collected later."""
    count: int = await tx.fetchval(
        """
        WITH leaving AS MATERIALIZED (
            SELECT id, blob_id, size FROM email WHERE account_id = $1 ORDER BY id LIMIT $2
        ), removed AS (
            DELETE FROM msg
            USING leaving
            WHERE msg.account_id = $1 AND msg.email_id = leaving.id
            RETURNING msg.mailbox_id, msg.size, msg.flags
        ), counted AS (
            UPDATE mailbox
            SET total = mailbox.total - d.total,
                unseen = mailbox.unseen - d.unseen,
                deleted = mailbox.deleted - d.deleted,
                size = mailbox.size - d.size
            FROM (
                SELECT mailbox_id, count(*) AS total,
                       count(*) FILTER (WHERE flags & 1 = 0) AS unseen,
                       count(*) FILTER (WHERE flags & 16 <> 0) AS deleted,
                       sum(size)::bigint AS size
                FROM removed
                GROUP BY mailbox_id
            ) AS d
            WHERE mailbox.account_id = $1 AND mailbox.id = d.mailbox_id
        ), used AS (
            UPDATE account
            SET quota_used = quota_used - (SELECT coalesce(sum(size), 0)::bigint FROM leaving)
            WHERE id = $1
        ), words AS (
            DELETE FROM search_word
            USING leaving
            WHERE search_word.account_id = $1 AND search_word.email_id = leaving.id
        ), released AS (
            UPDATE blob
            SET refs = blob.refs - d.refs,
                unreferenced_at = CASE WHEN blob.refs = d.refs THEN $3::timestamptz END
            FROM (SELECT blob_id, count(*)::int AS refs FROM leaving GROUP BY blob_id) AS d
            WHERE blob.account_id = $1 AND blob.id = d.blob_id
        ), destroyed AS (
            DELETE FROM email
            USING leaving
            WHERE email.account_id = $1 AND email.id = leaving.id
        )
        SELECT count(*) FROM leaving
        """,
        account,
        limit,
        now,
    )
    return count


async def remove_submissions(tx: Executor, account: AccountId, limit: int, now: datetime) -> int:
    """Remove submissions and the reports about them."""
    count: int = await tx.fetchval(
        """
        WITH leaving AS MATERIALIZED (
            SELECT id FROM submission WHERE account_id = $1 ORDER BY id LIMIT $2
        ), reports AS (
            DELETE FROM submission_report
            USING leaving
            WHERE submission_report.account_id = $1 AND submission_id = leaving.id
            RETURNING blob_id
        ), released AS (
            UPDATE blob
            SET refs = blob.refs - d.refs,
                unreferenced_at = CASE WHEN blob.refs = d.refs THEN $3::timestamptz END
            FROM (SELECT blob_id, count(*)::int AS refs FROM reports GROUP BY blob_id) AS d
            WHERE blob.account_id = $1 AND blob.id = d.blob_id
        ), destroyed AS (
            DELETE FROM submission
            USING leaving
            WHERE submission.account_id = $1 AND submission.id = leaving.id
        )
        SELECT count(*) FROM leaving
        """,
        account,
        limit,
        now,
    )
    return count


async def remove_uploads(tx: Executor, account: AccountId, limit: int, now: datetime) -> int:
    """Forget what clients have uploaded."""
    count: int = await tx.fetchval(
        """
        WITH leaving AS MATERIALIZED (
            SELECT blob_id FROM upload WHERE account_id = $1 ORDER BY blob_id LIMIT $2
        ), released AS (
            UPDATE blob
            SET refs = blob.refs - 1,
                unreferenced_at = CASE WHEN blob.refs = 1 THEN $3::timestamptz END
            FROM leaving
            WHERE blob.account_id = $1 AND blob.id = leaving.blob_id
        ), destroyed AS (
            DELETE FROM upload
            USING leaving
            WHERE upload.account_id = $1 AND upload.blob_id = leaving.blob_id
        )
        SELECT count(*) FROM leaving
        """,
        account,
        limit,
        now,
    )
    return count


def _rows(statement: str) -> Step:
    """Return the step that a statement for an account ($1) and a number of rows ($2) is."""

    async def step(tx: Executor, account: AccountId, limit: int, now: datetime) -> int:
        tag = await tx.execute(statement, account, limit)
        return int(tag.rpartition(" ")[2])

    return step


# What an account has beyond what goes with its row, in the order in which it is removed. Words and
# texts that the indexer wrote at the last moment are left over when the emails are gone.
STEPS: tuple[Step, ...] = (
    remove_emails,
    _rows(
        """
        DELETE FROM search_word
        WHERE account_id = $1 AND email_id IN (
            SELECT email_id FROM search_word WHERE account_id = $1 ORDER BY email_id LIMIT $2
        )
        """
    ),
    _rows(
        """
        DELETE FROM search_frame
        WHERE account_id = $1 AND id IN (
            SELECT id FROM search_frame WHERE account_id = $1 ORDER BY id LIMIT $2
        )
        """
    ),
    _rows(
        """
        DELETE FROM thread_ref
        WHERE account_id = $1 AND hash IN (
            SELECT hash FROM thread_ref WHERE account_id = $1 ORDER BY hash LIMIT $2
        )
        """
    ),
    _rows(
        """
        DELETE FROM change
        WHERE account_id = $1 AND modseq IN (
            SELECT modseq FROM change WHERE account_id = $1 ORDER BY modseq LIMIT $2
        )
        """
    ),
    remove_submissions,
    remove_uploads,
)


async def remove(tx: Executor, account: AccountId) -> None:
    """Remove the row of an account, and with it all that is keyed by it and was not removed yet."""
    await tx.execute("DELETE FROM spam_list WHERE scope = $1", id_text(IdKind.ACCOUNT, account))
    await tx.execute("DELETE FROM account WHERE id = $1", account)
