"""The making of search text, right behind delivery: it follows the change log of each account.

Nothing is noted when mail is accepted. What the change log of an account has beyond its progress
is not in the index yet. Words and texts are written in one transaction, and the progress only after
all of it, so whatever ends this in the middle, no message is left out or in the index twice.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from mailserver.errors import Corrupt, MailError, NotFound
from mailserver.mail import content, making
from mailserver.mail.makers import MakerEnded, Makers, Threads
from mailserver.mail.making import Made
from mailserver.model import AccountId, EmailId, IdKind, Modseq, id_text
from mailserver.storage import leases, search_frames
from mailserver.storage import search_text as stored
from mailserver.storage.search_frames import NewFrame, Place

if TYPE_CHECKING:
    from mailserver.mail.context import Mail
    from mailserver.storage.database import Connection

log = logging.getLogger(__name__)

LEASE = "search text"
LEASE_TIME = timedelta(seconds=30)  # prolonged with every piece; who is killed gives nothing back
PAUSE = 1.0  # seconds without a change after which what was changed is followed
PAUSES = 5  # after so many it is followed though changes go on
SHORTEST_REST, LONGEST_REST = 0.01, 2.0  # seconds
STEPS = 4  # of a rest that is as long as the work before it; one is enough while nobody works
SPARE = 0.8  # of a core: with so much left over, others are not in the way of each other
LONGER = 3  # times as long as the work: the rest while others work all the time
PATIENCE = 60.0  # seconds of new mail; then the work has no low priority, the rest is as long as it
SWEEP = 30.0  # seconds between two looks at all accounts
PIECE = 50  # messages that are read and written at once
PIECE_OCTETS = 8 * 1024 * 1024  # of messages, unless one alone is larger
CHANGES = 200  # entries of the change log that are read at once
SLACK = 500  # changes without news that an account may be behind
WAITING = 1024  # kilobytes of words that may wait to be sorted into the index
WAITING_MORE = 8192  # while more is to come: together they are sorted in with a quarter less work
JOIN = 8  # small frames that become one
ACCOUNTS = 100  # that one look finds
UNTIDY = 100  # frames that are looked at in one round
WORDLESS = 20  # frames that get their words in one round


class Indexer:
    """Makes the search text of accounts; one at a time works on an account in this process."""

    def __init__(self, mail: "Mail") -> None:
        self._mail = mail
        self.makers: Makers = Threads()
        self._locks: WeakValueDictionary[AccountId, asyncio.Lock] = WeakValueDictionary()
        self._awaited: Counter[AccountId] = Counter()  # by how many
        self._apart = 0.0  # seconds for which others than this process were at work
        self._changed: set[AccountId] = set()
        self._wake = asyncio.Event()
        mail.events.forward(self._note)

    def _note(self, account: AccountId, modseq: Modseq) -> None:
        self._changed.add(account)
        self._wake.set()

    # Background work ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow what this process changes, until cancelled."""
        while True:
            await self._wake.wait()
            for _ in range(PAUSES):
                self._wake.clear()
                await asyncio.sleep(PAUSE)
                if not self._wake.is_set():
                    break
            changed, self._changed = self._changed, set()
            for account in changed:
                await self._attempt(self._up_to_date(account))

    async def sweep(self, owner: str) -> None:
        """Look after what no process did: old mail, and what was left by one that ended."""
        while True:
            await self._attempt(self.sweep_once(owner))
            await asyncio.sleep(SWEEP)

    async def sweep_once(self, owner: str) -> int:
        """Complete every account, unless another process does; return how many were not."""
        done = 0
        more = await self._leased(owner)
        while more:
            behind = await stored.accounts_behind(self._mail.database, ACCOUNTS)
            before = done
            for account in behind:
                if await self._attempt(self._complete(account, owner)):
                    done += 1
            # those that fail now are tried again by the next sweep
            more = len(behind) == ACCOUNTS and done > before
        for account in await search_frames.accounts_with_dead(self._mail.database, ACCOUNTS):
            async with self._lock(account):
                await self._tidy(account, any_dead=True)
        for account in await search_frames.accounts_without_vocabulary(
            self._mail.database, ACCOUNTS
        ):
            await self._attempt(self._add_vocabularies(account, owner))
        return done

    async def _complete(self, account: AccountId, owner: str) -> None:
        """Put everything of an account into the index, as long as the lease is ours."""
        complete = False
        while not complete and await self._leased(owner):
            complete = await self._unhurried(account, patient=True)

    async def _leased(self, owner: str) -> bool:
        mail = self._mail
        return await leases.take(mail.database, LEASE, owner, mail.now(), LEASE_TIME)

    async def _up_to_date(self, account: AccountId) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        complete = False
        while not complete:
            patient = loop.time() < begun + PATIENCE
            complete = await self._unhurried(account, patient=patient)

    async def _unhurried(self, account: AccountId, *, patient: bool) -> bool:
        """Catch up a little, and rest then: sessions come first."""
        loop = asyncio.get_running_loop()
        started = loop.time() - self._apart
        catch_up = self.catch_up if patient else self.catch_up_at_once
        complete = await catch_up(account, PIECE)
        await self._rest(loop.time() - self._apart - started, patient=patient)
        return complete

    async def _rest(self, worked: float, *, patient: bool) -> None:
        """Rest until nobody in this process works, or for so long that what they do goes first."""
        step = min(max(worked, SHORTEST_REST), LONGEST_REST) / STEPS
        database = self._mail.database
        times = LONGER if patient and self.makers.spare < SPARE else 1
        for _ in range(STEPS * times):
            before = database.used_at
            await asyncio.sleep(step)
            if database.used_at == before and not database.lent:
                return

    async def _attempt(self, work: Awaitable[object]) -> bool:
        try:
            await work
        except MailError as error:
            self._mail.metrics.background_failures.labels("search text").inc()
            log.warning("search text: not made", extra={"error": str(error)})
            return False
        return True

    # One account ----------------------------------------------------------------------------------

    def _lock(self, account: AccountId) -> asyncio.Lock:
        return self._locks.setdefault(account, asyncio.Lock())

    async def catch_up_at_once(self, account: AccountId, limit: int) -> bool:
        """Do what `catch_up` does for somebody who waits."""
        self._awaited[account] += 1
        try:
            return await self.catch_up(account, limit)
        finally:
            self._awaited[account] -= 1
            if not self._awaited[account]:
                del self._awaited[account]

    async def catch_up(self, account: AccountId, limit: int) -> bool:
        """Put what an account got into the index, about `limit` messages; True: now all is there.

        Raises Unavailable while PostgreSQL is away, or S3 when a body is only there.
        """
        async with self._lock(account):
            progress = await stored.progress(self._mail.database, account)
            if progress is None:
                return True
            if progress.modseq < progress.low_water_mark:
                # never looked at, or so long ago that the change log does not tell any more
                await stored.restart(self._mail.database, account, progress.account_modseq)
                progress = progress._replace(
                    modseq=progress.account_modseq, before=stored.EVERYTHING
                )
            left = limit
            if progress.modseq < progress.account_modseq:
                left = await self._follow(account, progress, left)
            if left > 0 and progress.before is not None:
                left = await self._descend(account, progress.before, left)
            return left > 0

    async def _follow(self, account: AccountId, progress: stored.Progress, left: int) -> int:
        """Work off the change log; return what is left of the limit: none unless at its end."""
        database = self._mail.database
        modseq = progress.modseq
        while left > 0:
            news = await stored.news(database, account, modseq, CHANGES)
            if not news:
                if progress.account_modseq - modseq > SLACK:
                    await stored.advance(database, account, progress.account_modseq)
                return left
            created = [each for entry in news if entry.created for each in entry.email_ids]
            missing = await stored.missing(database, account, created)
            pieces = _pieces(missing)
            for piece in pieces:
                if left <= 0:
                    return 0
                left -= len(piece)
                more = piece is not pieces[-1] or len(news) >= CHANGES
                await self._add(account, piece, more=more)
            gone = [each for entry in news if not entry.created for each in entry.email_ids]
            modseq = news[-1].modseq
            await self._done(account, gone, modseq)
            await self._tidy(account, any_dead=False)
        return left

    async def _descend(self, account: AccountId, before: int, left: int) -> int:
        """Work through old mail, newest first; return what is left of the limit."""
        database = self._mail.database
        while left > 0:
            missing = await stored.missing_before(database, account, before, PIECE)
            if not missing:
                orphans = await stored.orphans(database, account)
                async with database.transaction() as tx:
                    await stored.lock(tx, account)
                    await self._remove(tx, account, orphans)
                    await stored.descend(tx, account, None)
                return left
            for piece in _pieces(missing):
                await self._add(account, piece, more=len(missing) == PIECE)
            left -= len(missing)
            before = missing[-1][0]
            await stored.descend(database, account, before)
        return left

    async def _done(self, account: AccountId, gone: Sequence[int], modseq: Modseq) -> None:
        """Forget emails that were destroyed, and note how far the change log was followed."""
        async with self._mail.database.transaction() as tx:
            await stored.lock(tx, account)
            await self._remove(tx, account, gone)
            await stored.advance(tx, account, modseq)

    async def _remove(self, tx: "Connection", account: AccountId, gone: Sequence[int]) -> None:
        if not gone:
            return
        removed = set(await stored.remove_words(tx, account, gone))
        if not removed:
            return
        places = await search_frames.frames_of(tx, account, min(removed), max(removed))
        counts = [(place.id, len(removed.intersection(place.email_ids))) for place in places]
        await search_frames.count_dead(tx, account, [each for each in counts if each[1]])

    async def _add(self, account: AccountId, ids: Sequence[EmailId], *, more: bool) -> None:
        """Put some emails into the index; `more` are expected right after them."""
        while ids:
            made = await self._made(account, ids)
            known = await self._insert(account, made, WAITING_MORE if more else WAITING)
            # another process was first with these; the others are still ours to add
            ids = [each for each in ids if each not in known] if known else ()

    async def _insert(self, account: AccountId, made: Made, waiting: int) -> Collection[int]:
        """Write what still exists; or nothing, when some are in the index: they are returned."""
        mail = self._mail
        async with mail.database.transaction() as tx:
            await stored.lock(tx, account)
            if known := await stored.indexed(tx, account, [each for each, _ in made.words]):
                return known
            await stored.let_wait(tx, waiting)
            there = await stored.insert_words(tx, account, made.words)
            for frame in made.frames:
                # of those destroyed since, nobody else will say that they are dead
                dead = sum(each not in there for each in frame.email_ids)
                if dead < len(frame.email_ids):
                    new = NewFrame(mail.ids.next(), dead, *frame)
                    await search_frames.insert_frame(tx, account, new)
        mail.metrics.messages_indexed.inc(len(there))
        return ()

    async def _made(self, account: AccountId, ids: Sequence[EmailId]) -> Made:
        loop = asyncio.get_running_loop()
        try:
            given = await content.given(self._mail, account, ids)
            since = loop.time()
            made = await self.makers.index(given, awaited=self._awaited[account] > 0)
            if self.makers.apart:
                self._apart += loop.time() - since
        except (NotFound, Corrupt, MakerEnded) as error:
            if len(ids) > 1:
                return making.together([await self._made(account, [each]) for each in ids])
            _not_read(ids[0], str(error))
            return Made([(ids[0], "")], [], [])
        for email_id in made.unread:
            _not_read(email_id, "it cannot be decompressed")
        return made

    # Frames ---------------------------------------------------------------------------------------

    async def _tidy(self, account: AccountId, *, any_dead: bool) -> None:
        """Join small frames, and drop the texts of destroyed emails."""
        untidy = await search_frames.untidy_frames(
            self._mail.database, account, any_dead=any_dead, limit=UNTIDY
        )
        dying = [place for place in untidy if place.dead]
        if len(untidy) - len(dying) < JOIN:
            untidy = dying
        if not untidy:
            return
        await self._rewrite(account, untidy)

    async def _add_vocabularies(self, account: AccountId, owner: str) -> None:
        """Complete frames that were stored without their words, as long as the lease is ours."""
        while await self._leased(owner):
            async with self._lock(account):
                untidy = await search_frames.frames_without_vocabulary(
                    self._mail.database, account, WORDLESS
                )
                if not untidy:
                    return
                started = asyncio.get_running_loop().time()
                await self._rewrite(account, untidy)
            await self._rest(asyncio.get_running_loop().time() - started, patient=False)

    async def _rewrite(self, account: AccountId, untidy: Sequence[Place]) -> None:
        """Store the texts in frames anew, without those of destroyed emails."""
        mail = self._mail
        ids = [place.id for place in untidy]
        data = await search_frames.texts(mail.database, account, ids)
        members = [email_id for place in untidy for email_id in place.email_ids]
        alive = await stored.existing(mail.database, account, members)
        read = [
            (place.email_ids, frozenset(place.cut_ids), data[place.id])
            for place in untidy
            if place.id in data
        ]
        new = await asyncio.to_thread(making.rejoined, read, alive)
        async with mail.database.transaction() as tx:
            await stored.lock(tx, account)
            known = [(place.id, place.dead) for place in untidy]
            if await search_frames.remove_frames(tx, account, known) < len(known):
                raise _OvertakenError
            for frame in new:
                stored_frame = NewFrame(mail.ids.next(), 0, *frame)
                await search_frames.insert_frame(tx, account, stored_frame)


class _OvertakenError(MailError):
    """Another process did the same at the same time; nothing of this was written."""


def _pieces(missing: Sequence[tuple[EmailId, int]]) -> list[list[EmailId]]:
    """Split emails, given with their sizes, into those that are read at once."""
    pieces: list[list[EmailId]] = []
    room = 0
    for email_id, size in missing:
        if not pieces or len(pieces[-1]) >= PIECE or size > room:
            pieces.append([])
            room = PIECE_OCTETS
        pieces[-1].append(email_id)
        room -= size
    return pieces


def _not_read(email_id: int, error: str) -> None:
    named = {"email": id_text(IdKind.EMAIL, email_id), "error": error}
    log.error("search text: message cannot be read", extra=named)
