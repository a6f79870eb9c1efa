"""The statement that takes messages out of a mailbox whose state is known."""

from datetime import datetime

from mailserver.model import HIDDEN, AccountId, ChangeKind, MailboxId, Modseq
from mailserver.storage.database import Executor
from mailserver.storage.messages import Spans


async def expunge_known(
    database: Executor,
    account: AccountId,
    mailbox: MailboxId,
    modseq: Modseq,
    spans: Spans,
    *,
    count: int,
    unseen: int,
    size: int,
    now: datetime,
) -> bool:
    """Remove messages with \\Deleted, destroy emails that are in no other mailbox, and log both.

    It is the change after `modseq` - 1: False, and nothing is written, when the account has another
    modseq. `count`, `unseen` and `size` are what the mailbox loses. Why no lock comes before it:
    `flags.write_known`.
    """
    written = await database.fetchval(
        """
        WITH leaving AS MATERIALIZED (
            SELECT here.uid, here.email_id, here.thread_id, email.blob_id, email.size,
                   NOT EXISTS (
                       SELECT
                       FROM msg
                       WHERE msg.account_id = $1 AND msg.email_id = here.email_id
                             AND msg.mailbox_id <> $2
                   ) AS homeless
            FROM unnest($4::bigint[], $5::bigint[]) AS span(first, last)
            JOIN msg here ON here.uid BETWEEN span.first AND span.last
            JOIN email ON email.account_id = $1 AND email.id = here.email_id
            WHERE here.account_id = $1 AND here.mailbox_id = $2
        ), locked AS (
            UPDATE account
            SET modseq = $3,
                quota_used = quota_used
                    - (SELECT coalesce(sum(size) FILTER (WHERE homeless), 0)::bigint FROM leaving)
            WHERE id = $1 AND modseq = $3 - 1
            RETURNING modseq
        ), counted AS (
            UPDATE mailbox
            SET total = total - $6,
                unseen = unseen - $7,
                deleted = deleted - $6,
                size = size - $8,
                modseq = $3
            FROM locked
            WHERE mailbox.account_id = $1 AND mailbox.id = $2
        ), removed AS (
            DELETE FROM msg
            USING locked, leaving
            WHERE msg.account_id = $1 AND msg.mailbox_id = $2 AND msg.uid = leaving.uid
        ), destroyed AS (
            DELETE FROM email
            USING locked, leaving
            WHERE email.account_id = $1 AND email.id = leaving.email_id AND leaving.homeless
        ), released AS (
            UPDATE blob
            SET refs = blob.refs - d.refs,
                unreferenced_at = CASE WHEN blob.refs = d.refs THEN $9::timestamptz END
            FROM locked, (
                SELECT blob_id, count(*)::int AS refs FROM leaving WHERE homeless GROUP BY blob_id
            ) AS d
            WHERE blob.account_id = $1 AND blob.id = d.blob_id
        )
        INSERT INTO change (account_id, modseq, kind, mailbox_id, uids, email_ids, thread_ids,
                            names, created_at)
        SELECT $1, $3, CASE WHEN homeless THEN $10::smallint ELSE $11::smallint END, $2,
               array_agg(uid), array_agg(email_id), array_agg(thread_id), $12::text[], $9
        FROM locked, leaving
        GROUP BY homeless
        RETURNING true
        """,
        account,
        mailbox,
        modseq,
        *spans,
        count,
        unseen,
        size,
        now,
        ChangeKind.EMAIL_DESTROYED,
        ChangeKind.EMAIL_REMOVED,
        [HIDDEN],
    )
    return written is True
