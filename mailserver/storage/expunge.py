"""The statement that takes messages out of a mailbox whose state is known."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import HIDDEN, AccountId, ChangeKind, MailboxId, Modseq
from mailserver.storage.database import Executor


class Leaving(NamedTuple):
    """A message that is to leave its mailbox."""

    uid: int
    email_id: int
    thread_id: int


async def expunge_known(
    database: Executor,
    account: AccountId,
    mailbox: MailboxId,
    modseq: Modseq,
    rows: Sequence[Leaving],
    *,
    unseen: int,
    size: int,
    now: datetime,
) -> bool:
    """Remove messages with \\Deleted, destroy emails that are in no other mailbox, and log both.

    It is the change after `modseq` - 1: False, and nothing is written, when the account has another
    modseq. `unseen` and `size` are what the mailbox loses. Why no lock comes before it:
    `flags.write_known`.
    """
    written = await database.fetchval(
        """
        WITH leaving AS MATERIALIZED (
            SELECT d.uid, d.email_id, d.thread_id, email.blob_id, email.size,
                   d.email_id NOT IN (
                       SELECT msg.email_id
                       FROM msg
                       WHERE msg.account_id = $1 AND msg.email_id = ANY($5::bigint[])
                             AND msg.mailbox_id <> $2
                   ) AS homeless
            FROM unnest($4::bigint[], $5::bigint[], $6::bigint[]) AS d(uid, email_id, thread_id)
            JOIN email ON email.account_id = $1 AND email.id = d.email_id
        ), locked AS (
            UPDATE account
            SET modseq = $3,
                quota_used = quota_used
                    - (SELECT coalesce(sum(size) FILTER (WHERE homeless), 0)::bigint FROM leaving)
            WHERE id = $1 AND modseq = $3 - 1
            RETURNING modseq
        ), counted AS (
            UPDATE mailbox
            SET total = total - cardinality($4::bigint[]),
                unseen = unseen - $7,
                deleted = deleted - cardinality($4::bigint[]),
                size = size - $8,
                modseq = $3
            FROM locked
            WHERE mailbox.account_id = $1 AND mailbox.id = $2
        ), removed AS (
            DELETE FROM msg
            USING locked
            WHERE msg.account_id = $1 AND msg.mailbox_id = $2 AND msg.uid = ANY($4::bigint[])
        ), destroyed AS (
            DELETE FROM email
            USING locked
            WHERE email.account_id = $1
                  AND email.id = ANY (ARRAY(SELECT email_id FROM leaving WHERE homeless))
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
               array_agg(uid ORDER BY uid), array_agg(email_id ORDER BY uid),
               array_agg(thread_id ORDER BY uid), $12::text[], $9
        FROM locked, leaving
        GROUP BY homeless
        RETURNING true
        """,
        account,
        mailbox,
        modseq,
        *zip(*rows, strict=True),
        unseen,
        size,
        now,
        ChangeKind.EMAIL_DESTROYED,
        ChangeKind.EMAIL_REMOVED,
        [HIDDEN],
    )
    return written is True
