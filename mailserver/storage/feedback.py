"""Statements on reports of DMARC and TLS: received, counted for others, and sent."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

from mailserver.model import AccountId, Modseq
from mailserver.storage.database import Executor


class ReportRow(NamedTuple):
    """A report that was received; `content` is zstd of JSON."""

    id: int
    kind: int
    organization: str
    report_id: str
    domain: str
    begins_at: datetime
    ends_at: datetime
    received_at: datetime
    passed: int
    failed: int
    content: bytes


class CountRow(NamedTuple):
    """How often something was seen on a day that a domain wants to know of."""

    kind: int
    day: date
    domain: str
    digest: bytes
    detail: str
    times: int


async def insert_report(tx: Executor, row: ReportRow) -> bool:
    """Store a report; False when it is known already."""
    tag = await tx.execute(
        """
        INSERT INTO feedback_report (id, kind, organization, report_id, domain, begins_at, ends_at,
                                     received_at, passed, failed, content)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (kind, organization, report_id, domain) DO NOTHING
        """,
        *row,
    )
    return tag.endswith(" 1")


async def reports(
    database: Executor, kind: int, domain: str | None, since: datetime, limit: int
) -> list[ReportRow]:
    """Return the newest reports, without what is in them."""
    rows = await database.fetch(
        """
        SELECT id, kind, organization, report_id, domain, begins_at, ends_at, received_at,
               passed, failed, ''::bytea AS content
        FROM feedback_report
        WHERE kind = $1 AND received_at >= $2 AND ($3::text IS NULL OR domain = $3)
        ORDER BY received_at DESC
        LIMIT $4
        """,
        kind,
        since,
        domain,
        limit,
    )
    return [ReportRow(*row) for row in rows]


async def report(database: Executor, kind: int, id: int) -> ReportRow | None:
    """Return one report."""
    row = await database.fetchrow(
        """
        SELECT id, kind, organization, report_id, domain, begins_at, ends_at, received_at,
               passed, failed, content
        FROM feedback_report
        WHERE id = $1 AND kind = $2
        """,
        id,
        kind,
    )
    return None if row is None else ReportRow(*row)


async def place(database: Executor, account: AccountId) -> Modseq:
    """Return how far the mail of an account was looked through."""
    found = await database.fetchval(
        "SELECT modseq FROM feedback_place WHERE account_id = $1", account
    )
    return Modseq(found or 0)


async def advance(tx: Executor, account: AccountId, before: Modseq, after: Modseq) -> bool:
    """Note that mail was looked through; False when somebody else has done it."""
    tag = await tx.execute(
        """
        INSERT INTO feedback_place AS place (account_id, modseq)
        VALUES ($1, $3)
        ON CONFLICT (account_id)
        DO UPDATE SET modseq = excluded.modseq WHERE place.modseq = $2
        """,
        account,
        before,
        after,
    )
    return tag.endswith(" 1")


async def add_counts(database: Executor, rows: Sequence[CountRow]) -> None:
    """Add to what was counted; one row of each at most."""
    await database.execute(
        """
        INSERT INTO feedback_count AS known (kind, day, domain, digest, detail, count)
        SELECT * FROM unnest($1::smallint[], $2::date[], $3::text[], $4::bytea[], $5::text[],
                             $6::bigint[])
        ORDER BY 1, 2, 3, 4
        ON CONFLICT (kind, day, domain, digest)
        DO UPDATE SET count = known.count + excluded.count
        """,
        *zip(*rows, strict=True),
    )


async def domains_to_report(
    database: Executor, kind: int, day: date, after: str, limit: int
) -> list[str]:
    """Return domains with counts of a day that nothing was decided about, by name."""
    rows = await database.fetch(
        """
        SELECT DISTINCT domain
        FROM feedback_count
        WHERE kind = $1 AND day = $2 AND domain > $3
          AND NOT EXISTS (
              SELECT FROM feedback_sent AS sent
              WHERE sent.kind = $1 AND sent.day = $2 AND sent.domain = feedback_count.domain
          )
        ORDER BY domain
        LIMIT $4
        """,
        kind,
        day,
        after,
        limit,
    )
    return [row["domain"] for row in rows]


async def counts(
    database: Executor, kind: int, day: date, domain: str, limit: int
) -> list[tuple[str, int]]:
    """Return what was counted for a domain on a day, the most first."""
    rows = await database.fetch(
        """
        SELECT detail, count
        FROM feedback_count
        WHERE kind = $1 AND day = $2 AND domain = $3
        ORDER BY count DESC, digest
        LIMIT $4
        """,
        kind,
        day,
        domain,
        limit,
    )
    return [(row["detail"], row["count"]) for row in rows]


class SeenRow(NamedTuple):
    """What was counted on a day; `detail` is JSON."""

    day: date
    domain: str
    detail: str
    times: int


async def seen(
    database: Executor, kind: int, domain: str | None, since: date, limit: int
) -> list[SeenRow]:
    """Return what was counted, the newest days first."""
    rows = await database.fetch(
        """
        SELECT day, domain, detail, count
        FROM feedback_count
        WHERE kind = $1 AND day >= $2 AND ($3::text IS NULL OR domain = $3)
        ORDER BY day DESC, domain, count DESC
        LIMIT $4
        """,
        kind,
        since,
        domain,
        limit,
    )
    return [SeenRow(*row) for row in rows]


async def count_sent(database: Executor, kind: int, since: datetime) -> int:
    """Return how many reports were sent."""
    found = await database.fetchval(
        """
        SELECT count(*) FROM feedback_sent
        WHERE kind = $1 AND day >= ($2::timestamptz - interval '3 days')::date
          AND sent_at >= $2 AND outcome = 'sent'
        """,
        kind,
        since,
    )
    return int(found)


async def decide(
    tx: Executor,
    kind: int,
    day: date,
    domain: str,
    outcome: str,
    queue_id: int | None,
    now: datetime,
) -> bool:
    """Note what became of a report; False when that was decided before."""
    tag = await tx.execute(
        """
        INSERT INTO feedback_sent (kind, day, domain, outcome, queue_id, sent_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT DO NOTHING
        """,
        kind,
        day,
        domain,
        outcome,
        queue_id,
        now,
    )
    return tag.endswith(" 1")


class SentRow(NamedTuple):
    """What became of a report to another domain."""

    day: date
    domain: str
    outcome: str
    sent_at: datetime


async def sent(database: Executor, kind: int, since: date, limit: int) -> list[SentRow]:
    """Return what became of reports, the newest days first."""
    rows = await database.fetch(
        """
        SELECT day, domain, outcome, sent_at
        FROM feedback_sent
        WHERE kind = $1 AND day >= $2
        ORDER BY day DESC, domain
        LIMIT $3
        """,
        kind,
        since,
        limit,
    )
    return [SentRow(*row) for row in rows]


async def suppress_returned(
    database: Executor, failed: int, until: datetime, now: datetime
) -> list[str]:
    """Write to those no more whose mail server refused a report; return the new ones."""
    rows = await database.fetch(
        """
        INSERT INTO feedback_suppressed AS known (address, until)
        SELECT DISTINCT lower(recipient.recipient), $2::timestamptz
        FROM feedback_sent AS sent
        JOIN queue_recipient AS recipient ON recipient.message_id = sent.queue_id
        WHERE sent.queue_id IS NOT NULL AND recipient.state = $1
        ON CONFLICT (address) DO UPDATE SET until = excluded.until WHERE known.until < $3
        RETURNING address
        """,
        failed,
        until,
        now,
    )
    return [row["address"] for row in rows]


async def suppressed(database: Executor, addresses: Sequence[str], now: datetime) -> set[str]:
    """Return those of the addresses that are not written to."""
    rows = await database.fetch(
        "SELECT address FROM feedback_suppressed WHERE address = ANY($1) AND until > $2",
        list(addresses),
        now,
    )
    return {row["address"] for row in rows}


async def expire(
    database: Executor, before: datetime, counted_before: datetime, now: datetime
) -> int:
    """Forget reports and decisions that are older, and counts; return how many reports went."""
    tag = await database.execute(
        "DELETE FROM feedback_report WHERE kind = ANY('{1,2}') AND received_at < $1", before
    )
    await database.execute(
        "DELETE FROM feedback_count WHERE kind = ANY('{1,2}') AND day < $1::timestamptz::date",
        counted_before,
    )
    await database.execute(
        "DELETE FROM feedback_sent WHERE kind = ANY('{1,2}') AND day < $1::timestamptz::date",
        before,
    )
    await database.execute("DELETE FROM feedback_suppressed WHERE until < $1", now)
    return int(tag.rpartition(" ")[2])
