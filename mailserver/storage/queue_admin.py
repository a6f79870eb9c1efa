"""Statements for people who look after the queue: find, show, and change by hand."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import AccountId, BlobId, QueueId, QueueState
from mailserver.storage.database import Executor


class Filter(NamedTuple):
    """Which recipients are meant; what is None does not matter."""

    ids: list[int] | None = None
    states: list[int] | None = None
    domain: str | None = None
    sender: str | None = None
    recipient: str | None = None
    older_than: datetime | None = None  # received before


class Entry(NamedTuple):
    """One recipient in the queue, as it is shown."""

    message_id: QueueId
    recipient: str
    state: QueueState
    sender: str
    size: int
    received_at: datetime
    next_attempt: datetime
    expires_at: datetime
    attempts: int
    last_attempt: datetime | None
    last_reply: str | None
    status: str | None
    remote: str | None
    domain: str
    notify: str | None
    orcpt: str | None
    session: str
    account_id: AccountId


async def find(
    database: Executor, wanted: Filter, after: tuple[int, str], limit: int
) -> list[Entry]:
    """Return the recipients behind that of a message, oldest message first."""
    rows = await database.fetch(
        """
        SELECT m.id, r.recipient, r.state, m.sender, m.size, m.received_at, r.next_attempt,
               r.expires_at, r.attempts, r.last_attempt, r.last_reply, r.status, r.remote,
               r.domain, r.notify, r.orcpt, m.session, m.account_id
        FROM queue_message m
        JOIN queue_recipient r ON r.message_id = m.id
        WHERE m.id >= $1 AND (m.id > $1 OR r.recipient > $9)
              AND ($2::bigint[] IS NULL OR m.id = ANY($2))
              AND ($3::smallint[] IS NULL OR r.state = ANY($3))
              AND ($4::text IS NULL OR r.domain = $4)
              AND ($5::text IS NULL OR lower(m.sender) = lower($5))
              AND ($6::text IS NULL OR lower(r.recipient) = lower($6))
              AND ($7::timestamptz IS NULL OR m.received_at < $7)
        ORDER BY m.id, r.recipient
        LIMIT $8
        """,
        after[0],
        *wanted,
        limit,
        after[1],
    )
    return [Entry(row[0], row[1], QueueState(row[2]), *row[3:]) for row in rows]


async def set_due(tx: Executor, keys: Sequence[tuple[QueueId, str]], now: datetime) -> int:
    """Let waiting recipients be tried now, and held ones again; return how many."""
    tag = await tx.execute(
        """
        UPDATE queue_recipient q
        SET state = 0, next_attempt = $3, crashes = 0, expires_at = greatest(q.expires_at, $3)
        FROM unnest($1::bigint[], $2::text[]) AS d(message_id, recipient)
        WHERE q.message_id = d.message_id AND q.recipient = d.recipient AND q.state IN (0, 3)
        """,
        [message for message, _ in keys],
        [recipient for _, recipient in keys],
        now,
    )
    return int(tag.rpartition(" ")[2])


async def hold(tx: Executor, keys: Sequence[tuple[QueueId, str]]) -> int:
    """Keep waiting recipients from being tried; return how many."""
    tag = await tx.execute(
        """
        UPDATE queue_recipient q
        SET state = 3
        FROM unnest($1::bigint[], $2::text[]) AS d(message_id, recipient)
        WHERE q.message_id = d.message_id AND q.recipient = d.recipient AND q.state = 0
        """,
        [message for message, _ in keys],
        [recipient for _, recipient in keys],
    )
    return int(tag.rpartition(" ")[2])


async def fail(
    tx: Executor, keys: Sequence[tuple[QueueId, str]], reply: str, status: str, now: datetime
) -> int:
    """Give recipients up and note the report that their senders get; return how many."""
    tag = await tx.execute(
        """
        UPDATE queue_recipient q
        SET state = 2, finished_at = $5, last_reply = $3, status = $4, remote = NULL,
            delay_at = NULL,
            report = CASE
                WHEN m.sender <> ''
                     AND (q.notify IS NULL OR 'FAILURE' = ANY(string_to_array(q.notify, ',')))
                THEN 1
            END
        FROM unnest($1::bigint[], $2::text[]) AS d(message_id, recipient)
        JOIN queue_message m ON m.id = d.message_id
        WHERE q.message_id = d.message_id AND q.recipient = d.recipient AND q.state IN (0, 3, 4)
        """,
        [message for message, _ in keys],
        [recipient for _, recipient in keys],
        reply,
        status,
        now,
    )
    return int(tag.rpartition(" ")[2])


async def drop(
    tx: Executor, keys: Sequence[tuple[QueueId, str]]
) -> tuple[list[tuple[QueueId, str]], list[tuple[AccountId, BlobId]]]:
    """Remove recipients that no worker has, and messages without any left.

    Returns what went, and the bodies of which a reference is free now.
    """
    # messages first: whoever removes the last recipient of one sees that it was the last
    await tx.execute(
        """
        SELECT id
        FROM queue_message
        WHERE id = ANY($1::bigint[])
        ORDER BY id
        FOR UPDATE
        """,
        sorted({message for message, _ in keys}),
    )
    rows = await tx.fetch(
        """
        DELETE FROM queue_recipient q
        USING unnest($1::bigint[], $2::text[]) AS d(message_id, recipient)
        WHERE q.message_id = d.message_id AND q.recipient = d.recipient AND q.state <> 5
        RETURNING q.message_id, q.recipient
        """,
        [message for message, _ in keys],
        [recipient for _, recipient in keys],
    )
    bodies = await tx.fetch(
        """
        DELETE FROM queue_message m
        WHERE m.id = ANY($1::bigint[])
              AND NOT EXISTS (SELECT FROM queue_recipient r WHERE r.message_id = m.id)
        RETURNING m.account_id, m.blob_id
        """,
        sorted({message for message, _ in keys}),
    )
    return (
        [(row["message_id"], row["recipient"]) for row in rows],
        sorted((row["account_id"], row["blob_id"]) for row in bodies),
    )
