"""The statements that move or copy messages from a mailbox whose state is known to another one."""

from datetime import datetime
from typing import NamedTuple

from mailserver.model import DELETED, HIDDEN, AccountId, ChangeKind, MailboxId, Modseq
from mailserver.storage.database import Executor
from mailserver.storage.mailboxes import Place
from mailserver.storage.messages import Spans


class Total(NamedTuple):
    """What messages count for in the numbers of a mailbox."""

    messages: int
    unseen: int
    deleted: int
    size: int  # octets


async def move_known(
    database: Executor,
    account: AccountId,
    source: MailboxId,
    target: MailboxId,
    modseq: Modseq,
    spans: Spans,
    total: Total,
    now: datetime,
) -> Place | None:
    """Move messages within an account, and log that; return where they begin in the target.

    They get UIDs in the order of those that they had. It is the change after `modseq` - 1:
    None, and nothing is written, when the account has another modseq, one of the emails is in the
    target already, or there is no target. Why no lock comes before it: `flags.write_known`.

    PostgreSQL takes spans for many messages, and would read whole tables to join what is in them.
    So rows are looked for by arrays, and `width_bucket` says which place a UID has in one.
    """
    row = await database.fetchrow(
        """
        WITH leaving AS MATERIALIZED (
            SELECT uid, email_id, thread_id, flags & $14 <> 0 AS hidden,
                   row_number() OVER (ORDER BY uid) AS place
            FROM unnest($5::bigint[], $6::bigint[]) AS span(first, last)
            JOIN msg ON uid BETWEEN span.first AND span.last
            WHERE account_id = $1 AND mailbox_id = $2
        ), locked AS (
            UPDATE account
            SET modseq = $4
            WHERE id = $1 AND modseq = $4 - 1
                  AND EXISTS (SELECT FROM mailbox WHERE account_id = $1 AND mailbox.id = $3)
                  AND NOT EXISTS (
                      SELECT
                      FROM msg
                      WHERE account_id = $1 AND mailbox_id = $3
                            AND email_id = ANY (ARRAY(SELECT email_id FROM leaving))
                  )
            RETURNING modseq
        ), grown AS (
            UPDATE mailbox
            SET uidnext = uidnext + $7,
                total = total + $7,
                unseen = unseen + $8,
                deleted = deleted + $9,
                size = size + $10,
                modseq = $4
            FROM locked
            WHERE mailbox.account_id = $1 AND mailbox.id = $3
            RETURNING uidnext - $7 AS first_uid, uidvalidity
        ), shrunk AS (
            UPDATE mailbox
            SET total = total - $7,
                unseen = unseen - $8,
                deleted = deleted - $9,
                size = size - $10,
                modseq = $4
            FROM locked
            WHERE mailbox.account_id = $1 AND mailbox.id = $2
        ), moved AS (
            UPDATE msg
            SET mailbox_id = $3,
                uid = first_uid - 1
                      + width_bucket(msg.uid, (SELECT array_agg(uid ORDER BY uid) FROM leaving)),
                modseq = $4,
                saved_at = $11
            FROM grown
            WHERE msg.account_id = $1 AND msg.mailbox_id = $2
                  AND msg.uid = ANY (ARRAY(SELECT uid FROM leaving))
        ), logged AS (
            INSERT INTO change (account_id, modseq, kind, mailbox_id, uids, email_ids, thread_ids,
                                names, created_at)
            SELECT $1, $4, $12::smallint, $3, array_agg(first_uid - 1 + place),
                   array_agg(email_id), array_agg(thread_id), '{}'::text[], $11::timestamptz
            FROM grown, leaving
            HAVING count(*) > 0
            UNION ALL
            SELECT $1, $4, $13::smallint, $2, array_agg(uid), array_agg(email_id),
                   array_agg(thread_id), CASE WHEN hidden THEN $15::text[] ELSE '{}' END, $11
            FROM locked, leaving
            GROUP BY hidden
        ), taught AS (                                   -- as `lessons.note_moves`
            INSERT INTO spam_lesson (account_id, blob_id, spam, created_at)
            SELECT $1, email.blob_id, other.role IS NOT DISTINCT FROM 'junk', $11
            FROM locked
            JOIN mailbox here ON here.account_id = $1 AND here.id = $2
            JOIN mailbox other ON other.account_id = $1 AND other.id = $3
            JOIN email ON email.account_id = $1
                 AND email.id = ANY (ARRAY(SELECT email_id FROM leaving))
            WHERE (here.role IS NOT DISTINCT FROM 'junk')
                      <> (other.role IS NOT DISTINCT FROM 'junk')
                  AND other.role IS DISTINCT FROM 'trash'
        )
        SELECT first_uid, uidvalidity FROM grown
        """,
        account,
        source,
        target,
        modseq,
        *spans,
        *total,
        now,
        ChangeKind.EMAIL_ADDED,
        ChangeKind.EMAIL_REMOVED,
        DELETED,
        [HIDDEN],
    )
    return Place(*row) if row is not None else None


async def copy_known(
    database: Executor,
    account: AccountId,
    source: MailboxId,
    target: MailboxId,
    modseq: Modseq,
    spans: Spans,
    total: Total,
    now: datetime,
) -> Place | None:
    """Put messages also into another mailbox of an account; else as `move_known`."""
    row = await database.fetchrow(
        """
        WITH given AS MATERIALIZED (
            SELECT uid, email_id, thread_id, received_at, size, flags, keywords, original_id,
                   row_number() OVER (ORDER BY uid) AS place
            FROM unnest($5::bigint[], $6::bigint[]) AS span(first, last)
            JOIN msg ON uid BETWEEN span.first AND span.last
            WHERE account_id = $1 AND mailbox_id = $2
        ), locked AS (
            UPDATE account
            SET modseq = $4
            WHERE id = $1 AND modseq = $4 - 1
                  AND EXISTS (SELECT FROM mailbox WHERE account_id = $1 AND mailbox.id = $3)
                  AND NOT EXISTS (
                      SELECT
                      FROM msg
                      WHERE account_id = $1 AND mailbox_id = $3
                            AND email_id = ANY (ARRAY(SELECT email_id FROM given))
                  )
            RETURNING modseq
        ), grown AS (
            UPDATE mailbox
            SET uidnext = uidnext + $7,
                total = total + $7,
                unseen = unseen + $8,
                deleted = deleted + $9,
                size = size + $10,
                modseq = $4
            FROM locked
            WHERE mailbox.account_id = $1 AND mailbox.id = $3
            RETURNING uidnext - $7 AS first_uid, uidvalidity
        ), copied AS (
            INSERT INTO msg (account_id, mailbox_id, uid, email_id, thread_id, received_at, size,
                             modseq, flags, keywords, original_id, saved_at)
            SELECT $1, $3, first_uid - 1 + place, email_id, thread_id, received_at, size, $4,
                   flags, keywords, original_id, $11
            FROM grown, given
        ), logged AS (
            INSERT INTO change (account_id, modseq, kind, mailbox_id, uids, email_ids, thread_ids,
                                names, created_at)
            SELECT $1, $4, $12::smallint, $3, array_agg(first_uid - 1 + place),
                   array_agg(email_id), array_agg(thread_id), '{}'::text[], $11::timestamptz
            FROM grown, given
            HAVING count(*) > 0
        ), taught AS (                                   -- as `lessons.note_moves`
            INSERT INTO spam_lesson (account_id, blob_id, spam, created_at)
            SELECT $1, email.blob_id, other.role IS NOT DISTINCT FROM 'junk', $11
            FROM locked
            JOIN mailbox here ON here.account_id = $1 AND here.id = $2
            JOIN mailbox other ON other.account_id = $1 AND other.id = $3
            JOIN email ON email.account_id = $1
                 AND email.id = ANY (ARRAY(SELECT email_id FROM given))
            WHERE (here.role IS NOT DISTINCT FROM 'junk')
                      <> (other.role IS NOT DISTINCT FROM 'junk')
                  AND other.role IS DISTINCT FROM 'trash'
        )
        SELECT first_uid, uidvalidity FROM grown
        """,
        account,
        source,
        target,
        modseq,
        *spans,
        *total,
        now,
        ChangeKind.EMAIL_ADDED,
    )
    return Place(*row) if row is not None else None
