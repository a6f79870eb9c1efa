"""The handle that every session holds, and the one way to change an account."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from mailserver.auth.passwords import Passwords
from mailserver.config import Config
from mailserver.errors import NotFound
from mailserver.events import Hub
from mailserver.mail import deltas
from mailserver.metrics import Metrics
from mailserver.model import (
    AccountId,
    ChangeEntry,
    ChangeKind,
    Mailbox,
    MailboxId,
    Modseq,
)
from mailserver.storage import accounts, changes
from mailserver.storage.blobs import Blobs
from mailserver.storage.database import Connection, Database
from mailserver.storage.ids import Ids
from mailserver.tracing import UNTRACED, Tracing

if TYPE_CHECKING:
    from mailserver.mail.sending import Brake

LIST_ROOM = 64 * 1024 * 1024  # octets of what JMAP lists show of stored envelopes
NUMBERED_ROOM = 8 * 1024 * 1024  # octets of mailboxes for whose numbers clients ask
FETCH_ROOM = 96 * 1024 * 1024  # octets of what FETCH shows of stored envelopes and headers


class Change:
    """One transaction on one account: its next modseq, and what the change log will say."""

    __slots__ = ("account", "entries", "modseq", "now", "tx")

    def __init__(self, tx: "Connection", account: AccountId, modseq: Modseq, now: datetime) -> None:
        self.tx = tx
        self.account = account
        self.modseq = modseq
        self.now = now
        self.entries: list[ChangeEntry] = []

    def report(
        self,
        kind: ChangeKind,
        mailbox: MailboxId,
        uids: tuple[int, ...] = (),
        email_ids: tuple[int, ...] = (),
        thread_ids: tuple[int, ...] = (),
        names: tuple[str, ...] = (),
    ) -> None:
        """Say what was done; a change that says nothing is rolled back."""
        self.entries.append(
            ChangeEntry(self.modseq, kind, mailbox, uids, email_ids, thread_ids, names)
        )

    async def write(self) -> None:
        """Write the change log; the last statement before the commit."""
        await changes.append(self.tx, [(self.account, entry) for entry in self.entries], self.now)


class _NothingChanged(Exception):
    pass


class Mail:
    """The store of mail; opaque to protocols, which pass it to the operations of this package."""

    def __init__(
        self,
        *,
        database: Database,
        blobs: Blobs,
        events: Hub,
        ids: Ids,
        metrics: Metrics,
        config: Config,
        now: Callable[[], datetime],
        passwords: Passwords,
        tracing: Tracing = UNTRACED,
    ) -> None:
        from mailserver.mail import content, search_bodies, search_headers, search_vocabularies
        from mailserver.mail.committer import Committer
        from mailserver.mail.forwarding import Forwarding
        from mailserver.mail.fresh import ROOM as FRESH_ROOM
        from mailserver.mail.fresh import Fresh
        from mailserver.mail.indexer import Indexer
        from mailserver.mail.listings import Listings
        from mailserver.mail.looks import Looks
        from mailserver.mail.readings import Readings
        from mailserver.mail.recipients import Directory
        from mailserver.mail.shelves import Kept, Shelves
        from mailserver.mail.thread_counts import ROOM as COUNTS_ROOM
        from mailserver.mail.thread_counts import ThreadCounts

        share = config.server.share  # of what all workers together may keep in memory
        self.database = database
        self.blobs = blobs
        self.events = events
        self.ids = ids
        self.metrics = metrics
        self.config = config
        self.now = now
        self.passwords = passwords
        self.tracing = tracing
        self.committer = Committer(self)
        self.looks = Looks(database)
        # by account and path, as of which modseq of the account
        self.numbered: Kept[tuple[AccountId, str], tuple[Mailbox, Modseq]] = Kept(
            share(NUMBERED_ROOM)
        )
        self.listings = Listings(self)
        self.fresh = Fresh(share(FRESH_ROOM))
        self.readings = Readings(partial(content.of_emails, self, keep=True))
        self.fetched: Shelves[bytes] = Shelves(share(FETCH_ROOM))  # by account, mailbox and items
        # by properties and email
        self.listed: Kept[Hashable, dict[str, Any]] = Kept(share(LIST_ROOM))
        self.thread_counts = ThreadCounts(share(COUNTS_ROOM))
        self.search_headers = search_headers.SearchHeaders(
            share(search_headers.ROOM), share(search_headers.ANSWER_ROOM)
        )
        self.search_bodies = search_bodies.SearchBodies(share(search_bodies.ROOM))
        self.search_vocabularies = search_vocabularies.SearchVocabularies(
            share(search_vocabularies.ROOM)
        )
        self.indexer = Indexer(self)
        self.directory = Directory(self)
        self.forwarding = Forwarding(self)
        self.brake: Brake | None = None  # how much users may send; None: any number
        self.delivery_tasks = asyncio.Event()  # set when a delivery left something to do

    @asynccontextmanager
    async def change(self, account: AccountId) -> AsyncIterator[Change]:
        """Lock an account, take its next modseq, and report the event after the commit.

        All writers lock the account first, then mailboxes, then rows: modseqs become visible in
        order, and no two writers wait for each other in a circle.
        """
        try:
            async with self.database.transaction() as tx:
                modseq = await accounts.next_modseq(tx, account)
                if modseq is None:
                    raise NotFound("account")
                change = Change(tx, account, modseq, self.now())
                yield change
                if not change.entries:
                    raise _NothingChanged
                await change.write()
        except _NothingChanged:
            return
        if done := deltas.of_log(change.entries):
            deltas.made(self, account, modseq, done)
        self.events.publish(account, modseq)
