"""What JMAP reads is served by indexes, and a first page by the start of one."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest_asyncio

from mailserver.mail import delivery
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Delivered, Incoming
from mailserver.model import SEEN, Account, Flags, MailboxId, Modseq
from mailserver.storage import accounts, changes, mailboxes, search, search_frames, search_text
from mailserver.storage.database import Executor, Record
from mailserver.storage.search import Narrow

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MESSAGES = 1024
TABLES = ("msg_", "email_", "change_", "search_word_")
LISTED = 50  # rows of a first page, and some more for threads


class Explained:
    """Runs statements and notes how PostgreSQL did that."""

    def __init__(self, database: Executor) -> None:
        self._database = database
        self.nodes: list[dict[str, Any]] = []

    async def _explain(self, query: str, args: tuple[Any, ...]) -> None:
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {query}"
        waiting = [json.loads(await self._database.fetchval(explain, *args))[0]["Plan"]]
        while waiting:
            node = waiting.pop()
            waiting += node.get("Plans", ())
            self.nodes.append(node)

    async def fetch(self, query: str, *args: Any) -> list[Record]:
        await self._explain(query, args)
        return await self._database.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> Record | None:
        await self._explain(query, args)
        return await self._database.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        await self._explain(query, args)
        return await self._database.fetchval(query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        raise AssertionError("only what reads is explained")

    def scans(self) -> list[dict[str, Any]]:
        """Return what reads the large tables."""
        return [
            node
            for node in self.nodes
            if node.get("Relation Name", "").startswith(TABLES) or "Index Name" in node
        ]


@pytest_asyncio.fixture
async def stored(mail: Mail, alice: Account) -> AsyncIterator[list[Delivered]]:
    """A mailbox of some thousand messages, a few of them unseen."""
    (inbox, *_) = await mailboxes.of_account(mail.database, alice.id)
    done: list[Delivered] = []
    for start in range(0, MESSAGES, 32):
        batch = [
            Incoming(
                f"Subject: {at // 3}\r\nMessage-ID: <{at}@x>\r\nReferences: <{at - at % 3}@x>\r\n"
                f"\r\nword{at}\r\n".encode(),
                Flags(0 if at > MESSAGES - 8 else SEEN),
                NOW + timedelta(minutes=at),
            )
            for at in range(start, start + 32)
        ]
        done += await delivery.accept_together(mail, alice.id, inbox.id, batch)
    assert await mail.indexer.catch_up(alice.id, 2 * MESSAGES)
    await mail.database.execute("ANALYZE")
    yield done


Statement = Callable[[Executor, Any, list[Delivered]], Awaitable[Any]]
STATEMENTS: dict[str, Statement] = {
    "state": lambda db, account, mail: accounts.modseq(db, account),
    "page": lambda db, account, mail: search.newest(db, account, _inbox(mail), 0, LISTED),
    "unseen": lambda db, account, mail: search.newest(
        db, account, _inbox(mail)._replace(lacking=SEEN), 0, LISTED
    ),
    "since a day": lambda db, account, mail: search.newest(
        db, account, _inbox(mail)._replace(after=NOW + timedelta(minutes=MESSAGES - 20)), 0, LISTED
    ),
    "matching": lambda db, account, mail: search.matching(db, account, _inbox(mail), _some(mail)),
    "places": lambda db, account, mail: search.of_emails(db, account, _some(mail)),
    "list": lambda db, account, mail: search.with_envelopes(db, account, _some(mail), _some(mail)),
    "threads": lambda db, account, mail: search.of_threads(
        db, account, [each.thread_id for each in mail[-3:]], None
    ),
    "mailboxes of threads": lambda db, account, mail: search.mailboxes_of_threads(
        db, account, [each.thread_id for each in mail[-3:]]
    ),
    "how far search text is": lambda db, account, mail: search_text.progress(db, account),
    "newest with a common word": lambda db, account, mail: search_text.newest_matching(
        db, account, [mail[0].mailbox_id], 0, "'Hsubject'", LISTED
    ),
    "not in the index": lambda db, account, mail: search_text.missing(db, account, _some(mail)),
    "words of frames": lambda db, account, mail: search_frames.vocabularies(db, account, [1, 2]),
    "frames without words": lambda db, account, mail: search_frames.frames_without_vocabulary(
        db, account, 20
    ),
    "accounts whose frames are without words": (
        lambda db, account, mail: search_frames.accounts_without_vocabulary(db, 100)
    ),
    "what came and went": lambda db, account, mail: search_text.news(
        db, account, Modseq(mail[-1].modseq - 1), 200
    ),
    "changes": lambda db, account, mail: changes.since(db, account, mail[-1].modseq - 1, 5000),
}


def _inbox(mail: list[Delivered]) -> Narrow:
    return Narrow(MailboxId(mail[0].mailbox_id))


def _some(mail: list[Delivered]) -> list[int]:
    return [each.email_id for each in mail[-3:]]


async def test_an_index_serves_each(mail: Mail, alice: Account, stored: list[Delivered]) -> None:
    for name, statement in STATEMENTS.items():
        explained = Explained(mail.database)
        assert await statement(explained, alice.id, stored) is not None
        scans = explained.scans()
        kinds = {node["Node Type"] for node in scans}
        assert all("Index" in kind or "Bitmap" in kind for kind in kinds), (name, kinds)
        # nothing is read that is not shown: the cost does not grow with the mailbox
        rows = sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in scans
        )
        assert rows <= 4 * LISTED, (name, rows, scans)
