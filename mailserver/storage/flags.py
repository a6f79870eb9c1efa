"""Statements that change flags: of a whole mailbox they cost a few rows, not one a message."""

from array import array
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import AccountId, ChangeKind, Flags, MailboxId, Modseq
from mailserver.storage.database import Executor, Record
from mailserver.storage.messages import Spans

_COLUMNS = 4


class Group(NamedTuple):
    """Messages of one mailbox that have the same flags, as columns by ascending UID."""

    mailbox_id: MailboxId
    flags: Flags
    uids: "array[int]"
    email_ids: "array[int]"
    thread_ids: "array[int]"
    modseqs: "array[int]"

    def part(self, rows: Sequence[int]) -> "Group":
        """Return some of the messages."""
        uids, emails, threads, modseqs = (
            array("q", [column[row] for row in rows]) for column in self[2:]
        )
        return Group(self.mailbox_id, self.flags, uids, emails, threads, modseqs)


async def grouped(
    tx: Executor, account: AccountId, mailbox: MailboxId, uids: Sequence[int]
) -> list[Group]:
    """Return messages of a mailbox, and the same emails in other ones; the account is locked."""
    rows = await tx.fetch(
        """
        WITH here AS MATERIALIZED (
            SELECT mailbox_id, uid, email_id, thread_id, modseq, flags, keywords
            FROM msg
            WHERE account_id = $1 AND mailbox_id = $2 AND uid = ANY($3::bigint[])
        ), each AS (
            SELECT * FROM here
            UNION ALL
            SELECT m.mailbox_id, m.uid, m.email_id, m.thread_id, m.modseq, m.flags, m.keywords
            FROM msg m
            WHERE m.account_id = $1 AND m.email_id = ANY (ARRAY(SELECT email_id FROM here))
                  AND m.mailbox_id <> $2
        )
        SELECT mailbox_id, flags, keywords,
               string_agg(
                   int8send(uid) || int8send(email_id) || int8send(thread_id) || int8send(modseq),
                   '' ORDER BY uid
               ) AS packed
        FROM each
        GROUP BY mailbox_id, flags, keywords
        """,
        account,
        mailbox,
        uids,
    )
    return [_group(row) for row in rows]


def _group(row: Record) -> Group:
    values = array("q", row["packed"])
    values.byteswap()
    uids, emails, threads, modseqs = (values[offset::_COLUMNS] for offset in range(_COLUMNS))
    flags = Flags(row["flags"], tuple(row["keywords"] or ()))
    return Group(MailboxId(row["mailbox_id"]), flags, uids, emails, threads, modseqs)


class NewFlags(NamedTuple):
    """What becomes of the messages that have certain flags."""

    old: Flags
    new: Flags


async def write(
    tx: Executor,
    account: AccountId,
    mailbox: MailboxId,
    modseq: Modseq,
    uids: Sequence[int],
    changes: Sequence[NewFlags],
    *,
    unseen: int,
    deleted: int,
) -> None:
    """Change the flags of messages of one mailbox and add to its counters.

    Rows are told by the flags that `grouped` saw: the account is locked since, and a comparison
    costs less than a row of arguments for each message.
    """
    await tx.execute(
        """
        WITH counted AS (
            UPDATE mailbox
            SET unseen = unseen + $5, deleted = deleted + $6, modseq = $3
            WHERE account_id = $1 AND id = $2
        )
        UPDATE msg
        SET flags = d.flags,
            keywords = CASE WHEN d.keywords <> '' THEN string_to_array(d.keywords, ' ') END,
            modseq = $3
        FROM unnest($7::int[], $8::text[], $9::int[], $10::text[])
             AS d(old_flags, old_keywords, flags, keywords)
        WHERE msg.account_id = $1 AND msg.mailbox_id = $2 AND msg.uid = ANY($4::bigint[])
              AND msg.flags = d.old_flags
              AND coalesce(array_to_string(msg.keywords, ' '), '') = d.old_keywords
        """,
        account,
        mailbox,
        modseq,
        uids,
        unseen,
        deleted,
        [each.old.bits for each in changes],
        [" ".join(each.old.keywords) for each in changes],
        [each.new.bits for each in changes],
        [" ".join(each.new.keywords) for each in changes],
    )


class Restamped(NamedTuple):
    """A message whose flags are known, and its new ones."""

    uid: int
    email_id: int
    thread_id: int
    flags: int
    keywords: str  # joined by blanks
    visibility: str  # HIDDEN, SHOWN or "": whether JMAP shows it, if that changed


async def write_known(
    database: Executor,
    account: AccountId,
    mailbox: MailboxId,
    modseq: Modseq,
    rows: Sequence[Restamped],
    *,
    unseen: int,
    deleted: int,
    now: datetime,
) -> bool:
    """Change flags of a few messages, counters and the log, as the change after `modseq` - 1.

    False, and nothing is written, when the account has another modseq, or one of the emails is in
    another mailbox too. The modseq is compared on the locked row, and whoever knows it has seen its
    commit, so the other rows cannot be older than it.
    """
    written = await database.fetchval(
        """
        WITH locked AS (
            UPDATE account
            SET modseq = $3
            WHERE id = $1 AND modseq = $3 - 1
                  AND NOT EXISTS (
                      SELECT
                      FROM msg
                      WHERE account_id = $1 AND email_id = ANY($5::bigint[]) AND mailbox_id <> $2
                  )
            RETURNING modseq
        ), counted AS (
            UPDATE mailbox
            SET unseen = unseen + $10, deleted = deleted + $11, modseq = $3
            FROM locked
            WHERE mailbox.account_id = $1 AND mailbox.id = $2
        ), restamped AS (
            UPDATE msg
            SET flags = d.flags,
                keywords = CASE WHEN d.keywords <> '' THEN string_to_array(d.keywords, ' ') END,
                modseq = $3
            FROM locked, unnest($4::bigint[], $7::int[], $8::text[]) AS d(uid, flags, keywords)
            WHERE msg.account_id = $1 AND msg.mailbox_id = $2 AND msg.uid = d.uid
        )
        INSERT INTO change (account_id, modseq, kind, mailbox_id, uids, email_ids, thread_ids,
                            names, created_at)
        SELECT $1, $3, $12, $2, array_agg(uid ORDER BY uid), array_agg(email_id ORDER BY uid),
               array_agg(thread_id ORDER BY uid), string_to_array(visibility, ' '), $13
        FROM locked, unnest($4::bigint[], $5::bigint[], $6::bigint[], $9::text[])
                     AS d(uid, email_id, thread_id, visibility)
        GROUP BY visibility
        RETURNING true
        """,
        account,
        mailbox,
        modseq,
        *zip(*rows, strict=True),
        unseen,
        deleted,
        ChangeKind.EMAIL_UPDATED,
        now,
    )
    return written is True


async def write_one(
    database: Executor,
    account: AccountId,
    mailbox: MailboxId,
    modseq: Modseq,
    row: Restamped,
    *,
    unseen: int,
    deleted: int,
    now: datetime,
) -> bool:
    """Do what `write_known` does with one message, as clients mostly do, for a quarter less."""
    written = await database.fetchval(
        """
        WITH locked AS (
            UPDATE account
            SET modseq = $3
            WHERE id = $1 AND modseq = $3 - 1
                  AND NOT EXISTS (
                      SELECT
                      FROM msg
                      WHERE account_id = $1 AND email_id = $5 AND mailbox_id <> $2
                  )
            RETURNING modseq
        ), counted AS (
            UPDATE mailbox
            SET unseen = unseen + $10, deleted = deleted + $11, modseq = $3
            FROM locked
            WHERE mailbox.account_id = $1 AND mailbox.id = $2
        ), restamped AS (
            UPDATE msg
            SET flags = $7,
                keywords = CASE WHEN $8 <> '' THEN string_to_array($8, ' ') END,
                modseq = $3
            FROM locked
            WHERE msg.account_id = $1 AND msg.mailbox_id = $2 AND msg.uid = $4
        )
        INSERT INTO change (account_id, modseq, kind, mailbox_id, uids, email_ids, thread_ids,
                            names, created_at)
        SELECT $1, $3, $12, $2, ARRAY[$4::bigint], ARRAY[$5::bigint], ARRAY[$6::bigint],
               string_to_array($9, ' '), $13
        FROM locked
        RETURNING true
        """,
        account,
        mailbox,
        modseq,
        *row,
        unseen,
        deleted,
        ChangeKind.EMAIL_UPDATED,
        now,
    )
    return written is True


class Restamping(NamedTuple):
    """What becomes of the messages that have certain flags, and what the change log says of it."""

    old_flags: int
    old_keywords: str  # joined by blanks
    flags: int
    keywords: str
    visibility: str  # HIDDEN, SHOWN or "": whether JMAP shows them, if that changed


async def write_spans(
    database: Executor,
    account: AccountId,
    mailbox: MailboxId,
    modseq: Modseq,
    spans: Spans,
    changes: Sequence[Restamping],
    *,
    unseen: int,
    deleted: int,
    now: datetime,
) -> bool:
    """Do what `write_known` does with any number of messages, told by the flags that they have."""
    written = await database.fetchval(
        """
        WITH locked AS (
            UPDATE account
            SET modseq = $3
            WHERE id = $1 AND modseq = $3 - 1
                  AND NOT EXISTS (
                      SELECT
                      FROM msg
                      WHERE account_id = $1 AND mailbox_id <> $2 AND email_id = ANY (ARRAY(
                          SELECT here.email_id
                          FROM unnest($4::bigint[], $5::bigint[]) AS span(first, last)
                          JOIN msg here ON here.uid BETWEEN span.first AND span.last
                          WHERE here.account_id = $1 AND here.mailbox_id = $2
                      ))
                  )
            RETURNING modseq
        ), counted AS (
            UPDATE mailbox
            SET unseen = unseen + $11, deleted = deleted + $12, modseq = $3
            FROM locked
            WHERE mailbox.account_id = $1 AND mailbox.id = $2
        ), restamped AS (
            UPDATE msg
            SET flags = d.flags,
                keywords = CASE WHEN d.keywords <> '' THEN string_to_array(d.keywords, ' ') END,
                modseq = $3
            FROM locked, unnest($4::bigint[], $5::bigint[]) AS span(first, last),
                 unnest($6::int[], $7::text[], $8::int[], $9::text[], $10::text[])
                     AS d(old_flags, old_keywords, flags, keywords, visibility)
            WHERE msg.account_id = $1 AND msg.mailbox_id = $2
                  AND msg.uid BETWEEN span.first AND span.last AND msg.flags = d.old_flags
                  AND coalesce(array_to_string(msg.keywords, ' '), '') = d.old_keywords
            RETURNING msg.uid, msg.email_id, msg.thread_id, d.visibility
        )
        INSERT INTO change (account_id, modseq, kind, mailbox_id, uids, email_ids, thread_ids,
                            names, created_at)
        SELECT $1, $3, $13, $2, array_agg(uid), array_agg(email_id), array_agg(thread_id),
               string_to_array(visibility, ' '), $14
        FROM restamped
        GROUP BY visibility
        RETURNING true
        """,
        account,
        mailbox,
        modseq,
        *spans,
        *zip(*changes, strict=True),
        unseen,
        deleted,
        ChangeKind.EMAIL_UPDATED,
        now,
    )
    return written is True
