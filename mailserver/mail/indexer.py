"""The making of search text, right behind delivery: it follows the change log of each account.

Nothing is noted when mail is accepted. What the change log of an account has beyond its progress
is not in the index yet. Words and texts are written in one transaction, and the progress only after
all of it, so whatever ends this in the middle, no message is left out or in the index twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from mailserver.errors import Corrupt, MailError, NotFound
from mailserver.mail import content, frames, tokens, vocabulary
from mailserver.mail.frames import Frame, Texts
from mailserver.mime import SearchText, parse, search_text
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
PAUSES = 20  # after so many it is followed though changes go on
LONGEST_REST = 2.0  # seconds
STEPS = 4  # of a rest that is as long as the work before it; one is enough while nobody works
LONGER = 10  # times as long as the work: the rest while others work all the time
PATIENCE = 60.0  # seconds after which it is no longer than the work
SWEEP = 30.0  # seconds between two looks at all accounts
PIECE = 100  # messages that are read and written at once
PIECE_OCTETS = 8 * 1024 * 1024  # of messages, unless one alone is larger
STEP = 6  # messages whose words are found before others are served
CHANGES = 200  # entries of the change log that are read at once
SLACK = 500  # changes without news that an account may be behind
WAITING = 1024  # kilobytes of words that may wait to be sorted into the index
WAITING_MORE = 4096  # while more is to come: together they are sorted in with a quarter less work
JOIN = 8  # small frames that become one
ACCOUNTS = 100  # that one look finds
UNTIDY = 100  # frames that are looked at in one round
WORDLESS = 20  # frames that get their words in one round

_MARKS = {"from": "F", "to": "T", "cc": "C", "bcc": "B"}
SUBJECT_MARK = "S"
FIELD_MARK = "H"  # of the names of header fields
BODY_MARK = ""


class Made(NamedTuple):
    """What is stored of one message."""

    words: str
    texts: Texts | None  # None: they could not be read


class Indexer:
    """Makes the search text of accounts; one at a time works on an account in this process."""

    def __init__(self, mail: "Mail") -> None:
        self._mail = mail
        self._locks: WeakValueDictionary[AccountId, asyncio.Lock] = WeakValueDictionary()
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
        begun = asyncio.get_running_loop().time()
        complete = False
        while not complete and await self._leased(owner):
            complete = await self._unhurried(account, begun)

    async def _leased(self, owner: str) -> bool:
        mail = self._mail
        return await leases.take(mail.database, LEASE, owner, mail.now(), LEASE_TIME)

    async def _up_to_date(self, account: AccountId) -> None:
        begun = asyncio.get_running_loop().time()
        complete = False
        while not complete:
            complete = await self._unhurried(account, begun)

    async def _unhurried(self, account: AccountId, begun: float) -> bool:
        """Catch up a little, and rest then: sessions come first."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        complete = await self.catch_up(account, PIECE)
        ended = loop.time()
        await self._rest(ended - started, patient=ended < begun + PATIENCE)
        return complete

    async def _rest(self, worked: float, *, patient: bool) -> None:
        """Rest until nobody in this process works, or for so long that what they do goes first."""
        step = min(worked, LONGEST_REST) / STEPS
        database = self._mail.database
        for _ in range(STEPS * (LONGER if patient else 1)):
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
        made = await self._made(account, ids)
        while made:
            known = await self._insert(account, made, WAITING_MORE if more else WAITING)
            # another process was first with these; the others are still ours to add
            made = {each: found for each, found in made.items() if each not in known}

    async def _insert(
        self, account: AccountId, made: dict[EmailId, Made], waiting: int
    ) -> Collection[int]:
        """Write what still exists and return all ids; or nothing, when some are in the index.

        Those in the index are returned then.
        """
        mail = self._mail
        texts = [each.texts for each in made.values() if each.texts is not None]
        new = await asyncio.to_thread(_new_frames, texts)
        async with mail.database.transaction() as tx:
            await stored.lock(tx, account)
            if known := await stored.indexed(tx, account, list(made)):
                return known
            await stored.let_wait(tx, waiting)
            words = [(email_id, each.words) for email_id, each in made.items()]
            there = await stored.insert_words(tx, account, words)
            if len(there) < len(made):  # destroyed since: nothing would count them as dead
                texts = [each for each in texts if each.email_id in there]
                new = await asyncio.to_thread(_new_frames, texts)
            for frame in new:
                await search_frames.insert_frame(tx, account, frame._replace(id=mail.ids.next()))
        mail.metrics.messages_indexed.inc(len(there))
        return made.keys()

    async def _made(self, account: AccountId, ids: Sequence[EmailId]) -> dict[EmailId, Made]:
        mail = self._mail
        try:
            raw = list((await content.of_emails(mail, account, ids)).items())
        except (NotFound, Corrupt) as error:
            if len(ids) > 1:
                made: dict[EmailId, Made] = {}
                for each in ids:
                    made.update(await self._made(account, [each]))
                return made
            named = {"email": id_text(IdKind.EMAIL, ids[0]), "error": str(error)}
            log.error("search text: message cannot be read", extra=named)
            return {ids[0]: Made("", None)}
        found: dict[EmailId, Made] = {}
        for start in range(0, len(raw), STEP):
            found.update(await asyncio.to_thread(_made_of, raw[start : start + STEP]))
        return found

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
        new = await asyncio.to_thread(_rewritten, untidy, data, alive)
        async with mail.database.transaction() as tx:
            await stored.lock(tx, account)
            read = [(place.id, place.dead) for place in untidy]
            if await search_frames.remove_frames(tx, account, read) < len(read):
                raise _OvertakenError
            for frame in new:
                await search_frames.insert_frame(tx, account, frame._replace(id=mail.ids.next()))


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


def _made_of(raw: Sequence[tuple[EmailId, bytes]]) -> dict[EmailId, Made]:
    """Decode messages; runs in a thread."""
    made = {}
    for email_id, octets in raw:
        message = parse(octets)
        found = search_text(octets, message, frames.LIMIT)
        texts = frames.texts(
            email_id, found, limit=frames.TEXT_OCTETS, cut=not frames.fits(message)
        )
        names = {name.decode("ascii", "replace").lower() for name, _ in message.header.pairs()}
        body_words = vocabulary.words(texts.body)
        # the one mark that is compared as a letter may change places with others
        whole = len(texts.body) < frames.TEXT_OCTETS and "\u0345" not in found.body
        made[email_id] = Made(
            words_of(found, names, body_words if whole else None),
            texts._replace(body_words=body_words),
        )
    return made


def words_of(found: SearchText, fields: set[str], body: Collection[bytes] | None = None) -> str:
    """Return the words of a message with the marks of where they are, joined by blanks.

    `body` are those of the body, if all are known: to find them is most of the work.
    """
    words = tokens.words(found.attachments)
    words.update(tokens.words(found.body) if body is None else tokens.of_vocabulary(body))
    words.update(SUBJECT_MARK + word for word in tokens.words(found.subject))
    for field, mark in _MARKS.items():
        text = found.addresses(field)
        words.update(mark + word for word in tokens.words(text) | tokens.addresses(text))
    words.update(FIELD_MARK + name for name in fields if name.isprintable() and " " not in name)
    joined = " ".join(words)
    if len(joined) * 4 > tokens.MAX_WORDS_SIZE and len(joined.encode()) > tokens.MAX_WORDS_SIZE:
        cut = joined.encode()[: tokens.MAX_WORDS_SIZE].decode("utf-8", "ignore")
        return cut.rpartition(" ")[0]
    return joined


def _new_frames(texts: Sequence[Texts]) -> list[NewFrame]:
    """Compress texts; runs in a thread. The frames have no id yet."""
    new = []
    for rows in frames.grouped(sorted(texts)):
        size, data = frames.packed(rows, frames.LEVEL)
        words = vocabulary.pack(row.words() for row in rows)
        ids = [row.email_id for row in rows]
        cut = [row.email_id for row in rows if row.cut]
        small = len(rows) <= frames.ROWS // 2 and size <= frames.OCTETS // 2
        new.append(NewFrame(0, ids, cut, size, small, data, words))
    return new


def _rewritten(places: Sequence[Place], data: dict[int, bytes], alive: set[int]) -> list[NewFrame]:
    """Join the texts of those that are alive; runs in a thread."""
    texts = []
    for place in places:
        if place.id not in data:
            continue
        cut = set(place.cut_ids)
        rows = Frame(place.email_ids, data[place.id]).texts()
        texts += [row._replace(cut=row.email_id in cut) for row in rows if row.email_id in alive]
    return _new_frames(texts)
