"""Statements on the change log."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import AccountId, ChangeEntry, ChangeKind, MailboxId, Modseq
from mailserver.storage.database import Executor


async def append(
    tx: Executor, entries: Sequence[tuple[AccountId, ChangeEntry]], now: datetime
) -> None:
    """Write what happened, in the transaction in which it happens."""
    await tx.execute(
        """
        INSERT INTO change (account_id, modseq, kind, mailbox_id, uids, email_ids, thread_ids,
                            names, created_at)
        SELECT account_id, modseq, kind, mailbox_id, uids::bigint[], email_ids::bigint[],
               thread_ids::bigint[], string_to_array(names, E'\\n'), $9
        FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::text[],
                    $6::text[], $7::text[], $8::text[])
             AS d(account_id, modseq, kind, mailbox_id, uids, email_ids, thread_ids, names)
        """,
        *columns(entries),
        ["\n".join(entry.names) for _, entry in entries],  # no name has a line end
        now,
    )


def columns(entries: Sequence[tuple[AccountId, ChangeEntry]]) -> list[Sequence[object]]:
    """Return the columns of a change log that is to be written, for unnest, without names."""
    return [
        [account for account, _ in entries],
        [entry.modseq for _, entry in entries],
        [int(entry.kind) for _, entry in entries],
        [entry.mailbox_id for _, entry in entries],
        [_array(entry.uids) for _, entry in entries],
        [_array(entry.email_ids) for _, entry in entries],
        [_array(entry.thread_ids) for _, entry in entries],
    ]


def _array(values: Sequence[int]) -> str:
    """Write an array of its own length per row: unnest takes only rectangular ones."""
    return "{" + ",".join(map(str, values)) + "}"


async def since(
    database: Executor, account: AccountId, modseq: int, limit: int | None
) -> list[ChangeEntry]:
    """Return what happened after `modseq`, oldest first, at most `limit` rows."""
    rows = await database.fetch(
        """
        SELECT modseq, kind, mailbox_id, uids, email_ids, thread_ids, names
        FROM change
        WHERE account_id = $1 AND modseq > $2
        ORDER BY modseq
        LIMIT $3
        """,
        account,
        modseq,
        limit,
    )
    return [
        ChangeEntry(
            modseq=Modseq(row["modseq"]),
            kind=ChangeKind(row["kind"]),
            mailbox_id=MailboxId(row["mailbox_id"]),
            uids=tuple(row["uids"]),
            email_ids=tuple(row["email_ids"]),
            thread_ids=tuple(row["thread_ids"]),
            names=tuple(row["names"]),
        )
        for row in rows
    ]


class Summary(NamedTuple):
    """Where an account is, and what kinds of things happened to which mailboxes on the way."""

    modseq: Modseq
    low_water_mark: int
    rows: list[tuple[ChangeKind, MailboxId]]


async def summary(database: Executor, account: AccountId, modseq: Modseq, limit: int) -> Summary:
    """Return what happened after `modseq`, of at most `limit` rows of the log."""
    row = await database.fetchrow(
        """
        SELECT account.modseq, account.low_water_mark, log.kinds, log.mailbox_ids
        FROM account
        CROSS JOIN (
            SELECT array_agg(kind) AS kinds, array_agg(mailbox_id) AS mailbox_ids
            FROM (
                SELECT kind, mailbox_id
                FROM change
                WHERE account_id = $1 AND modseq > $2
                ORDER BY modseq
                LIMIT $3
            ) AS entries
        ) AS log
        WHERE account.id = $1
        """,
        account,
        modseq,
        limit,
    )
    if row is None:
        return Summary(Modseq(0), 0, [])
    pairs = zip(row["kinds"] or (), row["mailbox_ids"] or (), strict=True)
    rows = [(ChangeKind(kind), MailboxId(mailbox)) for kind, mailbox in pairs]
    return Summary(Modseq(row["modseq"]), row["low_water_mark"], rows)


class News(NamedTuple):
    """Where an account is, and what happened to one of its mailboxes."""

    modseq: Modseq
    low_water_mark: int
    entries: list[tuple[Modseq, ChangeKind, list[int]]]  # with their UIDs, oldest first


async def news(
    database: Executor, account: AccountId, mailbox: MailboxId, modseq: int
) -> News | None:
    """Return what happened to a mailbox after `modseq`, all as of one moment."""
    rows = await database.fetch(
        """
        SELECT account.modseq, low_water_mark, c.modseq, kind, uids
        FROM account
        LEFT JOIN LATERAL (
            SELECT change.modseq, kind, uids
            FROM change
            WHERE account_id = $1 AND change.modseq > $3 AND mailbox_id = $2
        ) AS c ON true
        WHERE account.id = $1
        ORDER BY c.modseq
        """,
        account,
        mailbox,
        modseq,
    )
    if not rows:
        return None
    entries = [(at, ChangeKind(kind), uids or []) for _, _, at, kind, uids in rows if at]
    return News(rows[0][0], rows[0][1], entries)


async def low_water_mark(database: Executor, account: AccountId) -> int:
    """Return the modseq up to which changes have been trimmed."""
    mark: int | None = await database.fetchval(
        "SELECT low_water_mark FROM account WHERE id = $1", account
    )
    return mark or 0


async def trim(database: Executor, before: datetime) -> int:
    """Drop changes older than a time, and remember up to where; return how many rows went."""
    rows = await database.fetch(
        """
        WITH gone AS (
            DELETE FROM change WHERE created_at < $1 RETURNING account_id, modseq
        ), marks AS (
            SELECT account_id, max(modseq) AS modseq, count(*) AS rows FROM gone GROUP BY account_id
        ), locked AS MATERIALIZED (
            SELECT id
            FROM account
            WHERE id IN (SELECT account_id FROM marks)
            ORDER BY id  -- as every writer does, so that none waits in a circle
            FOR NO KEY UPDATE
        )
        UPDATE account
        SET low_water_mark = greatest(account.low_water_mark, marks.modseq)
        FROM marks
        JOIN locked ON locked.id = marks.account_id
        WHERE account.id = locked.id
        RETURNING marks.rows
        """,
        before,
    )
    return sum(row["rows"] for row in rows)
