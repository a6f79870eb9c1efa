"""SEARCH: candidates are narrowed by the cheap keys first; only what is left is read."""

import asyncio
import operator
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from mailserver.imap.commands.condstore import make_aware
from mailserver.imap.commands.context import Arrange, Question, demand_new_tag, keep_updated
from mailserver.imap.commands.limits import newest_found
from mailserver.imap.protocol.context import frozen, names_last
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.search import (
    Returns,
    Search,
    Wanted,
    esearch,
    mentions,
    modseq_shown,
    names_numbers,
    to_save,
)
from mailserver.imap.protocol.search_keys import (
    And,
    Everything,
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
from mailserver.imap.protocol.sort import Sort
from mailserver.imap.protocol.view import View
from mailserver.imap.session import Session
from mailserver.mail import messages, search_bodies, search_headers
from mailserver.mail.casemap import casemap
from mailserver.mail.listings import Listing
from mailserver.mail.search_headers import FIELDS, SearchHeader
from mailserver.mime import HeaderBlock, as_text
from mailserver.model import Email

HEADER_ROWS = 500  # messages whose headers are read at once
_DAY = timedelta(days=1)


async def search(session: Session, command: Search) -> None:
    """Tell which messages match (RFC 3501 §6.4.4); the response comes also when none does."""
    demand_no_charset(session, command)
    if session.rev2 and command.returns is None:
        command = replace(command, returns=Returns(Wanted.ALL))  # RFC 9051 §6.4.4
    await prepare(session, command.key)
    updates = wants_updates(session, command)
    async with saving(session, command.returns):
        seeker = Seeker(session)
        found = await seeker.narrow(command.key, list(range(len(seeker.uids))))
        told = newest_found(session, command.returns, found, seeker.uids)
    tell(session, command, b"SEARCH", seeker, told)
    if updates:
        follow(session, command, seeker, told)


def wants_updates(session: Session, command: Search | Sort) -> bool:
    """Whether results shall be told again as they change; refuses a tag that is in use."""
    if command.returns is None or Wanted.UPDATE not in command.returns.wanted:
        return False
    demand_new_tag(session)
    return True


def follow(
    session: Session,
    command: Search | Sort,
    seeker: "Seeker",
    found: Sequence[int],
    arrange: Arrange | None = None,
    place: bytes = b"",
) -> None:
    """Keep the results of a search of the selected mailbox up to date (RFC 5267 §4.3)."""
    key = frozen(command.key, session.open.view)

    async def examine(candidates: list[int]) -> Sequence[int]:
        return await Seeker(session).narrow(key, candidates)

    question = Question(session.tag, command.by_uid, examine, arrange, names_last(key), place)
    last = seeker.uids[-1] if seeker.uids else 0
    keep_updated(session, question, seeker.numbers(found, by_uid=True), seeker.modseq, last)


def demand_no_charset(session: Session, command: Search) -> None:
    """Refuse a charset where all strings are UTF-8 (RFC 6855 §3)."""
    if command.names_charset and b"UTF8=ACCEPT" in session.enabled:
        raise ProtocolError("Strings are UTF-8, no charset can be named")


async def prepare(session: Session, key: Key) -> None:
    """Refuse numbers that the client does not know (RFC 9586 §3); note that it knows modseqs."""
    if session.uidonly and names_numbers(key):
        raise ProtocolError("Messages have to be named by UID", b"UIDREQUIRED")
    if mentions(key, Modified):
        await make_aware(session)


@asynccontextmanager
async def saving(session: Session, returns: Returns | None) -> AsyncIterator[None]:
    """Forget what "$" was when a search fails that was to save (RFC 5182 §2.1)."""
    try:
        yield
    except ProtocolError:
        raise  # BAD changes nothing
    except Exception:
        if returns is not None and Wanted.SAVE in returns.wanted:
            session.open.view.saved = ()
        raise


def tell(
    session: Session, command: Search | Sort, word: bytes, seeker: "Seeker", found: Sequence[int]
) -> None:
    """Send the numbers of what was found, in its order, or what was asked for of it."""
    if command.returns is not None:
        tell_extended(session, command, seeker, found)
        return
    numbers = seeker.numbers(found, by_uid=command.by_uid)
    modseq = b""
    if found and mentions(command.key, Modified):
        modseq = b" (MODSEQ %d)" % max(seeker.modseqs[position] for position in found)
    session.untagged(b" ".join([word, *(b"%d" % number for number in numbers)]) + modseq)


def tell_extended(
    session: Session,
    command: Search | Sort,
    seeker: "Seeker",
    found: Sequence[int],
    *,
    place: bytes = b"",
    silent: bool = False,
) -> None:
    """Save what was found, and send an ESEARCH response unless `silent`."""
    returns = command.returns
    assert returns is not None
    if Wanted.SAVE in returns.wanted:
        session.open.view.saved = to_save(returns, seeker.numbers(found, by_uid=True))
    numbers = seeker.numbers(found, by_uid=command.by_uid)
    response = esearch(session.tag, returns, numbers, by_uid=command.by_uid, place=place)
    if response is None or silent:
        return
    if found and mentions(command.key, Modified):
        shown = modseq_shown(returns, [seeker.modseqs[position] for position in found])
        response += b" MODSEQ %d" % shown
    session.untagged(response)


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
        self._view = view
        self._account, self._mailbox = listing.account, listing.mailbox_id
        self.modseq = listing.modseq
        self.uids = view.uids[: view.count]
        if listing.uids is view.uids:
            rows: Sequence[int | None] = range(view.count)
        else:
            rows = [listing.index(uid) for uid in self.uids]
        # a message that left and was not announced has a number and nothing else
        self._flags = _column(listing.flags, rows)
        self.sizes = _column(listing.sizes, rows)
        self.received_at = _column(listing.received, rows)
        self.emails = _column(listing.email_ids, rows)
        self.modseqs = _column(listing.modseqs, rows)
        self._contents = listing.content_ids(self.uids, self.emails)
        self._threads = _column(listing.thread_ids, rows)
        self._keywords = dict(listing.keywords)

    async def narrow(self, key: Key, candidates: list[int]) -> list[int]:
        """Return the candidates that a key matches."""
        if not candidates:
            return candidates
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
        if key.field in FIELDS:
            which = FIELDS.index(key.field)
            async for positions, rows in self.headers(candidates):
                texts = [row.fields[which] for row in rows]
                found += [
                    position
                    for position, text in zip(positions, texts, strict=True)
                    if text is not None and wanted in text
                ]
            return sorted(found)
        async for position, header in self._blocks(candidates):
            if any(wanted in casemap(as_text(value)) for value in header.all(key.field)):
                found.append(position)
        return found

    async def in_body(self, key: InBody, candidates: list[int]) -> list[int]:
        """Keep by the text of the body."""
        return await self._in_content(candidates, key.text, everywhere=False)

    async def in_text(self, key: InText, candidates: list[int]) -> list[int]:
        """Keep by the text of header or body."""
        return await self._in_content(candidates, key.text, everywhere=True)

    async def _read(self, positions: list[int], *, header: bool) -> list[tuple[int, Email]]:
        ids = [self.emails[position] for position in positions]
        mail = self._session.mail
        found = await messages.emails(mail, self._account, ids, header=header)
        by_id: dict[int, Email] = dict(found.items())
        return [
            (position, by_id[email_id])
            for position, email_id in zip(positions, ids, strict=True)
            if email_id in by_id
        ]

    async def headers(
        self, candidates: Sequence[int]
    ) -> AsyncIterator[tuple[list[int], list[SearchHeader]]]:
        """Yield positions and what is kept of their headers, in any order."""
        emails = self.emails
        ids = [emails[position] for position in candidates]
        mail = self._session.mail
        async for places, rows in search_headers.read(mail, self._account, self._mailbox, ids):
            yield [candidates[place] for place in places], rows

    async def _blocks(self, candidates: list[int]) -> AsyncIterator[tuple[int, HeaderBlock]]:
        for start in range(0, len(candidates), HEADER_ROWS):
            for position, email in await self._read(
                candidates[start : start + HEADER_ROWS], header=True
            ):
                yield position, HeaderBlock(email.header)
            await asyncio.sleep(0)  # others are served between two chunks

    async def _in_content(self, candidates: list[int], text: str, *, everywhere: bool) -> list[int]:
        found = await search_bodies.matching(
            self._session.mail,
            self._account,
            self._mailbox,
            [(self.emails[position], self.sizes[position]) for position in candidates],
            text,
            everywhere=everywhere,
        )
        return [position for position in candidates if self.emails[position] in found]


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
