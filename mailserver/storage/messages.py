"""Statements on emails and on their membership in mailboxes."""

from array import array
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import (
    DELETED,
    AccountId,
    BlobId,
    Descriptions,
    Email,
    EmailId,
    FlagChange,
    Flags,
    MailboxId,
    Membership,
    Modseq,
    ThreadId,
    Uid,
)
from mailserver.storage.compression import decompress, decompress_all
from mailserver.storage.database import Executor, Record


class Spans(NamedTuple):
    """Messages of a mailbox whose state is known: all that have UIDs from one to another."""

    first: Sequence[int]
    last: Sequence[int]


class NewMessage(NamedTuple):
    """One row of `msg` to insert."""

    account_id: AccountId
    mailbox_id: MailboxId
    uid: int
    email_id: EmailId
    thread_id: ThreadId
    received_at: datetime
    size: int
    modseq: Modseq
    flags: int
    keywords: str  # joined by blanks: no keyword has one
    original_id: EmailId | None  # of which email this one is a copy
    saved_at: datetime


async def insert_messages(tx: Executor, messages: Sequence[NewMessage]) -> None:
    """Put emails in mailboxes."""
    await tx.execute(
        """
        INSERT INTO msg (account_id, mailbox_id, uid, email_id, thread_id, received_at, size,
                         modseq, flags, keywords, original_id, saved_at)
        SELECT account_id, mailbox_id, uid, email_id, thread_id, received_at, size, modseq, flags,
               CASE WHEN keywords = '' THEN NULL ELSE string_to_array(keywords, ' ') END,
               original_id, saved_at
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                    $6::timestamptz[], $7::bigint[], $8::bigint[], $9::int[], $10::text[],
                    $11::bigint[], $12::timestamptz[])
             AS d(account_id, mailbox_id, uid, email_id, thread_id, received_at, size, modseq,
                  flags, keywords, original_id, saved_at)
        """,
        *zip(*messages, strict=True),
    )


async def threads_of_hashes(
    tx: Executor, hashes: Sequence[tuple[AccountId, int]]
) -> dict[tuple[AccountId, int], ThreadId]:
    """Return the thread of each known (account, hash)."""
    if not hashes:
        return {}
    rows = await tx.fetch(
        """
        SELECT k.account_id, k.hash, r.thread_id
        FROM unnest($1::bigint[], $2::bigint[]) AS k(account_id, hash)
        CROSS JOIN LATERAL (
            SELECT thread_id
            FROM thread_ref
            WHERE thread_ref.account_id = k.account_id AND thread_ref.hash = k.hash
            LIMIT 1
        ) AS r
        """,
        *zip(*hashes, strict=True),
    )
    return {(AccountId(row["account_id"]), row["hash"]): ThreadId(row["thread_id"]) for row in rows}


async def insert_thread_refs(tx: Executor, refs: Sequence[tuple[AccountId, int, ThreadId]]) -> None:
    """Remember which thread a hash leads to; the first one stays."""
    if refs:
        await tx.execute(
            """
            INSERT INTO thread_ref (account_id, hash, thread_id)
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
            ON CONFLICT DO NOTHING
            """,
            *zip(*refs, strict=True),
        )


# Reading -----------------------------------------------------------------------------------------

_COLUMNS = 7  # uid, email, thread, received, size, modseq, flags


class Packed(NamedTuple):
    """Messages of a mailbox as columns, by ascending UID; each value is 64 bits."""

    uids: "array[int]"
    email_ids: "array[int]"
    thread_ids: "array[int]"
    received: "array[int]"  # milliseconds since 1970
    sizes: "array[int]"
    modseqs: "array[int]"
    flags: "array[int]"
    keywords: dict[int, tuple[str, ...]]  # of the UIDs that have any
    originals: dict[int, int]  # of the UIDs of copies: the email that was copied

    @classmethod
    def empty(cls) -> "Packed":
        """Return columns without a message."""
        return unpacked(None)


def unpacked(row: Record | None) -> Packed:
    """Read the columns `packed`, `keywords` and `originals` of a row, each of which may be null."""
    values = array("q", row["packed"] if row and row["packed"] else b"")
    values.byteswap()
    columns = [values[offset::_COLUMNS] for offset in range(_COLUMNS)]
    keywords: dict[int, tuple[str, ...]] = {}
    for line in (row["keywords"] or "").splitlines() if row else ():
        uid, *words = line.split(" ")
        keywords[int(uid)] = tuple(words)
    originals: dict[int, int] = {}
    for line in (row["originals"] or "").splitlines() if row else ():
        copy, _, original = line.partition(" ")
        originals[int(copy)] = int(original)
    uids, email_ids, thread_ids, received, sizes, modseqs, flags = columns
    return Packed(uids, email_ids, thread_ids, received, sizes, modseqs, flags, keywords, originals)


async def pack(database: Executor, account: AccountId, mailbox: MailboxId) -> Packed:
    """Return a whole mailbox: one row with one value, because rows cost 100 times more."""
    return unpacked(
        await database.fetchrow(
            """
            SELECT string_agg(
                       int8send(uid) || int8send(email_id) || int8send(thread_id)
                       || int8send((date_part('epoch', received_at) * 1000)::bigint)
                       || int8send(size) || int8send(modseq) || int8send(flags), ''
                   ) AS packed,
                   string_agg(uid || ' ' || array_to_string(keywords, ' '), E'\n')
                       FILTER (WHERE keywords IS NOT NULL) AS keywords,
                   string_agg(uid || ' ' || original_id, E'\n')
                       FILTER (WHERE original_id IS NOT NULL) AS originals
            FROM (
                SELECT uid, email_id, thread_id, received_at, size, modseq, flags, keywords,
                       original_id
                FROM msg
                WHERE account_id = $1 AND mailbox_id = $2
                ORDER BY uid
            ) AS ordered
            """,
            account,
            mailbox,
        )
    )


async def pack_some(
    database: Executor, account: AccountId, mailbox: MailboxId, uids: Sequence[int]
) -> Packed:
    """Return those messages of a mailbox that are still there."""
    return unpacked(
        await database.fetchrow(
            """
            SELECT string_agg(
                       int8send(uid) || int8send(email_id) || int8send(thread_id)
                       || int8send((date_part('epoch', received_at) * 1000)::bigint)
                       || int8send(size) || int8send(modseq) || int8send(flags), ''
                   ) AS packed,
                   string_agg(uid || ' ' || array_to_string(keywords, ' '), E'\n')
                       FILTER (WHERE keywords IS NOT NULL) AS keywords,
                   string_agg(uid || ' ' || original_id, E'\n')
                       FILTER (WHERE original_id IS NOT NULL) AS originals
            FROM (
                SELECT uid, email_id, thread_id, received_at, size, modseq, flags, keywords,
                       original_id
                FROM msg
                WHERE account_id = $1 AND mailbox_id = $2 AND uid = ANY($3::bigint[])
                ORDER BY uid
            ) AS ordered
            """,
            account,
            mailbox,
            uids,
        )
    )


async def saved(
    database: Executor, account: AccountId, mailbox: MailboxId, uids: Sequence[int]
) -> dict[int, int]:
    """Return when messages were saved to a mailbox, in milliseconds since 1970, by UID."""
    packed: bytes | None = await database.fetchval(
        """
        SELECT string_agg(
                   int8send(uid) || int8send((date_part('epoch', saved_at) * 1000)::bigint), ''
               )
        FROM msg
        WHERE account_id = $1 AND mailbox_id = $2 AND uid = ANY($3::bigint[])
        """,
        account,
        mailbox,
        uids,
    )
    values = array("q", packed or b"")
    values.byteswap()
    return dict(zip(values[::2], values[1::2], strict=True))


async def emails(
    database: Executor, account: AccountId, ids: Sequence[int]
) -> dict[EmailId, Email]:
    """Return emails without their headers."""
    rows = await database.fetch(
        """
        SELECT id, thread_id, blob_id, size, received_at, sent_at, env
        FROM email
        WHERE account_id = $1 AND id = ANY($2::bigint[])
        """,
        account,
        ids,
    )
    return {row["id"]: _email(row, b"") for row in rows}


async def emails_with_header(
    database: Executor, account: AccountId, ids: Sequence[int]
) -> dict[EmailId, Email]:
    """Return emails with their header blocks."""
    rows = await database.fetch(
        """
        SELECT id, thread_id, blob_id, size, received_at, sent_at, env, header
        FROM email
        WHERE account_id = $1 AND id = ANY($2::bigint[])
        """,
        account,
        ids,
    )
    return {row["id"]: _email(row, decompress(row["header"])) for row in rows}


async def descriptions(
    database: Executor, account: AccountId, ids: Sequence[int], *, env: int, header: bool
) -> Descriptions:
    """Return the envs, at most so many octets of each, or header blocks of emails that exist."""
    if not env:
        rows = await database.fetch(
            """
            SELECT id, header
            FROM email
            WHERE account_id = $1 AND id = ANY($2::bigint[])
            """,
            account,
            ids,
        )
    elif header:
        rows = await database.fetch(
            """
            SELECT id, header, substr(env, 1, $3)
            FROM email
            WHERE account_id = $1 AND id = ANY($2::bigint[])
            """,
            account,
            ids,
            env,
        )
    else:  # each value of a row costs, even one that is null
        rows = await database.fetch(
            """
            SELECT id, substr(env, 1, $3)
            FROM email
            WHERE account_id = $1 AND id = ANY($2::bigint[])
            """,
            account,
            ids,
            env,
        )
    return Descriptions(
        [row[0] for row in rows],
        [row[-1] for row in rows] if env else [],
        decompress_all([row[1] for row in rows]) if header else [],
    )


def _email(row: Record, header: bytes) -> Email:
    return Email(
        id=row["id"],
        thread_id=row["thread_id"],
        blob_id=row["blob_id"],
        size=row["size"],
        received_at=row["received_at"],
        sent_at=row["sent_at"],
        env=row["env"],
        header=header,
    )


async def memberships(
    database: Executor, account: AccountId, ids: Sequence[int]
) -> list[Membership]:
    """Return in which mailboxes the emails are, and their flags."""
    rows = await database.fetch(
        """
        SELECT mailbox_id, uid, email_id, thread_id, received_at, size, modseq, flags, keywords,
               original_id
        FROM msg
        WHERE account_id = $1 AND email_id = ANY($2::bigint[])
        """,
        account,
        ids,
    )
    return [_membership(row) for row in rows]


def _membership(row: Record) -> Membership:
    return Membership(
        mailbox_id=MailboxId(row["mailbox_id"]),
        uid=Uid(row["uid"]),
        email_id=EmailId(row["email_id"]),
        thread_id=ThreadId(row["thread_id"]),
        received_at=row["received_at"],
        size=row["size"],
        modseq=Modseq(row["modseq"]),
        flags=Flags(row["flags"], tuple(row["keywords"] or ())),
        original_id=row["original_id"],
    )


async def of_threads(
    database: Executor, account: AccountId, threads: Sequence[int]
) -> list[tuple[ThreadId, EmailId]]:
    """Return the emails of threads, oldest first."""
    rows = await database.fetch(
        """
        SELECT thread_id, id
        FROM email
        WHERE account_id = $1 AND thread_id = ANY($2::bigint[])
        ORDER BY received_at, id
        """,
        account,
        threads,
    )
    return [(row["thread_id"], row["id"]) for row in rows]


# Changing ----------------------------------------------------------------------------------------


async def in_mailbox(
    tx: Executor, account: AccountId, mailbox: MailboxId, uids: Sequence[int]
) -> list[Membership]:
    """Return messages of a mailbox by UID; the account row must be locked."""
    rows = await tx.fetch(
        """
        SELECT mailbox_id, uid, email_id, thread_id, received_at, size, modseq, flags, keywords,
               original_id
        FROM msg
        WHERE account_id = $1 AND mailbox_id = $2 AND uid = ANY($3::bigint[])
        ORDER BY uid
        """,
        account,
        mailbox,
        uids,
    )
    return [_membership(row) for row in rows]


async def deleted(
    tx: Executor, account: AccountId, mailbox: MailboxId, uids: Sequence[int] | None
) -> list[Membership]:
    """Return the messages with \\Deleted, of these UIDs or of the whole mailbox."""
    rows = await tx.fetch(
        """
        SELECT mailbox_id, uid, email_id, thread_id, received_at, size, modseq, flags, keywords,
               original_id
        FROM msg
        WHERE account_id = $1 AND mailbox_id = $2 AND flags & $4 <> 0
              AND ($3::bigint[] IS NULL OR uid = ANY($3::bigint[]))
        ORDER BY uid
        """,
        account,
        mailbox,
        uids,
        DELETED,
    )
    return [_membership(row) for row in rows]


def combined(old: Flags, mode: FlagChange, given: Flags) -> Flags:
    """Return the flags that STORE makes of old and given ones (RFC 9051 §6.4.6)."""
    if mode is FlagChange.REPLACE:
        return given
    known = {keyword.lower(): keyword for keyword in old.keywords}
    if mode is FlagChange.ADD:
        bits = old.bits | given.bits
        for keyword in given.keywords:
            known.setdefault(keyword.lower(), keyword)
    else:
        bits = old.bits & ~given.bits
        for keyword in given.keywords:
            known.pop(keyword.lower(), None)
    return Flags(bits, tuple(known[key] for key in sorted(known)))


async def remove(tx: Executor, account: AccountId, mailbox: MailboxId, uids: Sequence[int]) -> None:
    """Take messages out of a mailbox."""
    await tx.execute(
        """
        DELETE FROM msg
        WHERE account_id = $1 AND mailbox_id = $2 AND uid = ANY($3::bigint[])
        """,
        account,
        mailbox,
        uids,
    )


async def present(
    tx: Executor, account: AccountId, mailbox: MailboxId, ids: Sequence[int]
) -> set[EmailId]:
    """Return those emails that are in a mailbox already."""
    rows = await tx.fetch(
        """
        SELECT email_id
        FROM msg
        WHERE account_id = $1 AND mailbox_id = $2 AND email_id = ANY($3::bigint[])
        """,
        account,
        mailbox,
        ids,
    )
    return {EmailId(row["email_id"]) for row in rows}


async def duplicate(
    tx: Executor, account: AccountId, ids: Sequence[tuple[EmailId, EmailId]]
) -> int:
    """Make new emails of the same content, given as (old, new); return the bytes they add."""
    size: int = await tx.fetchval(
        """
        WITH made AS (
            INSERT INTO email (account_id, id, thread_id, blob_id, size, received_at, sent_at, env,
                               header)
            SELECT account_id, d.new, thread_id, blob_id, size, received_at, sent_at, env, header
            FROM unnest($2::bigint[], $3::bigint[]) AS d(old, new)
            JOIN email ON email.account_id = $1 AND email.id = d.old
            RETURNING blob_id, size
        ), counted AS (
            UPDATE blob
            SET refs = blob.refs + m.refs
            FROM (SELECT blob_id, count(*)::int AS refs FROM made GROUP BY blob_id) AS m
            WHERE blob.account_id = $1 AND blob.id = m.blob_id
        )
        SELECT coalesce(sum(size), 0)::bigint FROM made
        """,
        account,
        [old for old, _ in ids],
        [new for _, new in ids],
    )
    return size


async def transplant(
    tx: Executor,
    source: AccountId,
    target: AccountId,
    places: Sequence[tuple[EmailId, EmailId, ThreadId]],
) -> None:
    """Make emails of another account out of emails, given as (old, new, thread of the new)."""
    await tx.execute(
        """
        INSERT INTO email (account_id, id, thread_id, blob_id, size, received_at, sent_at, env,
                           header)
        SELECT $2, d.new, d.thread, blob_id, size, received_at, sent_at, env, header
        FROM unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS d(old, new, thread)
        JOIN email ON email.account_id = $1 AND email.id = d.old
        """,
        source,
        target,
        *zip(*places, strict=True),
    )


async def destroy_homeless(
    tx: Executor, account: AccountId, ids: Sequence[int]
) -> list[tuple[EmailId, BlobId, int]]:
    """Delete those emails that are in no mailbox any more; return their blobs and sizes."""
    rows = await tx.fetch(
        """
        DELETE FROM email
        WHERE account_id = $1 AND id = ANY($2::bigint[])
              AND NOT EXISTS (
                  SELECT FROM msg
                  WHERE msg.account_id = $1 AND msg.email_id = email.id
              )
        RETURNING id, blob_id, size
        """,
        account,
        ids,
    )
    return [(row["id"], row["blob_id"], row["size"]) for row in rows]
