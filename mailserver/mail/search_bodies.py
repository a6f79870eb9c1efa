"""The text of messages for searching: stored behind delivery, and kept in memory per account.

Looked at where words do not tell. What is not stored yet, or not whole, is decoded when it is first
searched.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Iterable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from mailserver.mail import content, frames, making, search_vocabularies
from mailserver.mail.ahead import in_order
from mailserver.mail.frames import Frame, compared
from mailserver.mail.fuzzy import Query
from mailserver.mail.making import Given
from mailserver.mail.search_vocabularies import pieces, read_ahead
from mailserver.mail.shelves import Shelf, Shelves
from mailserver.model import AccountId, EmailId
from mailserver.storage import search_frames as stored
from mailserver.storage.compression import FAST

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

ROOM = 32 * 1024 * 1024  # octets of frames in memory
THREADS = 2  # that search at once: decompression leaves the interpreter free
FRAMES = 20  # that are searched before others are served


class SearchBodies(Shelves[Frame]):
    """The frames that a process keeps, in the order in which accounts were searched."""

    def __init__(self, room: int = ROOM) -> None:
        super().__init__(room)


async def matching(
    mail: "Mail",
    account: AccountId,
    candidates: Sequence[tuple[int, int]],
    text: str,
    *,
    everywhere: bool,
    advance: Callable[[int, int], None],
) -> set[int]:
    """Return the emails whose body, or also header, contains a text.

    Candidates are ids and sizes. Those returned may be more than the candidates. Of the messages
    that have to be read `advance` is told how many were, and how many there are.
    """
    wanted = compared(text)
    found, left = await search_vocabularies.decided(
        mail, account, candidates, wanted, everywhere=everywhere, advance=advance
    )
    async for some in _frames(mail, account, left, advance):
        shares = (some[share::THREADS] for share in range(THREADS))
        work = (
            asyncio.to_thread(_matching, share, wanted, everywhere) for share in shares if share
        )
        for matches in await asyncio.gather(*work):
            found.update(matches)
    return found


async def scores(
    mail: "Mail",
    account: AccountId,
    candidates: Sequence[tuple[int, int]],
    query: Query,
    *,
    everywhere: bool,
    advance: Callable[[int, int], None],
) -> dict[int, float]:
    """Return how well emails match a query by their body, or also header; those that do.

    Candidates, those returned and `advance` are as in `matching`.
    """
    found: dict[int, float] = {}
    async for some in _frames(mail, account, candidates, advance):
        found.update(await asyncio.to_thread(_scores, some, query, everywhere))
    return found


async def texts(
    mail: "Mail", account: AccountId, candidates: Sequence[tuple[int, int]]
) -> dict[int, str]:
    """Return the text of the bodies of emails and the names of what is attached, as compared.

    Candidates are ids and sizes, few enough for all of their texts to be in memory.
    """
    wanted = {each for each, _ in candidates}
    found: dict[int, str] = {}
    async for some in _frames(mail, account, candidates, lambda done, all_of_them: None):
        found.update(await asyncio.to_thread(_texts, some, wanted))
    return found


def _texts(some: Sequence[Frame], wanted: Container[int]) -> dict[int, str]:
    return {
        each.email_id: (each.body + b"\n" + each.names).decode("utf-8", "replace")
        for frame in some
        for each in frame.texts()
        if each.email_id in wanted
    }


async def _frames(
    mail: "Mail",
    account: AccountId,
    candidates: Sequence[tuple[int, int]],
    advance: Callable[[int, int], None],
) -> AsyncIterator[Sequence[Frame]]:
    """Yield the texts of candidates: from memory, from the store, and then those made now."""
    cache = mail.search_bodies
    kept = cache.get(account)
    known = dict.fromkeys(
        frame for each, _ in candidates if (frame := kept.rows.get(each)) is not None
    )
    missing = {each: size for each, size in candidates if each and each not in kept.rows}
    in_memory = list(known)
    for start in range(0, len(in_memory), FRAMES):
        yield in_memory[start : start + FRAMES]
    if missing:
        async for read in _stored(mail, account, kept, missing):
            yield read
    async with aclosing(_made(mail, account, list(missing.items()), advance)) as new:
        async for frame in new:
            _keep(cache, kept, frame, frame.ids)
            yield [frame]


async def _made(
    mail: "Mail",
    account: AccountId,
    unread: Sequence[tuple[int, int]],
    advance: Callable[[int, int], None],
) -> AsyncGenerator[Frame, None]:
    """Decode messages, while the next ones are read."""

    async def read(ids: Sequence[EmailId]) -> list[Given]:
        return await content.given(mail, account, ids)

    done = 0
    async with aclosing(in_order(pieces(unread), read, 2)) as groups:
        async for given in groups:
            advance(done, len(unread))
            done += len(given)
            yield await asyncio.to_thread(_frame, given)


async def _stored(
    mail: "Mail", account: AccountId, kept: Shelf[Frame], missing: dict[int, int]
) -> AsyncIterator[Sequence[Frame]]:
    """Yield stored frames with texts that are missing, and take off what they have whole."""
    places = [
        place
        for place in await stored.frames_of(mail.database, account, min(missing), max(missing))
        if not missing.keys().isdisjoint(place.email_ids)
    ]

    async def read(ids: Sequence[int]) -> dict[int, bytes]:
        return await stored.texts(mail.database, account, ids)

    async with aclosing(read_ahead(places, FRAMES, read)) as groups:
        async for some in groups:
            found = []
            for place, data in some:
                frame = Frame(place.email_ids, data)
                whole = set(place.email_ids).difference(place.cut_ids)
                _keep(mail.search_bodies, kept, frame, whole)
                for email_id in whole:
                    missing.pop(email_id, None)
                found.append(frame)
            yield found


def _keep(cache: SearchBodies, kept: Shelf[Frame], frame: Frame, ids: Iterable[int]) -> None:
    rows = {each: frame for each in ids if each not in kept.rows}
    if rows:
        cache.keep(kept, rows, frame.size)


def _matching(some: Sequence[Frame], wanted: bytes, everywhere: bool) -> list[int]:
    return [each for frame in some for each in frame.matching(wanted, everywhere=everywhere)]


def _scores(some: Sequence[Frame], query: Query, everywhere: bool) -> list[tuple[int, float]]:
    return [each for frame in some for each in frame.scores(query, everywhere=everywhere)]


def _frame(given: Sequence[Given]) -> Frame:
    """Decode messages; runs in a thread."""
    rows = [making.whole_texts(each) for each in given]
    return Frame([row.email_id for row in rows], frames.packed(rows, FAST)[1])
