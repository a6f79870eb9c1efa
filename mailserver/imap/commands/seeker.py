"""What a search narrows its candidates by: the cheap keys first; only what is left is read."""

import asyncio
import operator
from array import array
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any, TypeVar

from mailserver.imap.commands.condstore import make_aware
from mailserver.imap.protocol.search_keys import (
    And,
    Everything,
    Fuzzy,
    HasEmailId,
    HasFlag,
    HasKeyword,
    HasThreadId,
    InBody,
    InHeader,
    InText,
    IsRecent,
    Key,
    Larger,
    Messages,
    Modified,
    Not,
    Older,
    Or,
    Order,
    Received,
    Saved,
    Sent,
    Smaller,
    Younger,
)
from mailserver.imap.protocol.view import View
from mailserver.imap.selected import EXPUNGE_ISSUED
from mailserver.imap.session import Session
from mailserver.mail import messages, search_bodies, search_headers
from mailserver.mail.casemap import casemap
from mailserver.mail.context import Mail
from mailserver.mail.frames import compared
from mailserver.mail.fuzzy import Query, percent
from mailserver.mail.listings import Listing
from mailserver.mail.search_headers import SearchHeader
from mailserver.model import AccountId, MailboxId

V = TypeVar("V")

MANY = 5000  # messages of a mailbox in which others are served between two keys
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is searched: a mailbox as it is, and as the client was told."""

    listing: Listing
    view: View


class Seeker:
    """One search over a snapshot of the mailbox; candidates are ascending positions."""

    def __init__(self, session: Session, corpus: Corpus | None = None) -> None:
        """Without a corpus, search the selected mailbox."""
        self._session = session
        searched = corpus or session.open
        listing, view = searched.listing, searched.view
        self._listing, self._view = listing, view
        self._account, self._mailbox = listing.account, listing.mailbox_id
        self.modseq = listing.modseq
        self.uids = view.uids[: view.count]
        # a message that left and was not announced has a number and nothing else: it is not found
        if listing.uids is view.uids:
            rows: Sequence[int | None] = range(view.count)
            self._present: Sequence[int] = range(view.count)
        else:
            rows = [listing.index(uid) for uid in self.uids]
            self._present = [position for position, row in enumerate(rows) if row is not None]
        self._flags = _column(listing.flags, rows)
        self.sizes = _column(listing.sizes, rows)
        self.received_at = _column(listing.received, rows)
        self.emails = _column(listing.email_ids, rows)
        self.modseqs = _column(listing.modseqs, rows)
        self._contents = listing.content_ids(self.uids, self.emails)
        self._threads = _column(listing.thread_ids, rows)
        self._keywords = dict(listing.keywords)
        self._scores: dict[int, list[float]] = {}  # of fuzzy matches

    async def find(self, key: Key) -> list[int]:
        """Return the messages that a key matches."""
        return await self.narrow(key, list(self._present))

    @property
    def code(self) -> bytes | None:
        """What the OK of the search tells: messages left that the client has numbers for."""
        return EXPUNGE_ISSUED if self._listing.uids is not self._view.uids else None

    async def narrow(self, key: Key, candidates: list[int]) -> list[int]:
        """Return the candidates that a key matches."""
        if not candidates:
            return candidates
        if len(self.uids) >= MANY:
            await asyncio.sleep(0)  # a command may have two thousand keys, such as "1:*"
        narrower: Callable[[Seeker, Any, list[int]], Awaitable[list[int]]] | None
        narrower = _NARROWERS.get(type(key))
        if narrower is not None:
            return await narrower(self, key, candidates)
        return _TESTS[type(key)](self, key, candidates)

    def numbers(self, found: Sequence[int], *, by_uid: bool) -> list[int]:
        """Return the UIDs or the sequence numbers of positions."""
        if by_uid:
            return [self.uids[position] for position in found]
        return [position + 1 for position in found]

    def identity(self, found: Sequence[int]) -> tuple[bytes, ...]:
        """Return what tells these messages, with their UIDs and numbers, from all others."""
        uids = [self.uids[position] for position in found]
        emails = [self.emails[position] for position in found]
        place = b"%d %d" % (self._account, self._mailbox)
        return (place, *(array("q", each).tobytes() for each in (found, uids, emails)))

    async def every(self, key: And, candidates: list[int]) -> list[int]:
        """Keep what all keys match, the cheap ones first."""
        for each in sorted(key.keys, key=_cost):
            candidates = await self.narrow(each, candidates)
        return candidates

    async def either(self, key: Or, candidates: list[int]) -> list[int]:
        """Keep what one of two keys matches; the second one sees only what the first left."""
        left, right = sorted((key.left, key.right), key=_cost)
        found = set(await self.narrow(left, candidates))
        rest = [position for position in candidates if position not in found]
        found.update(await self.narrow(right, rest))
        return [position for position in candidates if position in found]

    async def inverse(self, key: Not, candidates: list[int]) -> list[int]:
        """Keep what a key does not match."""
        if isinstance(key.key, HasFlag):  # as in UNSEEN, for which clients ask most
            flags, bit = self._flags, key.key.bit
            return [position for position in candidates if not flags[position] & bit]
        found = set(await self.narrow(key.key, candidates))
        return [position for position in candidates if position not in found]

    def numbered(self, key: Messages, candidates: list[int]) -> list[int]:
        """Keep the messages of a sequence set."""
        if not key.messages.ranges:
            spans = self._view.saved_spans()
        elif key.by_uid:
            spans = key.messages.by_uid(self.uids, len(self.uids))
        else:
            spans = key.messages.within(len(self.uids))
        named = {position for span in spans for position in span}
        return [position for position in candidates if position in named]

    def flagged(self, key: HasFlag, candidates: list[int]) -> list[int]:
        """Keep the messages with a bit."""
        flags, bit = self._flags, key.bit
        return [position for position in candidates if flags[position] & bit]

    def labelled(self, key: HasKeyword, candidates: list[int]) -> list[int]:
        """Keep the messages with a keyword."""
        with_it = {
            uid
            for uid, words in self._keywords.items()
            if any(word.lower() == key.keyword for word in words)
        }
        return [position for position in candidates if self.uids[position] in with_it]

    def recent(self, key: IsRecent, candidates: list[int]) -> list[int]:
        r"""Keep the messages that are \Recent here."""
        positions = set(self._view.recent_positions())
        return [position for position in candidates if position in positions]

    def larger(self, key: Larger, candidates: list[int]) -> list[int]:
        """Keep the messages above a size."""
        return [position for position in candidates if self.sizes[position] > key.size]

    def smaller(self, key: Smaller, candidates: list[int]) -> list[int]:
        """Keep the messages below a size."""
        return [position for position in candidates if self.sizes[position] < key.size]

    def received(self, key: Received, candidates: list[int]) -> list[int]:
        """Keep by INTERNALDATE, whose zone is UTC here."""
        return _on_days(key.order, key.day, self.received_at, candidates)

    async def saved(self, key: Saved, candidates: list[int]) -> list[int]:
        """Keep by the day of saving; one that left meanwhile was saved on none (RFC 8514 §4.3)."""
        session = self._session
        uids = [self.uids[position] for position in candidates]
        dates = await messages.saved(session.mail, self._account, self._mailbox, uids)
        known = {p: dates[uid] for p, uid in zip(candidates, uids, strict=True) if uid in dates}
        return _on_days(key.order, key.day, known, list(known))

    def of_email(self, key: HasEmailId, candidates: list[int]) -> list[int]:
        """Keep the messages of one content (RFC 8474 §6)."""
        return [p for p in candidates if self._contents[p] == key.value]

    def of_thread(self, key: HasThreadId, candidates: list[int]) -> list[int]:
        """Keep the messages of one thread (RFC 8474 §6)."""
        return [p for p in candidates if self._threads[p] == key.value]

    def older(self, key: Older, candidates: list[int]) -> list[int]:
        """Keep what came so many seconds ago or before."""
        limit = self._now - key.seconds
        return [p for p in candidates if self.received_at[p] // 1000 <= limit]

    def younger(self, key: Younger, candidates: list[int]) -> list[int]:
        """Keep what came so many seconds ago or later."""
        limit = self._now - key.seconds
        return [p for p in candidates if self.received_at[p] // 1000 >= limit]

    @property
    def _now(self) -> int:
        return int(self._session.mail.now().timestamp())

    async def modified(self, key: Modified, candidates: list[int]) -> list[int]:
        """Keep what has at least a mod-sequence (RFC 7162 §3.1.5)."""
        await make_aware(self._session)
        return [position for position in candidates if self.modseqs[position] >= key.modseq]

    async def sent(self, key: Sent, candidates: list[int]) -> list[int]:
        """Keep by the Date field, in the zone that it was written in."""
        found: list[int] = []
        day = key.day.isoformat()
        compares = _COMPARES[key.order]
        async for positions, rows in self.headers(candidates):
            found += [
                position
                for position, row in zip(positions, rows, strict=True)
                if row.sent_day is not None and compares(row.sent_day, day)
            ]
        return sorted(found)

    async def in_header(self, key: InHeader, candidates: list[int]) -> list[int]:
        """Keep by the decoded text of a header field."""
        wanted = casemap(key.text)
        found: list[int] = []
        async for positions, texts in self._texts(key.field, candidates):
            found += [
                position
                for position, text in zip(positions, texts, strict=True)
                if text is not None and wanted in text
            ]
        return sorted(found)

    async def fuzzily(self, key: Fuzzy, candidates: list[int]) -> list[int]:
        """Keep what is like a text, and note how like (RFC 6203)."""
        query = Query(compared(key.key.text))
        if query.is_empty:
            found = dict.fromkeys(await self.narrow(key.key, candidates), 1.0)
        elif isinstance(key.key, InHeader):
            found = await self._header_scores(key.key.field, query, candidates)
        else:
            everywhere = isinstance(key.key, InText)
            found = await self._content_scores(query, candidates, everywhere=everywhere)
        for position, score in found.items():
            self._scores.setdefault(position, []).append(score)
        return sorted(found)

    async def _header_scores(
        self, field: str, query: Query, candidates: list[int]
    ) -> dict[int, float]:
        scores: dict[int, float] = {}
        async for positions, texts in self._texts(field, candidates):
            known = [each for each in zip(positions, texts, strict=True) if each[1] is not None]
            some = await asyncio.to_thread(_scored, query, [text or "" for _, text in known])
            scores.update(zip((position for position, _ in known), some, strict=True))
        return {position: score for position, score in scores.items() if score}

    async def _content_scores(
        self, query: Query, candidates: list[int], *, everywhere: bool
    ) -> dict[int, float]:
        emails = self.emails
        scores = await search_bodies.scores(
            self._session.mail,
            self._account,
            [(emails[position], self.sizes[position]) for position in candidates],
            query,
            everywhere=everywhere,
            advance=self._session.advance,
        )
        return {p: scores[emails[p]] for p in candidates if emails[p] in scores}

    def relevancies(self, found: Iterable[int]) -> list[int]:
        """Return the relevancy of messages, 1 to 100 (RFC 6203 §4)."""
        return [percent(self._scores.get(position, ())) for position in found]

    async def in_body(self, key: InBody, candidates: list[int]) -> list[int]:
        """Keep by the text of the body."""
        return await self._in_content(candidates, key.text, everywhere=False)

    async def in_text(self, key: InText, candidates: list[int]) -> list[int]:
        """Keep by the text of header or body."""
        return await self._in_content(candidates, key.text, everywhere=True)

    async def headers(
        self, candidates: Sequence[int]
    ) -> AsyncIterator[tuple[Sequence[int], list[SearchHeader]]]:
        """Yield positions and what is kept of their headers, in any order."""
        async for stretch in self._stretches(search_headers.read, candidates):
            yield stretch

    async def dates(
        self, candidates: Sequence[int]
    ) -> AsyncIterator[tuple[Sequence[int], list[float | None]]]:
        """Yield positions and when the messages were sent, if they say so, in any order."""
        async for stretch in self._stretches(search_headers.sent, candidates):
            yield stretch

    async def _texts(
        self, field: str, candidates: Sequence[int]
    ) -> AsyncIterator[tuple[Sequence[int], list[str | None]]]:
        """Yield positions and the texts of a header field, in any order."""
        async for stretch in self._stretches(partial(search_headers.texts, field), candidates):
            yield stretch

    async def _stretches(
        self,
        read: Callable[
            [Mail, AccountId, MailboxId, Sequence[int]],
            AsyncGenerator[tuple[Sequence[int], list[V]], None],
        ],
        candidates: Sequence[int],
    ) -> AsyncGenerator[tuple[Sequence[int], list[V]], None]:
        """Yield positions and what is read of their headers, and tell how far that is."""
        ids = [self.emails[position] for position in candidates]
        found = read(self._session.mail, self._account, self._mailbox, ids)
        done = 0
        async with aclosing(found) as stretches:
            async for places, some in stretches:
                done += len(places)
                self._session.advance(done, len(ids))
                yield _at(candidates, places), some

    async def _in_content(self, candidates: list[int], text: str, *, everywhere: bool) -> list[int]:
        found = await search_bodies.matching(
            self._session.mail,
            self._account,
            [(self.emails[position], self.sizes[position]) for position in candidates],
            text,
            everywhere=everywhere,
            advance=self._session.advance,
        )
        return [position for position in candidates if self.emails[position] in found]


def _at(candidates: Sequence[int], places: Sequence[int]) -> Sequence[int]:
    if len(places) == len(candidates):  # all of them, in their order
        return candidates
    return [candidates[place] for place in places]


def _scored(query: Query, texts: Iterable[str]) -> list[float]:
    return [query.score([(compared(text), 1.0)]) for text in texts]


def _column(values: "array[int]", rows: Sequence[int | None]) -> Sequence[int]:
    if isinstance(rows, range):
        return values[rows.start : rows.stop]
    return [0 if row is None else values[row] for row in rows]


def _on_days(
    order: Order, day: date, stamps: Sequence[int] | Mapping[int, int], candidates: list[int]
) -> list[int]:
    """Keep the positions whose stamps are before, on or since a day of UTC."""
    start = _milliseconds(day)
    end = start + _DAY // timedelta(milliseconds=1)
    if order is Order.BEFORE:
        return [position for position in candidates if stamps[position] < start]
    if order is Order.SINCE:
        return [position for position in candidates if stamps[position] >= start]
    return [position for position in candidates if start <= stamps[position] < end]


def _milliseconds(day: date) -> int:
    since = datetime.combine(day, time(), UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(milliseconds=1)


# days as "YYYY-MM-DD", which sort like dates
_COMPARES: dict[Order, Callable[[str, str], bool]] = {
    Order.BEFORE: operator.lt,
    Order.ON: operator.eq,
    Order.SINCE: operator.ge,
}


def _cost(key: Key) -> int:
    """How dear a key is: arrays, then headers, then bodies."""
    if isinstance(key, Fuzzy):
        key = key.key
    if isinstance(key, InBody | InText):
        return 3
    if isinstance(key, InHeader | Sent | Saved):
        return 2
    if isinstance(key, Not):
        return _cost(key.key)
    if isinstance(key, Or):
        return max(_cost(key.left), _cost(key.right))
    if isinstance(key, And):
        return max(map(_cost, key.keys))
    return 1


def _everything(seeker: Seeker, key: Everything, candidates: list[int]) -> list[int]:
    return candidates


_NARROWERS: dict[type, Callable[[Seeker, Any, list[int]], Awaitable[list[int]]]] = {
    And: Seeker.every,
    Or: Seeker.either,
    Not: Seeker.inverse,
    Modified: Seeker.modified,
    Sent: Seeker.sent,
    Saved: Seeker.saved,
    InHeader: Seeker.in_header,
    InBody: Seeker.in_body,
    InText: Seeker.in_text,
    Fuzzy: Seeker.fuzzily,
}
_TESTS: dict[type, Callable[[Seeker, Any, list[int]], list[int]]] = {
    Everything: _everything,
    Messages: Seeker.numbered,
    HasFlag: Seeker.flagged,
    HasKeyword: Seeker.labelled,
    IsRecent: Seeker.recent,
    Larger: Seeker.larger,
    Smaller: Seeker.smaller,
    Received: Seeker.received,
    Older: Seeker.older,
    Younger: Seeker.younger,
    HasEmailId: Seeker.of_email,
    HasThreadId: Seeker.of_thread,
}
