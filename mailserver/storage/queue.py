"""Statements on the outgoing queue."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import AccountId, BlobId, QueueId, QueueState
from mailserver.storage.database import Executor


class NewQueued(NamedTuple):
    """One row of `queue_message` to insert."""

    id: QueueId
    account_id: AccountId
    blob_id: BlobId
    sender: str
    size: int
    smtputf8: bool
    body: str
    envid: str | None
    ret: str | None
    received_at: datetime
    session: str
    require_tls: bool = False
    deliver_by: datetime | None = None
    by_mode: str | None = None
    priority: int = 0
    traceparent: str | None = None  # the span that queued it


class NewRecipient(NamedTuple):
    """One row of `queue_recipient` to insert."""

    message_id: QueueId
    recipient: str
    domain: str
    state: int
    next_attempt: datetime
    expires_at: datetime
    notify: str | None
    orcpt: str | None
    delay_at: datetime | None
    rank: int = 1


async def insert(
    tx: Executor, messages: Sequence[NewQueued], recipients: Sequence[NewRecipient]
) -> None:
    """Queue messages with their recipients."""
    if not messages:
        return
    await tx.execute(
        """
        INSERT INTO queue_message (id, account_id, blob_id, sender, size, smtputf8, body, envid,
                                   ret, received_at, session, require_tls, deliver_by, by_mode,
                                   priority, traceparent)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::text[], $5::bigint[],
                             $6::boolean[], $7::text[], $8::text[], $9::text[],
                             $10::timestamptz[], $11::text[], $12::boolean[],
                             $13::timestamptz[], $14::text[], $15::smallint[], $16::text[])
        """,
        *zip(*messages, strict=True),
    )
    await tx.execute(
        """
        INSERT INTO queue_recipient (message_id, recipient, domain, state, next_attempt,
                                     expires_at, notify, orcpt, delay_at, rank)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::smallint[],
                             $5::timestamptz[], $6::timestamptz[], $7::text[], $8::text[],
                             $9::timestamptz[], $10::smallint[])
        ON CONFLICT DO NOTHING
        """,
        *zip(*recipients, strict=True),
    )


class Progress(NamedTuple):
    """How far one recipient came, and whether a user here has that address."""

    recipient: str
    state: QueueState
    last_reply: str | None
    local: bool


async def progress(tx: Executor, message: QueueId) -> list[Progress]:
    """Return how far a message came with each of its recipients."""
    rows = await tx.fetch(
        """
        SELECT recipient, state, last_reply,
               EXISTS (SELECT FROM domain WHERE domain.name = queue_recipient.domain) AS local
        FROM queue_recipient
        WHERE message_id = $1
        """,
        message,
    )
    return [
        Progress(recipient, QueueState(state), reply, local)
        for recipient, state, reply, local in rows
    ]


async def cancel(tx: Executor, message: QueueId) -> tuple[AccountId, BlobId] | None:
    """Take a message out of the queue unless anything of it has left; return whose blob it was.

    A worker that broke down may have sent it. A row that is locked is being taken by a worker, so
    nothing is waited for here.
    """
    rows = await tx.fetch(
        """
        WITH free AS (
            SELECT message_id, recipient
            FROM queue_recipient
            WHERE message_id = $1 AND state IN (0, 3) AND crashes = 0
            FOR UPDATE SKIP LOCKED
        )
        DELETE FROM queue_message
        WHERE id = $1
              AND (SELECT count(*) FROM free)
                  = (SELECT count(*) FROM queue_recipient WHERE message_id = $1)
        RETURNING account_id, blob_id
        """,
        message,
    )
    return (AccountId(rows[0][0]), BlobId(rows[0][1])) if rows else None


async def counts(database: Executor) -> tuple[dict[QueueState, int], datetime | None]:
    """Return how many recipients are in each unfinished state, and since when the oldest waits."""
    rows = await database.fetch(
        """
        SELECT state, count(*) AS count
        FROM queue_recipient
        WHERE state IN (0, 3, 4, 5)
        GROUP BY state
        """
    )
    oldest = await database.fetchval(
        """
        SELECT m.received_at
        FROM queue_recipient r
        JOIN queue_message m ON m.id = r.message_id
        WHERE r.state = 0
        ORDER BY r.message_id
        LIMIT 1
        """
    )
    return {QueueState(row["state"]): row["count"] for row in rows}, oldest
