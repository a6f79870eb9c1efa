"""Statements on submissions, their recipients and the reports about them (RFC 8621 §7)."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mailserver.model import (
    AccountId,
    BlobId,
    Delivery,
    EmailId,
    IdentityId,
    NotificationKind,
    QueueId,
    RecipientStatus,
    Submission,
    SubmissionId,
    ThreadId,
    UndoStatus,
)
from mailserver.storage.database import Executor


async def insert(
    tx: Executor,
    account: AccountId,
    submission: Submission,
    queue_id: QueueId | None,
    message_id: str,
    *,
    settled: bool,
) -> None:
    """Add a submission with its recipients."""
    await tx.execute(
        """
        WITH added AS (
            INSERT INTO submission (account_id, id, identity_id, email_id, thread_id, queue_id,
                                    message_id, envelope, send_at, undo_status, settled)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10, $11)
        )
        INSERT INTO submission_recipient (account_id, submission_id, recipient, delivered, reply)
        SELECT $1, $2, * FROM unnest($12::text[], $13::smallint[], $14::text[])
        """,
        account,
        submission.id,
        submission.identity_id,
        submission.email_id,
        submission.thread_id,
        queue_id,
        message_id,
        submission.envelope,
        submission.send_at,
        int(submission.undo_status),
        settled,
        [each.recipient for each in submission.recipients],
        [int(each.delivered) for each in submission.recipients],
        [each.reply for each in submission.recipients],
    )


class Listed(NamedTuple):
    """What queries look at."""

    id: SubmissionId
    identity_id: IdentityId
    email_id: EmailId
    thread_id: ThreadId
    undo_status: UndoStatus
    send_at: datetime


async def of_account(database: Executor, account: AccountId, limit: int) -> list[Listed]:
    """Return the newest submissions of an account, oldest first."""
    rows = await database.fetch(
        """
        SELECT id, identity_id, email_id, thread_id, undo_status, send_at
        FROM submission
        WHERE account_id = $1
        ORDER BY id DESC
        LIMIT $2
        """,
        account,
        limit,
    )
    return [
        Listed(each, identity, email, thread, UndoStatus(undo), send_at)
        for each, identity, email, thread, undo, send_at in reversed(rows)
    ]


async def by_ids(
    database: Executor, account: AccountId, ids: Sequence[int]
) -> dict[SubmissionId, Submission]:
    """Return submissions with their recipients and reports."""
    rows = await database.fetch(
        """
        SELECT id, identity_id, email_id, thread_id, envelope, send_at, undo_status
        FROM submission
        WHERE account_id = $1 AND id = ANY($2::bigint[])
        ORDER BY id
        """,
        account,
        ids,
    )
    statuses = await _statuses(database, account, ids)
    reports = await _reports(database, account, ids)
    return {
        SubmissionId(row["id"]): Submission(
            SubmissionId(row["id"]),
            IdentityId(row["identity_id"]),
            EmailId(row["email_id"]),
            ThreadId(row["thread_id"]),
            row["envelope"],
            row["send_at"],
            UndoStatus(row["undo_status"]),
            tuple(statuses[row["id"]]),
            tuple(reports[row["id"]]),
        )
        for row in rows
    }


async def _statuses(
    database: Executor, account: AccountId, ids: Sequence[int]
) -> defaultdict[int, list[RecipientStatus]]:
    rows = await database.fetch(
        """
        SELECT submission_id, recipient, delivered, reply, displayed
        FROM submission_recipient
        WHERE account_id = $1 AND submission_id = ANY($2::bigint[])
        ORDER BY submission_id, recipient
        """,
        account,
        ids,
    )
    found = defaultdict(list)
    for each, recipient, delivered, reply, displayed in rows:
        found[each].append(RecipientStatus(recipient, Delivery(delivered), reply, displayed))
    return found


async def _reports(
    database: Executor, account: AccountId, ids: Sequence[int]
) -> defaultdict[int, list[tuple[NotificationKind, BlobId]]]:
    rows = await database.fetch(
        """
        SELECT submission_id, kind, blob_id
        FROM submission_report
        WHERE account_id = $1 AND submission_id = ANY($2::bigint[])
        ORDER BY submission_id, received_at, blob_id
        """,
        account,
        ids,
    )
    found = defaultdict(list)
    for each, kind, blob in rows:
        found[each].append((NotificationKind(kind), BlobId(blob)))
    return found


async def of_queue(database: Executor, queue_id: QueueId) -> SubmissionId | None:
    """Return the submission that still wants to hear of a queued message, if any."""
    found: int | None = await database.fetchval(
        "SELECT id FROM submission WHERE queue_id = $1 AND NOT settled", queue_id
    )
    return None if found is None else SubmissionId(found)


async def queue_of(tx: Executor, account: AccountId, submission: int) -> QueueId | None:
    """Return where a submission is in the queue."""
    found: int | None = await tx.fetchval(
        "SELECT queue_id FROM submission WHERE account_id = $1 AND id = $2", account, submission
    )
    return None if found is None else QueueId(found)


async def named(
    database: Executor, account: AccountId, submission: int | None, message_id: str
) -> SubmissionId | None:
    """Return the newest submission with that id or Message-ID."""
    found: int | None = await database.fetchval(
        """
        SELECT id
        FROM submission
        WHERE account_id = $1 AND (id = $2 OR message_id = $3)
        ORDER BY id DESC
        LIMIT 1
        """,
        account,
        submission,
        message_id,
    )
    return None if found is None else SubmissionId(found)


async def update(
    tx: Executor, account: AccountId, submission: int, undo: UndoStatus, *, settled: bool
) -> None:
    """Note whether a submission can be undone, and whether the queue has more news of it."""
    await tx.execute(
        """
        UPDATE submission
        SET undo_status = $3, settled = $4
        WHERE account_id = $1 AND id = $2
        """,
        account,
        submission,
        int(undo),
        settled,
    )


async def update_recipients(
    tx: Executor, account: AccountId, submission: int, statuses: Sequence[RecipientStatus]
) -> None:
    """Write how far a submission came with some of its recipients."""
    await tx.execute(
        """
        UPDATE submission_recipient AS r
        SET delivered = d.delivered, reply = d.reply, displayed = d.displayed
        FROM unnest($3::text[], $4::smallint[], $5::text[], $6::boolean[])
             AS d(recipient, delivered, reply, displayed)
        WHERE r.account_id = $1 AND r.submission_id = $2 AND r.recipient = d.recipient
        """,
        account,
        submission,
        [each.recipient for each in statuses],
        [int(each.delivered) for each in statuses],
        [each.reply for each in statuses],
        [each.displayed for each in statuses],
    )


async def insert_report(
    tx: Executor,
    account: AccountId,
    submission: int,
    kind: NotificationKind,
    blob: BlobId,
    now: datetime,
) -> bool:
    """Note a report and let it hold its blob; False when it is noted already."""
    tag = await tx.execute(
        """
        WITH noted AS (
            INSERT INTO submission_report (account_id, submission_id, blob_id, kind, received_at)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT DO NOTHING
            RETURNING account_id, blob_id
        )
        UPDATE blob
        SET refs = blob.refs + 1, unreferenced_at = NULL
        FROM noted
        WHERE blob.account_id = noted.account_id AND blob.id = noted.blob_id
        """,
        account,
        submission,
        blob,
        int(kind),
        now,
    )
    return tag.endswith(" 1")


async def delete(
    tx: Executor, account: AccountId, ids: Sequence[int]
) -> tuple[list[SubmissionId], list[BlobId]]:
    """Remove submissions; return which were there, and the blobs that their reports held."""
    rows = await tx.fetch(
        """
        SELECT blob_id
        FROM submission_report
        WHERE account_id = $1 AND submission_id = ANY($2::bigint[])
        """,
        account,
        ids,
    )
    gone = await tx.fetch(
        """
        DELETE FROM submission
        WHERE account_id = $1 AND id = ANY($2::bigint[])
        RETURNING id
        """,
        account,
        ids,
    )
    return [SubmissionId(each) for (each,) in gone], [BlobId(blob) for (blob,) in rows]


async def old(
    database: Executor, before: datetime, limit: int
) -> dict[AccountId, list[SubmissionId]]:
    """Return submissions that were sent before a time and have nothing more to tell."""
    rows = await database.fetch(
        """
        SELECT account_id, id
        FROM submission
        WHERE send_at < $1 AND settled
        ORDER BY send_at
        LIMIT $2
        """,
        before,
        limit,
    )
    found = defaultdict(list)
    for account, each in rows:
        found[AccountId(account)].append(SubmissionId(each))
    return found


async def behind(database: Executor, after: int, limit: int) -> list[tuple[AccountId, QueueId]]:
    """Return submissions that do not say what the queue says, by ascending queue id."""
    rows = await database.fetch(
        """
        SELECT account_id, queue_id
        FROM submission
        WHERE NOT settled AND queue_id > $1
              AND (NOT EXISTS (SELECT FROM queue_recipient q WHERE q.message_id = queue_id)
                   OR EXISTS (
                       SELECT
                       FROM queue_recipient q
                       JOIN submission_recipient r
                            ON r.account_id = submission.account_id
                               AND r.submission_id = submission.id AND r.recipient = q.recipient
                       WHERE q.message_id = queue_id
                             AND ((q.state IN (1, 2, 4) AND r.delivered = 0)
                                  OR q.last_reply <> r.reply)
                   ))
        ORDER BY queue_id
        LIMIT $2
        """,
        after,
        limit,
    )
    return [(AccountId(account), QueueId(queue_id)) for account, queue_id in rows]
