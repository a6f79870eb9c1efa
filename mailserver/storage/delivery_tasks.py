"""Statements on what is left to do after a delivery, written by its commit."""

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from mailserver.model import AccountId, EmailId
from mailserver.storage.database import Executor


class TaskKind(IntEnum):
    """What is to be done; the numbers are stored."""

    VACATION = 1  # perhaps answer
    REPORT = 2  # find the submission that it is about


class NewTask(NamedTuple):
    """One row of `delivery_task`."""

    kind: TaskKind
    account_id: AccountId
    email_id: EmailId
    sender: str
    received_at: datetime


async def insert(tx: Executor, tasks: Sequence[NewTask]) -> None:
    """Note what is to be done."""
    if not tasks:
        return
    await tx.execute(
        """
        INSERT INTO delivery_task (kind, account_id, email_id, sender, received_at)
        SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::text[],
                             $5::timestamptz[])
        """,
        *zip(*tasks, strict=True),
    )


async def oldest(database: Executor, limit: int) -> list[NewTask]:
    """Return what waits longest."""
    rows = await database.fetch(
        """
        SELECT kind, account_id, email_id, sender, received_at
        FROM delivery_task
        ORDER BY received_at
        LIMIT $1
        """,
        limit,
    )
    return [NewTask(TaskKind(kind), *rest) for kind, *rest in rows]


async def finish(tx: Executor, task: NewTask) -> bool:
    """Take a task away; False when somebody else has done it."""
    tag = await tx.execute(
        "DELETE FROM delivery_task WHERE account_id = $1 AND email_id = $2 AND kind = $3",
        task.account_id,
        task.email_id,
        int(task.kind),
    )
    return tag.endswith(" 1")
