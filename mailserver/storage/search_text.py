"""Statements on the words of messages as they are searched, and on how far the index is."""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from mailserver.model import AccountId, ChangeKind, EmailId, Modseq
from mailserver.storage.database import Executor

EVERYTHING = 2**63 - 1  # no email has a higher id


class Progress(NamedTuple):
    """How far the search text of an account is."""

    modseq: Modseq  # the change log was followed up to here
    before: int | None  # emails with ids below are still to do; None: there are none
    account_modseq: Modseq
    low_water_mark: Modseq


async def progress(database: Executor, account: AccountId) -> Progress | None:
    """Return how far an account is; None when there is no such account.

    Of an account that was never looked at, everything is to do.
    """
    row = await database.fetchrow(
        """
        SELECT p.modseq, p.before, a.modseq AS account_modseq, a.low_water_mark
        FROM account a
        LEFT JOIN search_progress p ON p.account_id = a.id
        WHERE a.id = $1 AND a.remove_at IS NULL
        """,
        account,
    )
    if row is None:
        return None
    if row["modseq"] is None:
        return Progress(Modseq(0), EVERYTHING, row["account_modseq"], Modseq(2**63 - 1))
    return Progress(*row)


async def restart(database: Executor, account: AccountId, modseq: Modseq) -> None:
    """Note that all emails which are there at a modseq have to be looked at."""
    await database.execute(
        """
        INSERT INTO search_progress (account_id, modseq, before)
        VALUES ($1, $2, $3)
        ON CONFLICT (account_id)
        DO UPDATE SET modseq = excluded.modseq, before = excluded.before
        WHERE search_progress.modseq < excluded.modseq
        """,
        account,
        modseq,
        EVERYTHING,
    )


async def lock(tx: Executor, account: AccountId) -> None:
    """Let no other process add to an account until the transaction ends."""
    await tx.fetchval(
        "SELECT modseq FROM search_progress WHERE account_id = $1 FOR UPDATE", account
    )


async def let_wait(tx: Executor, kilobytes: int) -> None:
    """Let so much that this transaction adds wait to be sorted into the index of words.

    What waits is sorted in when it is more. Searches look through it: 1 MB takes 2 ms.
    """
    await tx.execute("SELECT set_config('gin_pending_list_limit', $1, true)", str(kilobytes))


async def advance(tx: Executor, account: AccountId, modseq: Modseq) -> None:
    """Note how far the change log was followed."""
    await tx.execute(
        """
        UPDATE search_progress SET modseq = $2 WHERE account_id = $1 AND modseq < $2
        """,
        account,
        modseq,
    )


async def descend(tx: Executor, account: AccountId, before: int | None) -> None:
    """Note down to which id the emails that were there before are done; None: all are."""
    await tx.execute(
        """
        UPDATE search_progress
        SET before = $2
        WHERE account_id = $1 AND before > coalesce($2::bigint, 0)
        """,
        account,
        before,
    )


class News(NamedTuple):
    """Emails that came or went with one change."""

    modseq: Modseq
    created: bool
    email_ids: list[int]


async def news(database: Executor, account: AccountId, modseq: Modseq, limit: int) -> list[News]:
    """Return what came and went after a modseq, oldest first, and no modseq in part."""
    rows = await database.fetch(
        """
        SELECT modseq, kind, email_ids
        FROM change
        WHERE account_id = $1 AND modseq > $2 AND kind IN ($3, $4)
        ORDER BY modseq
        FETCH FIRST $5 ROWS WITH TIES
        """,
        account,
        modseq,
        ChangeKind.EMAIL_CREATED,
        ChangeKind.EMAIL_DESTROYED,
        limit,
    )
    return [
        News(row["modseq"], row["kind"] == ChangeKind.EMAIL_CREATED, row["email_ids"] or [])
        for row in rows
    ]


async def missing(
    database: Executor, account: AccountId, ids: Sequence[int]
) -> list[tuple[EmailId, int]]:
    """Return those of the emails that exist and are not in the index, with their sizes."""
    rows = await database.fetch(
        """
        SELECT id, size
        FROM email
        WHERE account_id = $1 AND id = ANY($2::bigint[])
              AND NOT EXISTS (
                  SELECT FROM search_word WHERE account_id = $1 AND email_id = email.id
              )
        ORDER BY id
        """,
        account,
        ids,
    )
    return [(each, size) for each, size in rows]


async def missing_before(
    database: Executor, account: AccountId, before: int, limit: int
) -> list[tuple[EmailId, int]]:
    """Return the newest emails with lower ids that are not in the index, with their sizes."""
    rows = await database.fetch(
        """
        SELECT id, size
        FROM email
        WHERE account_id = $1 AND id < $2
              AND NOT EXISTS (
                  SELECT FROM search_word WHERE account_id = $1 AND email_id = email.id
              )
        ORDER BY id DESC
        LIMIT $3
        """,
        account,
        before,
        limit,
    )
    return [(each, size) for each, size in rows]


async def indexed(database: Executor, account: AccountId, ids: Sequence[int]) -> set[int]:
    """Return those of the emails that are in the index."""
    rows = await database.fetch(
        """
        SELECT email_id FROM search_word WHERE account_id = $1 AND email_id = ANY($2::bigint[])
        """,
        account,
        ids,
    )
    return {row["email_id"] for row in rows}


async def insert_words(
    tx: Executor, account: AccountId, words: Sequence[tuple[int, str]]
) -> set[int]:
    """Put emails that still exist into the index, and return them.

    The words of each are joined by blanks.
    """
    rows = await tx.fetch(
        """
        INSERT INTO search_word (account_id, email_id, words)
        SELECT $1, d.id, array_to_tsvector(string_to_array(d.words, ' '))
        FROM unnest($2::bigint[], $3::text[]) AS d(id, words)
        JOIN email ON email.account_id = $1 AND email.id = d.id
        RETURNING email_id
        """,
        account,
        [each for each, _ in words],
        [each for _, each in words],
    )
    return {row["email_id"] for row in rows}


async def remove_words(tx: Executor, account: AccountId, ids: Sequence[int]) -> list[int]:
    """Take emails that do not exist any more out of the index; return those that were in it."""
    rows = await tx.fetch(
        """
        DELETE FROM search_word
        WHERE account_id = $1 AND email_id = ANY($2::bigint[])
              AND NOT EXISTS (
                  SELECT FROM email WHERE account_id = $1 AND id = search_word.email_id
              )
        RETURNING email_id
        """,
        account,
        ids,
    )
    return [row["email_id"] for row in rows]


async def orphans(database: Executor, account: AccountId) -> list[int]:
    """Return the emails in the index that do not exist any more."""
    rows = await database.fetch(
        """
        SELECT email_id
        FROM search_word
        WHERE account_id = $1
              AND NOT EXISTS (
                  SELECT FROM email WHERE account_id = $1 AND id = search_word.email_id
              )
        """,
        account,
    )
    return [row["email_id"] for row in rows]


async def not_indexed(database: Executor, account: AccountId) -> list[int]:
    """Return every email of an account that is not in the index: reads all of both."""
    packed = await database.fetchval(
        """
        SELECT string_agg(int8send(id), '')
        FROM email
        WHERE account_id = $1
              AND NOT EXISTS (
                  SELECT FROM search_word WHERE account_id = $1 AND email_id = email.id
              )
        """,
        account,
    )
    return unpacked(packed).tolist()


async def matching(database: Executor, account: AccountId, query: str) -> "array[int]":
    """Return the emails that match a tsquery, in no order: one scan of the index."""
    packed = await database.fetchval(
        """
        SELECT string_agg(int8send(email_id), '')
        FROM search_word
        WHERE account_id = $1 AND words @@ $2::text::tsquery
        """,
        account,
        query,
    )
    return unpacked(packed)


async def newest_matching(
    database: Executor,
    account: AccountId,
    mailboxes: Sequence[int],
    without: int,
    query: str,
    limit: int,
) -> "tuple[int, array[int], array[int]]":
    """Return the newest messages of mailboxes that match a tsquery, up to `limit` of each.

    They come newest first, as the state of the account, their emails and their threads; an email
    comes once for each mailbox. Messages with any of the flag bits `without` are passed over.
    Walks the index of arrivals and looks at the words of each message: for words that many have.
    CASE hides from the planner how few it would expect, so that it does not sort the mailbox.
    """
    row = await database.fetchrow(
        """
        SELECT account.modseq, found.packed
        FROM account
        CROSS JOIN (
            SELECT string_agg(int8send(email_id) || int8send(thread_id), ''
                              ORDER BY received_at DESC, tie DESC) AS packed
            FROM unnest($2::bigint[]) AS mailbox(id)
            CROSS JOIN LATERAL (
                SELECT email_id, thread_id, received_at,
                       CASE WHEN cardinality($2::bigint[]) = 1 THEN uid ELSE email_id END AS tie
                FROM msg
                WHERE account_id = $1 AND mailbox_id = mailbox.id
                      AND CASE WHEN flags & $3 = 0 THEN (
                          SELECT words @@ $4::text::tsquery
                          FROM search_word
                          WHERE account_id = $1 AND search_word.email_id = msg.email_id
                      ) END
                ORDER BY received_at DESC, uid DESC
                LIMIT $5
            ) AS page
        ) AS found
        WHERE account.id = $1
        """,
        account,
        mailboxes,
        without,
        query,
        limit,
    )
    values = unpacked(None if row is None else row["packed"])
    return 0 if row is None else row["modseq"], values[0::2], values[1::2]


async def accounts_behind(database: Executor, limit: int) -> list[AccountId]:
    """Return accounts whose search text is not complete."""
    rows = await database.fetch(
        """
        SELECT a.id
        FROM account a
        LEFT JOIN search_progress p ON p.account_id = a.id
        WHERE a.remove_at IS NULL AND CASE
            WHEN p.modseq IS NULL THEN a.modseq > 0
            WHEN p.before IS NOT NULL OR p.modseq < a.low_water_mark THEN true
            WHEN p.modseq = a.modseq THEN false
            ELSE EXISTS (
                SELECT FROM change c
                WHERE c.account_id = a.id AND c.modseq > p.modseq AND c.kind IN ($1, $2)
            )
        END
        LIMIT $3
        """,
        ChangeKind.EMAIL_CREATED,
        ChangeKind.EMAIL_DESTROYED,
        limit,
    )
    return [row["id"] for row in rows]


async def existing(database: Executor, account: AccountId, ids: Sequence[int]) -> set[int]:
    """Return those of the emails that exist."""
    rows = await database.fetch(
        "SELECT id FROM email WHERE account_id = $1 AND id = ANY($2::bigint[])", account, ids
    )
    return {row["id"] for row in rows}


def packed(ids: Sequence[int]) -> bytes:
    """Write 64-bit integers in network order."""
    values = array("q", ids)
    values.byteswap()
    return values.tobytes()


def unpacked(octets: bytes | None) -> "array[int]":
    """Read 64-bit integers in network order."""
    values = array("q", octets or b"")
    values.byteswap()
    return values
