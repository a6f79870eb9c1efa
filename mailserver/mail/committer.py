"""Group commit: whatever waits is written in one transaction.

One commit for up to 32 messages costs 4 to 8 times less CPU than one for each, and deliveries to
one busy account do not fight for its row. While one group is written, the next one is prepared.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING

from mailserver.errors import MailError, NotFound, OverQuota, Unavailable
from mailserver.events import QUEUE
from mailserver.mail import deltas
from mailserver.mail.batch import Batch
from mailserver.mail.context import Change
from mailserver.mail.delivery import (
    Accepted,
    Arrival,
    Replaced,
    Target,
)
from mailserver.mail.groups import Waiting, accounts_of
from mailserver.mail.messages import remove_rows
from mailserver.mail.threads import join, thread_hashes
from mailserver.model import (
    DELETED,
    SEEN,
    AccountId,
    EmailId,
    MailboxId,
    Membership,
    Modseq,
    ThreadId,
)
from mailserver.storage import delivery, mailboxes, messages
from mailserver.storage.database import Connection
from mailserver.storage.mailboxes import Growth, Place

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

log = logging.getLogger(__name__)

WRITERS = 2
ENOUGH = 8  # messages that are worth a commit of their own: they do not wait for others
SLOW = 0.5  # seconds after which nothing waits for a commit that concerns others
MOST_WRITERS = 6  # while some are slow
TRIES = 2  # to write what was looked at, before the accounts are locked
CAUTIOUS = 16  # commits that lock at once, after one that came to nothing so often
NAMES = 50_000  # mailboxes that are remembered by name
INBOXES = 50_000  # accounts whose INBOX is remembered


class _Try(Enum):
    """What came of writing in one statement what was looked at before."""

    WRITTEN = auto()
    CHANGED = auto()  # an account did
    NOT_SO = auto()  # it needs a transaction


class Committer:
    """Takes arrivals from all sessions of the process and commits them in groups."""

    def __init__(self, mail: "Mail") -> None:
        self._mail = mail
        self._waiting = Waiting()
        self._starting = False  # a writer is about to take what waits
        self._taken = 0  # groups
        self._watch: asyncio.TimerHandle | None = None
        self._writers: set[asyncio.Task[None]] = set()
        self._together: set[asyncio.Task[None]] = set()
        self._inboxes: dict[AccountId, MailboxId] = {}
        self._named: dict[tuple[AccountId, str], MailboxId] = {}
        self._cautious = 0  # commits that are locked before anything is looked at

    async def commit(self, arrival: Arrival) -> Accepted:
        """Wait until the arrival is durable; raise what kept it from being so."""
        possible = self._waiting.add(arrival)
        enough = possible and len(self._waiting) >= ENOUGH and len(self._writers) < WRITERS
        if enough or not self._writers:
            self._start_writer()
        elif self._watch is None:
            self._watch_writers()
        # a session that is cut must not cancel the commit of what it sent
        return await asyncio.shield(arrival.done)

    async def turn(self) -> None:
        """Wait with the next message while enough others are about to be written.

        Sessions that get their messages at the same time would otherwise prepare all of them, and
        only then PostgreSQL would begin.
        """
        if self._starting and len(self._waiting) >= ENOUGH:
            await asyncio.sleep(0)

    async def commit_together(
        self, arrivals: Sequence[Arrival], replaced: Replaced | None = None
    ) -> list[Accepted]:
        """Commit all of them in a transaction of their own, or none; each names its mailbox.

        They are for one account. What they replace leaves its mailbox in the same transaction.
        """
        task = asyncio.create_task(self._commit_together(arrivals, replaced), name="committer")
        self._together.add(task)
        task.add_done_callback(self._together.discard)
        await asyncio.shield(task)
        return [arrival.done.result() for arrival in arrivals]

    def remember(self, account: AccountId, name: str, mailbox: MailboxId) -> None:
        """Note which mailbox has a name, for `remembered`."""
        if len(self._named) >= NAMES:
            self._named.clear()
        self._named[account, name] = mailbox

    def forget(self, account: AccountId, name: str) -> None:
        """Note that no mailbox is known to have a name."""
        self._named.pop((account, name), None)

    def remembered(self, account: AccountId, name: str) -> MailboxId | None:
        """Return which mailbox without a parent had a name; a target says if it has to have it."""
        return self._named.get((account, name))

    async def drain(self) -> None:
        """Wait until nothing waits, before the database is closed."""
        while under_way := self._writers | self._together:
            await asyncio.wait(under_way)

    def _start_writer(self) -> None:
        task = asyncio.create_task(self._write(), name="committer")
        self._writers.add(task)
        self._starting = True

    def _watch_writers(self) -> None:
        """See to it that what waits does not wait for a commit that is stuck."""
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(SLOW, self._look, self._taken)

    def _look(self, taken: int) -> None:
        """Start another writer when none has taken anything for a while."""
        self._watch = None
        if not len(self._waiting):
            return
        if taken == self._taken and len(self._writers) < MOST_WRITERS:
            self._start_writer()
        self._watch_writers()

    async def _write(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            while len(self._waiting):
                if len(self._waiting) < ENOUGH:
                    # let every session that is ready now add its message to this commit
                    await asyncio.sleep(0)
                self._starting = False
                arrivals = self._waiting.take()
                if not arrivals:
                    break  # another writer is busy with their accounts, and takes them next
                self._taken += 1
                try:
                    await self._settle(arrivals)
                finally:
                    self._waiting.release(arrivals)
        finally:
            # in the same step that saw nothing waiting: a done callback runs later, and what
            # arrived before it would wait for a writer that has ended
            self._writers.discard(task)

    async def _settle(self, arrivals: list[Arrival]) -> None:
        """Commit a group and answer each of its sessions; one bad message fails alone."""
        try:
            await self._commit(arrivals)
        except Unavailable as error:
            for arrival in arrivals:
                _fail(arrival, error)
        except asyncio.CancelledError:
            for arrival in arrivals:
                _fail(arrival, Unavailable("the process stops"))
            raise
        except Exception as error:
            await self._settle_each(arrivals, error)

    async def _settle_each(self, arrivals: list[Arrival], error: Exception) -> None:
        """Commit what is left of a failed group one by one, or answer the one that failed."""
        # what was answered is never written again
        left = [arrival for arrival in arrivals if not arrival.done.done()]
        if len(arrivals) > 1 and left:
            for arrival in left:
                await self._settle([arrival])
            return
        if not isinstance(error, MailError):
            log.error("commit failed", exc_info=error)
        for arrival in left:
            _fail(arrival, error)

    async def _commit(self, arrivals: Sequence[Arrival]) -> None:
        await self._find_inboxes(arrivals)
        batch = Batch(self._mail.now())
        for _ in range(TRIES):
            tried = await self._commit_at_once(batch, arrivals)
            if tried is _Try.WRITTEN:
                self._answer(batch)
                return
            batch = Batch(self._mail.now())
            arrivals = [arrival for arrival in arrivals if not arrival.done.done()]
            if tried is _Try.NOT_SO:
                break
        else:
            self._cautious = CAUTIOUS
        async with self._mail.database.transaction() as tx:
            accounts = accounts_of(arrivals)
            locked = await delivery.lock_accounts(tx, sorted(accounts)) if accounts else {}
            named = [
                (target.account_id, target.mailbox_id)
                for arrival in arrivals
                for target in arrival.targets
                if target.name is not None and target.mailbox_id is not None
            ]
            names = await delivery.names(tx, named) if named else {}
            for arrival in arrivals:
                if not _is_named(arrival, names):
                    continue
                refusal = self._refusal(batch, arrival, locked)
                # last: what it writes is committed, so its message has to be
                if refusal is None and arrival.companion is not None:
                    wanted = await arrival.companion.admit(tx)
                    refusal = None if wanted else NotFound("what the message is about")
                if refusal is not None:
                    _fail(arrival, refusal)
                    continue
                self._admit(batch, arrival, locked)
            if batch.admitted:
                await self._place(tx, batch)
                await batch.write(tx)
        if all(map(_is_plain, batch.admitted)):
            self._tell(batch)
        self._answer(batch)

    def _tell(self, batch: Batch) -> None:
        """Say what a batch of plain messages has done."""
        for account, done in deltas.of_copies(batch.copies).items():
            deltas.made(self._mail, account, batch.modseqs[account], done)

    async def _commit_at_once(self, batch: Batch, arrivals: Sequence[Arrival]) -> "_Try":
        """Look and write: two round trips instead of five, and no lock while nothing is done.

        Nothing is written when an account changed in between, or for what needs a transaction. When
        it happened again and again the next commits do not try: others write to the same accounts.
        """
        if self._cautious or not all(map(_is_plain, arrivals)):
            self._cautious = max(self._cautious - 1, 0)
            return _Try.NOT_SO
        keys = {id(arrival): thread_hashes(arrival.digest) for arrival in arrivals}
        places = {
            (target.account_id, mailbox)
            for arrival in arrivals
            for target in arrival.targets
            if (mailbox := self._mailbox(target)) is not None
        }
        found = await delivery.look(
            self._mail.database,
            sorted(accounts_of(arrivals)),
            _wanted(arrivals, keys),
            sorted(places),
        )
        if len(found.places) < len(places):
            return _Try.NOT_SO
        for arrival in arrivals:
            if _is_named(arrival, found.names):
                self._admit(batch, arrival, found.rooms)
        if not batch.admitted:
            return _Try.WRITTEN
        self._fill(batch, keys, found.threads, found.places)
        if batch.tasks:
            return _Try.NOT_SO
        if not await batch.write_at_once(self._mail.database, self._growth(batch)):
            return _Try.CHANGED
        self._tell(batch)
        return _Try.WRITTEN

    async def _commit_together(
        self, arrivals: Sequence[Arrival], replaced: Replaced | None
    ) -> None:
        batch = Batch(self._mail.now())
        account = arrivals[0].targets[0].account_id
        async with self._mail.database.transaction() as tx:
            others = [replaced.account_id] if replaced else []
            locked = await delivery.lock_accounts(tx, [account, *others])
            leaving = await _leaving(tx, replaced) if replaced else []
            freed = sum(row.size for row in leaving) if account in others else 0
            batch.sizes[account] -= freed  # only the net counts (RFC 8508 §3.4)
            for arrival in arrivals:
                self._admit(batch, arrival, locked)
                if arrival.done.done():
                    arrival.done.result()  # raises why, and nothing is written
            batch.sizes[account] += freed
            for other in others:
                batch.modseqs[other] = Modseq(locked[other].modseq + 1)
            await self._place(tx, batch)
            await batch.write(tx)
            if replaced:
                owner = replaced.account_id
                change = Change(tx, owner, batch.modseqs[owner], batch.now)
                left = await remove_rows(change, replaced.mailbox_id, leaving)
                if account == owner and left < freed:  # it stays in another mailbox
                    _demand_room(locked[account], batch.sizes[account] - left)
                await change.write()
        self._answer(batch)

    def _answer(self, batch: Batch) -> None:
        """Tell the sessions of a batch that it is durable, and everyone what changed."""
        for arrival in batch.admitted:
            if not arrival.done.done():
                arrival.done.set_result(batch.accepted(arrival))
        for copy in batch.copies:
            self._mail.fresh.keep(copy, batch.bodies[copy.account_id, copy.blob_id].data)
        self._mail.metrics.commit_size.observe(len(batch.admitted))
        if batch.tasks:
            self._mail.delivery_tasks.set()
        for account, modseq in batch.modseqs.items():
            self._mail.events.publish(account, modseq)
        if batch.queued:
            self._mail.events.publish(QUEUE, Modseq(batch.queued[-1].id))

    async def _find_inboxes(self, arrivals: Sequence[Arrival]) -> None:
        """Look up the INBOX of accounts met for the first time; an INBOX is never replaced."""
        if len(self._inboxes) > INBOXES and len(self._writers) == 1:
            self._inboxes.clear()  # the other writer may be about to use what it looked up
        unknown = {
            target.account_id
            for arrival in arrivals
            for target in arrival.targets
            if target.mailbox_id is None and target.account_id not in self._inboxes
        }
        if unknown:
            found = await mailboxes.inboxes(self._mail.database, sorted(unknown))
            self._inboxes.update(found)

    def _refusal(
        self, batch: Batch, arrival: Arrival, locked: dict[AccountId, delivery.Room]
    ) -> MailError | None:
        """Return why an arrival cannot be taken into the batch; None when it can."""
        size = len(arrival.raw)
        owner = arrival.companion.account_id if arrival.companion is not None else None
        if owner is not None and owner not in locked:
            return NotFound("account")
        for target in arrival.targets:
            room = locked.get(target.account_id)
            if room is None or self._mailbox(target) is None:
                return NotFound("account or mailbox")
            limit = room.quota_limit
            used = room.quota_used + batch.sizes[target.account_id]
            if arrival.enforce_quota and limit is not None and used + size > limit:
                return OverQuota("account")
        return None

    def _admit(
        self, batch: Batch, arrival: Arrival, locked: dict[AccountId, delivery.Room]
    ) -> None:
        """Take an arrival into the batch, or fail it alone."""
        if (refusal := self._refusal(batch, arrival, locked)) is not None:
            _fail(arrival, refusal)
            return
        size = len(arrival.raw)
        owner = arrival.companion.account_id if arrival.companion is not None else None
        for target in arrival.targets:
            batch.sizes[target.account_id] += size
            batch.modseqs[target.account_id] = Modseq(locked[target.account_id].modseq + 1)
            if arrival.sender and locked[target.account_id].responds:
                batch.responding.add(target.account_id)
        if owner is not None:
            batch.modseqs[owner] = Modseq(locked[owner].modseq + 1)
        batch.admitted += (arrival, *arrival.also)

    def _mailbox(self, target: Target) -> MailboxId | None:
        return target.mailbox_id or self._inboxes.get(target.account_id)

    async def _place(self, tx: "Connection", batch: Batch) -> None:
        """Work out ids, threads and UIDs of everything in the batch."""
        if not any(arrival.targets for arrival in batch.admitted):
            for arrival in batch.admitted:  # all of it leaves this server
                batch.enqueue(arrival, self._mail)
            return
        keys = {id(arrival): thread_hashes(arrival.digest) for arrival in batch.admitted}
        wanted = _wanted(batch.admitted, keys)
        threads, places = await delivery.place(tx, wanted, self._growth(batch))
        self._fill(batch, keys, threads, places)

    def _fill(
        self,
        batch: Batch,
        keys: Mapping[int, list[int]],
        threads: Mapping[tuple[AccountId, int], ThreadId],
        places: Mapping[tuple[AccountId, MailboxId], Place],
    ) -> None:
        """Make the rows of all that was admitted."""
        next_uid = {place: found.first_uid for place, found in places.items()}
        for arrival in batch.admitted:
            for target in arrival.targets:
                mailbox = self._mailbox(target)
                assert mailbox is not None
                place = (target.account_id, mailbox)
                if place not in places:
                    self._inboxes.pop(target.account_id, None)
                    raise NotFound("mailbox")
                email = EmailId(self._mail.ids.next())
                account = target.account_id
                thread = join(batch.refs, threads, account, keys[id(arrival)], email)
                batch.add(arrival, target, mailbox, email, thread, next_uid[place])
                batch.uidvalidity[place] = places[place].uidvalidity
                next_uid[place] += 1
                for other in target.also_in:
                    if (account, other) not in places:
                        raise NotFound("mailbox")
                    batch.add_elsewhere(arrival, target, other, next_uid[account, other])
                    next_uid[account, other] += 1
            batch.enqueue(arrival, self._mail)

    def _growth(self, batch: Batch) -> list[Growth]:
        sums: dict[tuple[AccountId, MailboxId], list[int]] = {}
        for arrival in batch.admitted:
            for target in arrival.targets:
                mailbox = self._mailbox(target)
                assert mailbox is not None
                for each in (mailbox, *target.also_in):
                    total = sums.setdefault((target.account_id, each), [0, 0, 0, 0])
                    total[0] += 1
                    total[1] += not target.flags.bits & SEEN
                    total[2] += bool(target.flags.bits & DELETED)
                    total[3] += len(arrival.raw)
        return [
            Growth(account, mailbox, count, count, unseen, deleted, size, batch.modseqs[account])
            # the order in which every writer locks mailboxes
            for (account, mailbox), (count, unseen, deleted, size) in sorted(sums.items())
        ]


def _is_named(arrival: Arrival, names: Mapping[tuple[AccountId, MailboxId], str]) -> bool:
    """Whether its mailboxes are called what they have to be; if not, it fails alone."""
    for target in arrival.targets:
        if target.name is None or target.mailbox_id is None:
            continue
        if names.get((target.account_id, target.mailbox_id)) != target.name:
            _fail(arrival, NotFound("mailbox of that name"))
            return False
    return True


def _is_plain(arrival: Arrival) -> bool:
    """Whether nothing is to be written of it but a copy for each account."""
    alone = arrival.outgoing is None and arrival.companion is None and not arrival.also
    return alone and not any(target.also_in for target in arrival.targets)


def _wanted(
    arrivals: Sequence[Arrival], keys: Mapping[int, list[int]]
) -> list[tuple[AccountId, int]]:
    """Return the keys by which threads are looked for, with their accounts."""
    return sorted(
        {
            (target.account_id, key)
            for arrival in arrivals
            for target in arrival.targets
            for key in keys[id(arrival)]
        }
    )


async def _leaving(tx: Connection, replaced: Replaced) -> list[Membership]:
    rows = await messages.in_mailbox(tx, replaced.account_id, replaced.mailbox_id, [replaced.uid])
    if not rows:
        raise NotFound("message to replace")
    return rows


def _demand_room(room: delivery.Room, grown: int) -> None:
    if room.quota_limit is not None and room.quota_used + grown > room.quota_limit:
        raise OverQuota("account")


def _fail(arrival: Arrival, error: Exception) -> None:
    if not arrival.done.done():
        arrival.done.set_exception(error)
