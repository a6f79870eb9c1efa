"""Statements of the workers: claim, record, give back, and what is left of workers that died.

A row that a worker has is in state 5 and names it; the lease of the worker is one row of `lease`,
so a heartbeat is one small write however much it has.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from mailserver.model import AccountId, BlobId, QueueId, QueueState
from mailserver.storage.database import Executor, Record

LEASE_PREFIX = "queue/"  # before the name of a worker in `lease`


class Claimed(NamedTuple):
    """One recipient that a worker has, with the message it gets."""

    message_id: QueueId
    recipient: str
    domain: str
    attempts: int  # with the one that begins now
    expires_at: datetime
    notify: str | None
    orcpt: str | None
    account_id: AccountId
    blob_id: BlobId
    sender: str
    size: int
    smtputf8: bool
    body: str
    envid: str | None
    ret: str | None
    received_at: datetime
    require_tls: bool
    deliver_by: datetime | None
    by_mode: str | None
    priority: int
    traceparent: str | None


def _claimed(row: Record) -> Claimed:
    return Claimed(*row)


async def claim(database: Executor, owner: str, now: datetime, limit: int) -> list[Claimed]:
    """Take the recipients due for longest, rank by rank; their attempt is counted from now on."""
    rows = await database.fetch(
        """
        WITH due AS (
            SELECT found.message_id, found.recipient
            FROM generate_series(0, 2) AS wanted(rank)
            CROSS JOIN LATERAL (
                SELECT message_id, recipient
                FROM queue_recipient
                WHERE state = 0 AND rank = wanted.rank AND next_attempt <= $2
                ORDER BY next_attempt
                LIMIT $3
                FOR UPDATE SKIP LOCKED
            ) AS found
            LIMIT $3
        )
        UPDATE queue_recipient r
        SET state = 5, lease_owner = $1, attempts = r.attempts + 1, last_attempt = $2
        FROM due
        JOIN queue_message m ON m.id = due.message_id
        WHERE r.message_id = due.message_id AND r.recipient = due.recipient
        RETURNING r.message_id, r.recipient, r.domain, r.attempts, r.expires_at, r.notify, r.orcpt,
                  m.account_id, m.blob_id, m.sender, m.size, m.smtputf8, m.body, m.envid, m.ret,
                  m.received_at, m.require_tls, m.deliver_by, m.by_mode, m.priority, m.traceparent
        """,
        owner,
        now,
        limit,
    )
    return [_claimed(row) for row in rows]


async def claim_of(
    database: Executor, owner: str, now: datetime, limit: int, domains: Sequence[str], each: int
) -> list[Claimed]:
    """Take recipients of some domains only, not more than `each` of one."""
    rows = await database.fetch(
        """
        WITH due AS (
            SELECT found.message_id, found.recipient
            FROM generate_series(0, 2) AS wanted(rank), unnest($4::text[]) AS asked(domain)
            CROSS JOIN LATERAL (
                SELECT message_id, recipient
                FROM queue_recipient
                WHERE state = 0 AND domain = asked.domain AND rank = wanted.rank
                      AND next_attempt <= $2
                ORDER BY next_attempt
                LIMIT $5
                FOR UPDATE SKIP LOCKED
            ) AS found
            LIMIT $3
        )
        UPDATE queue_recipient r
        SET state = 5, lease_owner = $1, attempts = r.attempts + 1, last_attempt = $2
        FROM due
        JOIN queue_message m ON m.id = due.message_id
        WHERE r.message_id = due.message_id AND r.recipient = due.recipient
        RETURNING r.message_id, r.recipient, r.domain, r.attempts, r.expires_at, r.notify, r.orcpt,
                  m.account_id, m.blob_id, m.sender, m.size, m.smtputf8, m.body, m.envid, m.ret,
                  m.received_at, m.require_tls, m.deliver_by, m.by_mode, m.priority, m.traceparent
        """,
        owner,
        now,
        limit,
        domains,
        each,
    )
    return [_claimed(row) for row in rows]


async def domains_after(database: Executor, domain: str, limit: int) -> list[str]:
    """Return the next domains, in order, that anything waits for.

    One step into the index for each domain, however many recipients wait for it.
    """
    rows = await database.fetch(
        """
        WITH RECURSIVE step AS (
            (
                SELECT domain
                FROM queue_recipient
                WHERE state = 0 AND domain > $1
                ORDER BY domain
                LIMIT 1
            )
            UNION ALL
            SELECT (
                SELECT r.domain
                FROM queue_recipient r
                WHERE r.state = 0 AND r.domain > step.domain
                ORDER BY r.domain
                LIMIT 1
            )
            FROM step
            WHERE step.domain IS NOT NULL
        )
        SELECT domain FROM step WHERE domain IS NOT NULL LIMIT $2
        """,
        domain,
        limit,
    )
    return [row["domain"] for row in rows]


async def next_due(database: Executor) -> datetime | None:
    """Return when the next recipient is due; None when nothing waits."""
    due: datetime | None = await database.fetchval(
        """
        SELECT min(first.next_attempt)
        FROM generate_series(0, 2) AS wanted(rank)
        CROSS JOIN LATERAL (
            SELECT next_attempt
            FROM queue_recipient
            WHERE state = 0 AND rank = wanted.rank
            ORDER BY next_attempt
            LIMIT 1
        ) AS first
        """
    )
    return due


class Recorded(NamedTuple):
    """What is stored of one recipient when its attempt has ended."""

    message_id: QueueId
    recipient: str
    state: int
    next_attempt: datetime
    expires_at: datetime
    finished_at: datetime | None
    report: int | None
    last_reply: str
    status: str
    remote: str | None


async def record(tx: Executor, owner: str, rows: Sequence[Recorded]) -> set[tuple[QueueId, str]]:
    """Write outcomes of attempts; return those that still were this worker's."""
    written = await tx.fetch(
        """
        UPDATE queue_recipient q
        SET state = d.state, next_attempt = d.next_attempt, expires_at = d.expires_at,
            finished_at = d.finished_at, report = coalesce(d.report, q.report),
            last_reply = d.last_reply, status = d.status, remote = d.remote,
            delay_at = CASE WHEN d.state = 0 THEN q.delay_at END,
            crashes = 0, lease_owner = NULL
        FROM unnest($2::bigint[], $3::text[], $4::smallint[], $5::timestamptz[], $6::timestamptz[],
                    $7::timestamptz[], $8::smallint[], $9::text[], $10::text[], $11::text[])
             AS d(message_id, recipient, state, next_attempt, expires_at, finished_at, report,
                  last_reply, status, remote)
        WHERE q.message_id = d.message_id AND q.recipient = d.recipient
              AND q.state = 5 AND q.lease_owner = $1
        RETURNING q.message_id, q.recipient
        """,
        owner,
        *zip(*rows, strict=True),
    )
    return {(row["message_id"], row["recipient"]) for row in written}


async def release(
    database: Executor, owner: str, keys: Sequence[tuple[QueueId, str, int]], now: datetime
) -> None:
    """Give back recipients whose attempt, the last of so many, was not made: it is not counted."""
    await database.execute(
        """
        UPDATE queue_recipient q
        SET state = 0, attempts = q.attempts - 1, lease_owner = NULL, next_attempt = $4
        FROM unnest($2::bigint[], $3::text[], $5::int[]) AS d(message_id, recipient, attempts)
        WHERE q.message_id = d.message_id AND q.recipient = d.recipient
              AND q.attempts = d.attempts AND q.state = 5 AND q.lease_owner = $1
        """,
        owner,
        [message for message, _, _ in keys],
        [recipient for _, recipient, _ in keys],
        now,
        [attempts for _, _, attempts in keys],
    )


async def give_back_others(
    database: Executor, owner: str, keys: Sequence[tuple[QueueId, str]], now: datetime
) -> int:
    """Give back what a worker has but for some recipients; return how many, none counted."""
    tag = await database.execute(
        """
        UPDATE queue_recipient q
        SET state = 0, attempts = q.attempts - 1, lease_owner = NULL, next_attempt = $4
        WHERE q.state = 5 AND q.lease_owner = $1
              AND NOT EXISTS (
                  SELECT
                  FROM unnest($2::bigint[], $3::text[]) AS d(message_id, recipient)
                  WHERE d.message_id = q.message_id AND d.recipient = q.recipient
              )
        """,
        owner,
        [message for message, _ in keys],
        [recipient for _, recipient in keys],
        now,
    )
    return int(tag.rpartition(" ")[2])


async def reap(database: Executor, now: datetime, most: int, spread: timedelta) -> tuple[int, int]:
    """Take back what workers had whose lease ended; return how many, and how many are set aside.

    What was under way in `most` crashes is held for somebody to look at. The others come back
    spread over some time, so that one that kills workers has other company each time.
    """
    rows = await database.fetch(
        """
        UPDATE queue_recipient q
        SET state = CASE WHEN q.crashes + 1 >= $2 THEN 3 ELSE 0 END,
            next_attempt = $1 + $3::interval * q.crashes
                           * ((hashtext(q.message_id || q.recipient) & 1023) / 1024.0),
            crashes = q.crashes + 1,
            last_reply = CASE WHEN q.crashes + 1 >= $2
                              THEN '451 4.3.0 Set aside: this server crashed in each of the last '
                                   || q.crashes + 1 || ' attempts'
                              ELSE q.last_reply END,
            status = CASE WHEN q.crashes + 1 >= $2 THEN '4.3.0' ELSE q.status END,
            lease_owner = NULL
        WHERE q.state = 5 AND NOT EXISTS (
            SELECT FROM lease WHERE name = $4 || q.lease_owner AND expires_at > $1
        )
        RETURNING q.state
        """,
        now,
        most,
        spread,
        LEASE_PREFIX,
    )
    held = sum(row["state"] == QueueState.HELD for row in rows)
    return len(rows), held


async def note_delays(database: Executor, now: datetime, limit: int) -> int:
    """Note a report for recipients that have waited for too long; return how many."""
    tag = await database.execute(
        """
        UPDATE queue_recipient q
        SET report = 2, delay_at = NULL
        FROM (
            SELECT r.message_id, r.recipient, m.sender
            FROM queue_recipient r
            JOIN queue_message m ON m.id = r.message_id
            WHERE r.state = 0 AND r.delay_at IS NOT NULL AND r.delay_at <= $1
            ORDER BY r.delay_at
            LIMIT $2
            FOR UPDATE OF r SKIP LOCKED
        ) AS late
        WHERE q.message_id = late.message_id AND q.recipient = late.recipient
        """,
        now,
        limit,
    )
    return int(tag.rpartition(" ")[2])


async def with_reports(database: Executor, limit: int) -> list[QueueId]:
    """Return messages about whose recipients something is to be reported."""
    rows = await database.fetch(
        """
        SELECT DISTINCT message_id
        FROM queue_recipient
        WHERE report IS NOT NULL
        ORDER BY message_id
        LIMIT $1
        """,
        limit,
    )
    return [row["message_id"] for row in rows]


class Reported(NamedTuple):
    """One recipient of a report."""

    recipient: str
    report: int
    last_reply: str | None
    status: str | None
    remote: str | None
    orcpt: str | None
    last_attempt: datetime | None
    expires_at: datetime


class Message(NamedTuple):
    """A message in the queue."""

    id: QueueId
    account_id: AccountId
    blob_id: BlobId
    sender: str
    smtputf8: bool
    envid: str | None
    ret: str | None
    received_at: datetime
    session: str
    require_tls: bool
    deliver_by: datetime | None
    by_mode: str | None
    priority: int


async def message(database: Executor, message_id: QueueId) -> Message | None:
    """Return a message of the queue; None when it is gone."""
    row = await database.fetchrow(
        """
        SELECT id, account_id, blob_id, sender, smtputf8, envid, ret, received_at, session,
               require_tls, deliver_by, by_mode, priority
        FROM queue_message
        WHERE id = $1
        """,
        message_id,
    )
    return None if row is None else Message(*row)


async def take_reports(tx: Executor, message_id: QueueId) -> list[Reported]:
    """Take the reports that are due about a message, so that they are made once."""
    rows = await tx.fetch(
        """
        WITH due AS (
            SELECT recipient, report
            FROM queue_recipient
            WHERE message_id = $1 AND report IS NOT NULL
            ORDER BY recipient
            FOR UPDATE
        )
        UPDATE queue_recipient q
        SET report = NULL
        FROM due
        WHERE q.message_id = $1 AND q.recipient = due.recipient
        RETURNING q.recipient, due.report, q.last_reply, q.status, q.remote, q.orcpt,
                  q.last_attempt, q.expires_at
        """,
        message_id,
    )
    return sorted(Reported(*row) for row in rows)


async def purge(
    tx: Executor, before: datetime, limit: int
) -> tuple[int, list[tuple[AccountId, BlobId]]]:
    """Forget recipients finished before a time, and messages without any left.

    Returns how many recipients went, and the bodies of which a reference is free now.
    """
    messages = await tx.fetch(
        """
        SELECT id
        FROM queue_message
        WHERE id IN (
            SELECT message_id
            FROM queue_recipient
            WHERE finished_at < $1 AND report IS NULL
            ORDER BY finished_at
            LIMIT $2
        )
        ORDER BY id
        FOR UPDATE SKIP LOCKED
        """,
        before,
        limit,
    )
    # messages first: of two who remove the last recipients of one, the second sees that
    rows = await tx.fetch(
        """
        DELETE FROM queue_recipient q
        USING (
            SELECT message_id, recipient
            FROM queue_recipient
            WHERE message_id = ANY($3::bigint[]) AND finished_at < $1 AND report IS NULL
            ORDER BY finished_at
            LIMIT $2
        ) AS old
        WHERE q.message_id = old.message_id AND q.recipient = old.recipient
        RETURNING q.message_id
        """,
        before,
        limit,
        [row["id"] for row in messages],
    )
    return len(rows), await remove_empty(tx, sorted({row["message_id"] for row in rows}))


async def remove_empty(tx: Executor, messages: Sequence[QueueId]) -> list[tuple[AccountId, BlobId]]:
    """Remove those of the messages that have no recipient left; return their bodies."""
    rows = await tx.fetch(
        """
        DELETE FROM queue_message m
        WHERE m.id = ANY($1::bigint[])
              AND NOT EXISTS (SELECT FROM queue_recipient r WHERE r.message_id = m.id)
        RETURNING m.account_id, m.blob_id
        """,
        messages,
    )
    return sorted((row["account_id"], row["blob_id"]) for row in rows)
