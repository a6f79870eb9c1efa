"""The statements of a group commit: lock, place, write.

Each does for all messages of the commit what it can do at once, because a round trip costs more
than a row.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from mailserver.model import AccountId, BlobId, ChangeEntry, EmailId, MailboxId, Modseq, ThreadId
from mailserver.storage import changes
from mailserver.storage.bodies import NewBody
from mailserver.storage.database import Executor
from mailserver.storage.mailboxes import Growth, Place

ThreadRef = tuple[AccountId, int, ThreadId]  # which thread a hash leads to


class Room(NamedTuple):
    """What a locked account row says: its modseq, how much room there is, whether it answers."""

    modseq: Modseq
    quota_limit: int | None
    quota_used: int
    responds: bool  # a vacation response is enabled


async def lock_accounts(tx: Executor, accounts: Sequence[AccountId]) -> dict[AccountId, Room]:
    """Lock accounts by ascending id, as every writer does, so that none waits in a circle."""
    rows = await tx.fetch(
        """
        SELECT id, modseq, quota_limit, quota_used, responds
        FROM account
        WHERE id = ANY($1::bigint[])
        ORDER BY id
        FOR NO KEY UPDATE
        """,
        accounts,
    )
    return {
        AccountId(row["id"]): Room(
            row["modseq"], row["quota_limit"], row["quota_used"], row["responds"]
        )
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


async def place(
    tx: Executor, hashes: Sequence[tuple[AccountId, int]], growths: Sequence[Growth]
) -> tuple[dict[tuple[AccountId, int], ThreadId], dict[tuple[AccountId, MailboxId], Place]]:
    """Return the thread of each known hash; take UIDs in mailboxes and keep their counters.

    A mailbox that is gone is left out. Accounts must be locked: a snapshot taken before would miss
    the threads of who had the lock.
    """
    rows = await tx.fetch(
        """
        WITH grown AS (
            UPDATE mailbox m
            SET uidnext = m.uidnext + d.uids,
                total = m.total + d.total,
                unseen = m.unseen + d.unseen,
                deleted = m.deleted + d.deleted,
                size = m.size + d.size,
                modseq = d.modseq
            FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::int[], $7::int[], $8::int[],
                        $9::bigint[], $10::bigint[])
                 AS d(account_id, id, uids, total, unseen, deleted, size, modseq)
            WHERE m.account_id = d.account_id AND m.id = d.id
            RETURNING m.account_id, m.id, m.uidnext - d.uids AS first_uid, m.uidvalidity
        )
        SELECT true AS is_mailbox, account_id, id AS key, first_uid AS value, uidvalidity
        FROM grown
        UNION ALL
        SELECT false, k.account_id, k.hash, r.thread_id, NULL
        FROM unnest($1::bigint[], $2::bigint[]) AS k(account_id, hash)
        CROSS JOIN LATERAL (
            SELECT thread_id
            FROM thread_ref
            WHERE thread_ref.account_id = k.account_id AND thread_ref.hash = k.hash
            LIMIT 1
        ) AS r
        """,
        *_columns(hashes, 2),
        *_columns(growths, 8),
    )
    threads: dict[tuple[AccountId, int], ThreadId] = {}
    places: dict[tuple[AccountId, MailboxId], Place] = {}
    for is_mailbox, account, key, value, uidvalidity in rows:
        if is_mailbox:
            places[account, key] = Place(value, uidvalidity)
        else:
            threads[account, key] = value
    return threads, places


class Outlook(NamedTuple):
    """What a delivery would find if nothing changed until it is written."""

    rooms: dict[AccountId, Room]
    threads: dict[tuple[AccountId, int], ThreadId]
    places: dict[tuple[AccountId, MailboxId], Place]
    names: dict[tuple[AccountId, MailboxId], str]  # as of `names`


async def look(
    database: Executor,
    accounts: Sequence[AccountId],
    hashes: Sequence[tuple[AccountId, int]],
    mailboxes: Sequence[tuple[AccountId, MailboxId]],
) -> Outlook:
    """Return as of one moment, without a lock, what `lock_accounts` and `place` do."""
    rows = await database.fetch(
        """
        SELECT 'account' AS kind, id AS account_id, modseq AS key, quota_limit AS first,
               quota_used AS second, responds, NULL AS name
        FROM account
        WHERE id = ANY($1::bigint[])
        UNION ALL
        SELECT 'mailbox', m.account_id, m.id, m.uidnext, m.uidvalidity, NULL,
               CASE WHEN m.parent_id IS NULL AND m.owner_rights IS NULL THEN m.name END
        FROM unnest($4::bigint[], $5::bigint[]) AS d(account_id, id)
        JOIN mailbox m USING (account_id, id)
        UNION ALL
        SELECT 'thread', k.account_id, k.hash, r.thread_id, NULL, NULL, NULL
        FROM unnest($2::bigint[], $3::bigint[]) AS k(account_id, hash)
        CROSS JOIN LATERAL (
            SELECT thread_id
            FROM thread_ref
            WHERE thread_ref.account_id = k.account_id AND thread_ref.hash = k.hash
            LIMIT 1
        ) AS r
        """,
        accounts,
        *_columns(hashes, 2),
        *_columns(mailboxes, 2),
    )
    found = Outlook({}, {}, {}, {})
    for kind, account, key, first, second, responds, name in rows:
        if kind == "account":
            found.rooms[account] = Room(key, first, second, responds)
        elif kind == "mailbox":
            found.places[account, key] = Place(first, second)
            if name is not None:
                found.names[account, key] = name
        else:
            found.threads[account, key] = first
    return found


async def names(
    tx: Executor, mailboxes: Sequence[tuple[AccountId, MailboxId]]
) -> dict[tuple[AccountId, MailboxId], str]:
    """Return the names of mailboxes without a parent with which their owner may do everything."""
    rows = await tx.fetch(
        """
        SELECT m.account_id, m.id, m.name
        FROM unnest($1::bigint[], $2::bigint[]) AS d(account_id, id)
        JOIN mailbox m USING (account_id, id)
        WHERE m.parent_id IS NULL AND m.owner_rights IS NULL
        """,
        *_columns(mailboxes, 2),
    )
    return {(account, mailbox): name for account, mailbox, name in rows}


class NewCopy(NamedTuple):
    """An email and its place in the mailbox where it arrives."""

    account_id: AccountId
    email_id: EmailId
    thread_id: ThreadId
    blob_id: BlobId
    size: int
    received_at: datetime
    sent_at: datetime | None
    env: bytes
    header: bytes  # compressed
    mailbox_id: MailboxId
    uid: int
    modseq: Modseq
    flags: int
    keywords: str  # joined by blanks: no keyword has one


async def write(
    tx: Executor,
    *,
    bodies: Sequence[NewBody],
    copies: Sequence[NewCopy],
    accounts: Sequence[tuple[AccountId, Modseq, int]],
    threads: Sequence[ThreadRef],
    entries: Sequence[tuple[AccountId, ChangeEntry]],
    growths: Sequence[Growth] = (),
    now: datetime,
) -> bool:
    """Write everything that arrived: bodies, emails, memberships, accounts, threads, the log.

    A body that is known counts its new references; of two threads for a hash the first one stays;
    accounts are given with their new modseq and the bytes that they grow by. False, and nothing is
    written, when one of them has not the modseq before that. It is compared on locked rows, so what
    `look` said of an account before is still true: mailboxes may be grown here by what it said.
    """
    written: bool = await tx.fetchval(
        """
        WITH wanted AS (
            SELECT *
            FROM unnest($21::bigint[], $22::bigint[], $23::bigint[]) AS d(id, modseq, size)
        ), held AS MATERIALIZED (
            SELECT account.id
            FROM account
            JOIN wanted ON wanted.id = account.id AND wanted.modseq - 1 = account.modseq
            ORDER BY account.id
            FOR NO KEY UPDATE OF account
        ), ready AS MATERIALIZED (
            SELECT count(*) = cardinality($21::bigint[]) AS whole FROM held
        ), body AS (
            SELECT *
            FROM unnest($2::bigint[], $3::bytea[], $4::bigint[], $5::int[], $6::bytea[])
                 AS d(account_id, id, size, refs, data)
            WHERE (SELECT whole FROM ready)
        ), counted AS (
            INSERT INTO blob (account_id, id, size, refs, created_at, length)
            SELECT account_id, id, size, refs, $1, length(data) FROM body
            ON CONFLICT (account_id, id)
            DO UPDATE SET refs = blob.refs + excluded.refs, unreferenced_at = NULL
            RETURNING account_id, id, xmax = 0 AS new
        ), heated AS (
            INSERT INTO blob_hot (account_id, id, data)
            SELECT account_id, id, data
            FROM body
            JOIN counted USING (account_id, id)
            WHERE counted.new
        ), copy AS (
            SELECT *
            FROM unnest($7::bigint[], $8::bigint[], $9::bigint[], $10::bytea[], $11::bigint[],
                        $12::timestamptz[], $13::timestamptz[], $14::bytea[], $15::bytea[],
                        $16::bigint[], $17::bigint[], $18::bigint[], $19::int[], $20::text[])
                 AS d(account_id, email_id, thread_id, blob_id, size, received_at, sent_at, env,
                      header, mailbox_id, uid, modseq, flags, keywords)
            WHERE (SELECT whole FROM ready)
        ), stored AS (
            INSERT INTO email (account_id, id, thread_id, blob_id, size, received_at, sent_at, env,
                               header)
            SELECT account_id, email_id, thread_id, blob_id, size, received_at, sent_at, env, header
            FROM copy
        ), placed AS (
            INSERT INTO msg (account_id, mailbox_id, uid, email_id, thread_id, received_at, size,
                             modseq, flags, keywords, saved_at)
            SELECT account_id, mailbox_id, uid, email_id, thread_id, received_at, size, modseq,
                   flags, CASE WHEN keywords <> '' THEN string_to_array(keywords, ' ') END, $1
            FROM copy
        ), grown AS (
            UPDATE account
            SET modseq = wanted.modseq, quota_used = account.quota_used + wanted.size
            FROM wanted
            WHERE account.id = wanted.id AND (SELECT whole FROM ready)
        ), filled AS (
            UPDATE mailbox m
            SET uidnext = m.uidnext + d.uids,
                total = m.total + d.total,
                unseen = m.unseen + d.unseen,
                deleted = m.deleted + d.deleted,
                size = m.size + d.size,
                modseq = d.modseq
            FROM unnest($34::bigint[], $35::bigint[], $36::bigint[], $37::int[], $38::int[],
                        $39::int[], $40::bigint[], $41::bigint[])
                 AS d(account_id, id, uids, total, unseen, deleted, size, modseq)
            WHERE m.account_id = d.account_id AND m.id = d.id AND (SELECT whole FROM ready)
        ), threaded AS (
            INSERT INTO thread_ref (account_id, hash, thread_id)
            SELECT account_id, hash, thread_id
            FROM unnest($24::bigint[], $25::bigint[], $26::bigint[])
                 AS d(account_id, hash, thread_id)
            WHERE (SELECT whole FROM ready)
            ON CONFLICT DO NOTHING
        ), logged AS (
            INSERT INTO change (account_id, modseq, kind, mailbox_id, uids, email_ids, thread_ids,
                                created_at)
            SELECT account_id, modseq, kind, mailbox_id, uids::bigint[], email_ids::bigint[],
                   thread_ids::bigint[], $1
            FROM unnest($27::bigint[], $28::bigint[], $29::smallint[], $30::bigint[], $31::text[],
                        $32::text[], $33::text[])
                 AS d(account_id, modseq, kind, mailbox_id, uids, email_ids, thread_ids)
            WHERE (SELECT whole FROM ready)
        )
        SELECT whole FROM ready
        """,
        now,
        *_columns(bodies, 5),
        *_columns(copies, 14),
        *_columns(accounts, 3),
        *_columns(threads, 3),
        *changes.columns(entries),
        *_columns(growths, 8),
    )
    return written


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width
