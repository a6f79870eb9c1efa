"""What sending reads is served by indexes, however many others send."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest_asyncio

from mailserver.mail.context import Mail
from mailserver.model import Account, AccountId, QueueId
from mailserver.storage import delivery_tasks, identities, queue, submissions, vacation
from mailserver.storage.database import Executor
from tests.integration.mail.test_plans import Explained

OTHERS = 200  # accounts, and each of them has 20 of everything
FILL = (
    """
    INSERT INTO account (id, login, name, created_at)
    SELECT n, 'a' || n, '', now() FROM generate_series(1, 200) AS n
    """,
    """
    INSERT INTO identity (account_id, id, email, name, standard)
    SELECT a, n, 'x', '', false FROM generate_series(1, 200) a, generate_series(1, 20) n
    """,
    """
    INSERT INTO vacation (account_id, enabled) SELECT n, false FROM generate_series(1, 200) AS n
    """,
    """
    INSERT INTO submission (account_id, id, identity_id, email_id, thread_id, queue_id, message_id,
                            envelope, send_at, undo_status, settled)
    SELECT a, n, 1, 1, 1, a * 1000 + n, a || '.' || n, '{}', now(), 1, n > 1
    FROM generate_series(1, 200) a, generate_series(1, 20) n
    """,
    """
    INSERT INTO submission_recipient (account_id, submission_id, recipient, delivered, reply)
    SELECT account_id, id, 'x', 1, '' FROM submission
    """,
    """
    INSERT INTO submission_report (account_id, submission_id, blob_id, kind, received_at)
    SELECT account_id, id, '\\x00', 1, now() FROM submission
    """,
    """
    INSERT INTO delivery_task (account_id, email_id, kind, sender, received_at)
    SELECT a, n, 1, '', now() FROM generate_series(1, 200) a, generate_series(1, 20) n
    """,
)

ACCOUNT, QUEUED = AccountId(7), QueueId(7001)

Statement = Callable[[Executor, Any], Awaitable[Any]]
STATEMENTS: dict[str, Statement] = {
    "identities": lambda db, now: identities.of_account(db, ACCOUNT),
    "an identity": lambda db, now: identities.by_id(db, ACCOUNT, 3),
    "submissions to query": lambda db, now: submissions.of_account(db, ACCOUNT, 100),
    "submissions": lambda db, now: submissions.by_ids(db, ACCOUNT, [3, 4]),
    "the submission of a queued message": lambda db, now: submissions.of_queue(db, QUEUED),
    "the queued message of a submission": lambda db, now: submissions.queue_of(db, ACCOUNT, 3),
    "what a report is about": lambda db, now: submissions.named(db, ACCOUNT, 3, "7.4"),
    "news that was lost": lambda db, now: submissions.behind(db, 195_000, 10),
    "old ones": lambda db, now: submissions.old(db, now, 10),
    "progress": lambda db, now: queue.progress(db, QUEUED),
    "vacation": lambda db, now: vacation.get(db, ACCOUNT),
    "tasks": lambda db, now: delivery_tasks.oldest(db, 10),
}


@pytest_asyncio.fixture
async def crowd(mail: Mail, alice: Account) -> AsyncIterator[None]:
    """Many other accounts that send."""
    for statement in FILL:
        await mail.database.execute(statement)
    await mail.database.execute("ANALYZE")
    yield
    await mail.database.execute("DELETE FROM submission_report WHERE account_id <= $1", OTHERS)
    await mail.database.execute("DELETE FROM account WHERE id <= $1", OTHERS)


async def test_an_index_serves_each(mail: Mail, crowd: None) -> None:
    small = ("domain", "queue_recipient", "queue_message")  # these have hardly a row here
    for name, statement in STATEMENTS.items():
        explained = Explained(mail.database)
        await statement(explained, mail.now())
        read = [node for node in explained.nodes if "Relation Name" in node]
        assert read, name
        for node in read:
            kind, table = node["Node Type"], node["Relation Name"]
            assert kind != "Seq Scan" or table in small, (name, kind, table)
            assert node["Actual Rows"] * node["Actual Loops"] <= 200, (name, node)
