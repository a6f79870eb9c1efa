"""Statements that find messages.

Messages with \\Deleted do not exist for whoever searches here (RFC 8621 §4.1.1).
"""

from array import array
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from mailserver.model import DELETED, SEEN, AccountId, BlobId, MailboxId
from mailserver.storage.database import Executor, Record

_PAST = datetime(1, 1, 2, tzinfo=UTC)
_FUTURE = datetime(9999, 12, 30, tzinfo=UTC)


class Narrow(NamedTuple):
    """The criteria that one statement answers alone."""

    mailbox_id: MailboxId | None  # None: of the whole account
    having: int = 0  # flag bits that must be set
    lacking: int = 0  # flag bits that must not be set
    after: datetime | None = None
    before: datetime | None = None
    minimum: int = 0  # bytes
    below: int = 2**62  # bytes
    words: frozenset[str] = frozenset()  # other keywords, lower case, that must be set
    no_words: frozenset[str] = frozenset()  # and that must not be

    def arguments(self, account: AccountId) -> tuple[object, ...]:
        """Return $1 to $10 of the statements that take one."""
        return (
            account,
            self.mailbox_id,
            self.having | self.lacking | DELETED,
            self.having,
            self.after or _PAST,
            self.before or _FUTURE,
            self.minimum,
            self.below,
            list(self.words) or None,
            list(self.no_words) or None,
        )


class Page(NamedTuple):
    """A stretch of a mailbox in the order of arrival, and what its counters say of the whole."""

    modseq: int  # the state of the account that it shows
    total: int | None  # of the matches; None when no counter says it
    email_ids: "array[int]"
    thread_ids: "array[int]"


NOTHING_THERE = Page(0, 0, array("q"), array("q"))


async def newest(
    database: Executor, account: AccountId, narrow: Narrow, offset: int, limit: int
) -> Page:
    """Return messages of a mailbox, newest first: an index scan that stops at the limit.

    CASE and the row comparison hide from the planner how few rows it would expect: it then walks
    the index in its order instead of sorting the mailbox. The last of the unseen messages is not
    looked behind: how many there are is known.
    """
    unseen = narrow.lacking == SEEN and not narrow.having
    row = await database.fetchrow(
        """
        SELECT account.modseq, mailbox.total, mailbox.unseen, mailbox.deleted, found.packed
        FROM account
        LEFT JOIN mailbox ON mailbox.account_id = $1 AND mailbox.id = $2
        CROSS JOIN (
            SELECT string_agg(int8send(email_id) || int8send(thread_id), ''
                              ORDER BY received_at DESC, uid DESC) AS packed
            FROM (
                SELECT received_at, uid, email_id, thread_id
                FROM msg
                WHERE account_id = $1 AND mailbox_id = $2
                      AND (received_at, uid) >= ($5, 0) AND received_at < $6
                      AND CASE
                          WHEN flags & $3 = $4 AND size >= $7 AND size < $8
                               AND ($9::text[] IS NULL OR lower(keywords::text)::text[] @> $9)
                               AND ($10::text[] IS NULL OR keywords IS NULL
                                    OR NOT lower(keywords::text)::text[] && $10)
                          THEN true
                      END
                ORDER BY received_at DESC, uid DESC
                OFFSET $11
                LIMIT least($12::bigint, CASE WHEN $13 THEN greatest(0, (
                    SELECT unseen FROM mailbox WHERE account_id = $1 AND id = $2
                ) - $11) END)
            ) AS page
        ) AS found
        WHERE account.id = $1
        """,
        *narrow.arguments(account),
        offset,
        limit,
        unseen,
    )
    if row is None:
        return NOTHING_THERE
    values = numbers(row)
    total: int | None = None
    if row["total"] is None:
        total = 0
    elif narrow == Narrow(narrow.mailbox_id):
        total = row["total"] - row["deleted"]
    elif narrow == Narrow(narrow.mailbox_id, lacking=SEEN) and not row["deleted"]:
        total = row["unseen"]
    return Page(row["modseq"], total, values[0::2], values[1::2])


async def matching(
    database: Executor, account: AccountId, narrow: Narrow, ids: Sequence[int]
) -> Page:
    """Return which of some emails match, in no order."""
    row = await database.fetchrow(
        """
        SELECT account.modseq, found.packed
        FROM account
        CROSS JOIN (
            SELECT string_agg(int8send(email_id) || int8send(thread_id), '') AS packed
            FROM msg
            WHERE account_id = $1 AND email_id = ANY($11::bigint[]) AND mailbox_id = $2
                  AND flags & $3 = $4 AND received_at >= $5 AND received_at < $6
                  AND size >= $7 AND size < $8
                  AND ($9::text[] IS NULL OR lower(keywords::text)::text[] @> $9)
                  AND ($10::text[] IS NULL OR keywords IS NULL
                       OR NOT lower(keywords::text)::text[] && $10)
        ) AS found
        WHERE account.id = $1
        """,
        *narrow.arguments(account),
        ids,
    )
    if row is None:
        return NOTHING_THERE
    values = numbers(row)
    return Page(row["modseq"], None, values[0::2], values[1::2])


def numbers(row: Record | None) -> "array[int]":
    """Read 64-bit integers out of one value: rows cost a hundred times more."""
    values = array("q", row["packed"] if row and row["packed"] else b"")
    values.byteswap()
    return values


async def newest_of_account(
    database: Executor,
    account: AccountId,
    narrow: Narrow,
    *,
    within: Collection[MailboxId] | None,
    outside: Collection[MailboxId],
    limit: int | None,
) -> Page:
    """Return the first emails of an account or a mailbox, newest first, or all.

    They are in one of the mailboxes `within`, if not in any, and in one that is not `outside`.
    """
    row = await database.fetchrow(
        """
        SELECT account.modseq, found.packed
        FROM account
        CROSS JOIN (
            SELECT string_agg(int8send(email_id) || int8send(thread_id), ''
                              ORDER BY received_at DESC, tie DESC) AS packed
            FROM (
                SELECT email_id, min(thread_id) AS thread_id, min(received_at) AS received_at,
                       CASE WHEN $2::bigint IS NULL THEN email_id ELSE min(uid) END AS tie
                FROM msg
                WHERE account_id = $1 AND ($2 IS NULL OR mailbox_id = $2)
                      AND flags & $3 = $4 AND received_at >= $5 AND received_at < $6
                      AND size >= $7 AND size < $8
                      AND ($9::text[] IS NULL OR lower(keywords::text)::text[] @> $9)
                      AND ($10::text[] IS NULL OR keywords IS NULL
                           OR NOT lower(keywords::text)::text[] && $10)
                      AND ($11::bigint[] IS NULL OR mailbox_id = ANY($11))
                      AND mailbox_id <> ALL($12::bigint[])
                GROUP BY email_id
                ORDER BY min(received_at) DESC, tie DESC
                LIMIT $13
            ) AS page
        ) AS found
        WHERE account.id = $1
        """,
        *narrow.arguments(account),
        None if within is None else list(within),
        list(outside),
        limit,
    )
    if row is None:
        return NOTHING_THERE
    values = numbers(row)
    total = len(values) // 2 if limit is None else None
    return Page(row["modseq"], total, values[0::2], values[1::2])


class Count(NamedTuple):
    """How many messages match, and how many threads they are of."""

    emails: int
    threads: int


async def count(database: Executor, account: AccountId, narrow: Narrow) -> Count:
    """Count messages of a mailbox."""
    row = await database.fetchrow(
        """
        SELECT count(*) AS emails, count(DISTINCT thread_id) AS threads
        FROM msg
        WHERE account_id = $1 AND mailbox_id = $2 AND flags & $3 = $4
              AND received_at >= $5 AND received_at < $6
              AND size >= $7 AND size < $8
              AND ($9::text[] IS NULL OR lower(keywords::text)::text[] @> $9)
              AND ($10::text[] IS NULL OR keywords IS NULL
                   OR NOT lower(keywords::text)::text[] && $10)
        """,
        *narrow.arguments(account),
    )
    return Count(row["emails"], row["threads"]) if row else Count(0, 0)


COLUMNS = 7


class Candidates(NamedTuple):
    """Memberships as columns of 64 bits, in no order, and the state of the account they show."""

    modseq: int
    email_ids: "array[int]"
    thread_ids: "array[int]"
    mailbox_ids: "array[int]"
    uids: "array[int]"
    received: "array[int]"  # microseconds since 1970
    sizes: "array[int]"
    flags: "array[int]"
    keywords: dict[int, frozenset[str]]  # lower case, of the emails that have any


def _candidates(row: Record | None) -> Candidates:
    values = numbers(row)
    keywords: dict[int, frozenset[str]] = {}
    for line in (row["keywords"] or "").splitlines() if row else ():
        email_id, *words = line.split(" ")
        keywords[int(email_id)] = frozenset(words)
    columns = (values[offset::COLUMNS] for offset in range(COLUMNS))
    return Candidates._make((row["modseq"] if row else 0, *columns, keywords))


async def of_mailbox(database: Executor, account: AccountId, mailbox: MailboxId) -> Candidates:
    """Return every message of a mailbox, as one value."""
    return _candidates(
        await database.fetchrow(
            """
            SELECT account.modseq, found.packed, found.keywords
            FROM account
            CROSS JOIN (
                SELECT string_agg(
                           int8send(email_id) || int8send(thread_id) || int8send(mailbox_id)
                           || int8send(uid)
                           || int8send((date_part('epoch', received_at) * 1000000)::bigint)
                           || int8send(size) || int8send(flags), ''
                       ) AS packed,
                       string_agg(email_id || ' ' || lower(array_to_string(keywords, ' ')), E'\n')
                           FILTER (WHERE keywords IS NOT NULL) AS keywords
                FROM msg
                WHERE account_id = $1 AND mailbox_id = $2 AND flags & $3 = 0
            ) AS found
            WHERE account.id = $1
            """,
            account,
            mailbox,
            DELETED,
        )
    )


async def of_account(database: Executor, account: AccountId) -> Candidates:
    """Return every message of every mailbox, as one value."""
    return _candidates(
        await database.fetchrow(
            """
            SELECT account.modseq, found.packed, found.keywords
            FROM account
            CROSS JOIN (
                SELECT string_agg(
                           int8send(email_id) || int8send(thread_id) || int8send(mailbox_id)
                           || int8send(uid)
                           || int8send((date_part('epoch', received_at) * 1000000)::bigint)
                           || int8send(size) || int8send(flags), ''
                       ) AS packed,
                       string_agg(email_id || ' ' || lower(array_to_string(keywords, ' ')), E'\n')
                           FILTER (WHERE keywords IS NOT NULL) AS keywords
                FROM msg
                WHERE account_id = $1 AND flags & $2 = 0
            ) AS found
            WHERE account.id = $1
            """,
            account,
            DELETED,
        )
    )


async def of_emails(database: Executor, account: AccountId, ids: Sequence[int]) -> Candidates:
    """Return where emails are, as one value."""
    return _candidates(
        await database.fetchrow(
            """
            SELECT account.modseq, found.packed, found.keywords
            FROM account
            CROSS JOIN (
                SELECT string_agg(
                           int8send(email_id) || int8send(thread_id) || int8send(mailbox_id)
                           || int8send(uid)
                           || int8send((date_part('epoch', received_at) * 1000000)::bigint)
                           || int8send(size) || int8send(flags), ''
                       ) AS packed,
                       string_agg(email_id || ' ' || lower(array_to_string(keywords, ' ')), E'\n')
                           FILTER (WHERE keywords IS NOT NULL) AS keywords
                FROM msg
                WHERE account_id = $1 AND email_id = ANY($2::bigint[]) AND flags & $3 = 0
            ) AS found
            WHERE account.id = $1
            """,
            account,
            ids,
            DELETED,
        )
    )


class Stored(NamedTuple):
    """What a list shows of a message besides where it is."""

    blob_id: BlobId
    env: bytes


async def with_envelopes(
    database: Executor, account: AccountId, ids: Sequence[int], envelopes_of: Sequence[int]
) -> tuple[Candidates, dict[int, Stored]]:
    """Return where emails are, and the envelopes of some, in one row: what a client lists."""
    row = await database.fetchrow(
        """
        SELECT account.modseq, found.packed, found.keywords, stored.ids, stored.blob_ids,
               stored.envs
        FROM account
        CROSS JOIN (
            SELECT string_agg(
                       int8send(email_id) || int8send(thread_id) || int8send(mailbox_id)
                       || int8send(uid)
                       || int8send((date_part('epoch', received_at) * 1000000)::bigint)
                       || int8send(size) || int8send(flags), ''
                   ) AS packed,
                   string_agg(email_id || ' ' || lower(array_to_string(keywords, ' ')), E'\n')
                       FILTER (WHERE keywords IS NOT NULL) AS keywords
            FROM msg
            WHERE account_id = $1 AND email_id = ANY($2::bigint[]) AND flags & $3 = 0
        ) AS found
        CROSS JOIN (
            SELECT array_agg(id) AS ids, array_agg(blob_id) AS blob_ids, array_agg(env) AS envs
            FROM email
            WHERE account_id = $1 AND id = ANY($4::bigint[])
        ) AS stored
        WHERE account.id = $1
        """,
        account,
        ids,
        DELETED,
        envelopes_of,
    )
    stored: dict[int, Stored] = {}
    if row and row["ids"]:
        pairs = map(Stored, row["blob_ids"], row["envs"])
        stored = dict(zip(row["ids"], pairs, strict=True))
    return _candidates(row), stored


async def of_threads(
    database: Executor,
    account: AccountId,
    threads: Sequence[int],
    within: Collection[MailboxId] | None,
) -> list[tuple[int, int]]:
    """Return thread and email of the emails of threads, oldest first, in mailboxes or any."""
    packed = await database.fetchrow(
        """
        SELECT string_agg(int8send(thread_id) || int8send(id), '' ORDER BY received_at, id)
                   AS packed
        FROM email
        WHERE account_id = $1 AND thread_id = ANY($2::bigint[])
              AND EXISTS (
                  SELECT
                  FROM msg
                  WHERE msg.account_id = $1 AND msg.email_id = email.id AND flags & $3 = 0
                        AND ($4::bigint[] IS NULL OR mailbox_id = ANY($4::bigint[]))
              )
        """,
        account,
        threads,
        DELETED,
        None if within is None else list(within),
    )
    values = numbers(packed)
    return list(zip(values[0::2], values[1::2], strict=True))


async def mailboxes_of_threads(
    database: Executor, account: AccountId, threads: Sequence[int]
) -> set[MailboxId]:
    """Return the mailboxes that hold any email of these threads."""
    rows = await database.fetch(
        """
        SELECT DISTINCT msg.mailbox_id
        FROM email
        JOIN msg ON msg.account_id = email.account_id AND msg.email_id = email.id
        WHERE email.account_id = $1 AND msg.account_id = $1
              AND email.thread_id = ANY($2::bigint[])
        """,
        account,
        threads,
    )
    return {MailboxId(row["mailbox_id"]) for row in rows}
