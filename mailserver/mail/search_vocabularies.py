"""Which messages may have a text, told by their words: stored behind delivery, kept in memory.

They are a fraction of what the texts are, and of a text of letters and digits they are the answer.
Those that are not stored yet are made when they are searched first, and kept in the same way.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from mailserver.errors import Unavailable
from mailserver.mail import content, frames
from mailserver.mail.ahead import in_order
from mailserver.mail.makers import MakerEnded
from mailserver.mail.shelves import Shelf, Shelves
from mailserver.mail.vocabulary import Sought, Vocabulary, sought
from mailserver.model import AccountId, EmailId
from mailserver.storage import search_frames as stored

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

ROOM = 48 * 1024 * 1024  # octets of words in memory
AT_ONCE = 100  # vocabularies that are read, or searched before the search can be cancelled
THREADS = 2  # that search at once: decompression leaves the interpreter free
AHEAD = 3  # pieces of messages that are read, or decoded, at once
PIECE_OCTETS = 8 * 1024 * 1024  # of messages that are decoded at once, unless one is larger

Sizes = dict[int, int]  # of messages, by email id


class SearchVocabularies(Shelves[Vocabulary]):
    """The words that a process keeps, in the order in which accounts were searched."""

    def __init__(self, room: int = ROOM) -> None:
        super().__init__(room)


async def decided(
    mail: "Mail",
    account: AccountId,
    candidates: Sequence[tuple[int, int]],
    wanted: bytes,
    *,
    everywhere: bool,
    advance: Callable[[int, int], None],
) -> tuple[set[int], Sequence[tuple[int, int]]]:
    """Return which emails have a text, and those candidates in which it has to be looked for.

    Candidates are ids and sizes. Emails that are found may be more than the candidates. Of the
    messages that have to be read `advance` is told how many were, and how many there are.
    """
    pieces = sought(wanted)
    if pieces is None:
        return set(), candidates
    found: set[int] = set()
    left = dict(candidates)
    async with aclosing(_vocabularies(mail, account, dict(left), advance)) as groups:
        async for some in groups:
            for matches in await _searched(some, pieces, everywhere):
                found.update(matches)
            for vocabulary in some:
                for email_id in vocabulary.ids:
                    if email_id not in vocabulary.cut:
                        left.pop(email_id, None)
    if pieces.exact:
        return found, [each for each in left.items() if each[0] not in found]
    return set(), [each for each in candidates if each[0] in found or each[0] in left]


async def _searched(
    some: Sequence[Vocabulary], pieces: Sought, everywhere: bool
) -> list[list[int]]:
    shares = (some[share::THREADS] for share in range(THREADS))
    return await asyncio.gather(
        *(asyncio.to_thread(_matching, share, pieces, everywhere) for share in shares if share)
    )


def _matching(some: Sequence[Vocabulary], pieces: Sought, everywhere: bool) -> list[int]:
    return [
        email_id
        for vocabulary in some
        for email_id in vocabulary.matching(pieces, everywhere=everywhere)
    ]


async def _vocabularies(
    mail: "Mail", account: AccountId, candidates: Sizes, advance: Callable[[int, int], None]
) -> AsyncGenerator[Sequence[Vocabulary], None]:
    """Yield the words of candidates: from memory, from the store, and then those made now."""
    kept = mail.search_vocabularies.get(account)
    missing = {each for each in candidates if each and each not in kept.rows}
    known = dict.fromkeys(map(kept.rows.get, candidates))
    in_memory = [each for each in known if each is not None]
    for start in range(0, len(in_memory), AT_ONCE):
        yield in_memory[start : start + AT_ONCE]
    if not missing:
        return
    places = [
        place
        for place in await stored.frames_of(mail.database, account, min(missing), max(missing))
        if not missing.isdisjoint(place.email_ids)
    ]

    async def read(ids: Sequence[int]) -> dict[int, bytes]:
        return await stored.vocabularies(mail.database, account, ids)

    async with aclosing(read_ahead(places, AT_ONCE, read)) as groups:
        async for some in groups:
            found = [Vocabulary(place.email_ids, place.cut_ids, packed) for place, packed in some]
            for vocabulary in found:
                _keep(mail.search_vocabularies, kept, vocabulary)
            yield found
    for place in places:  # also of those without words, which have texts
        missing.difference_update(place.email_ids)
    unread = [(each, size) for each, size in candidates.items() if each in missing]
    async with aclosing(_made(mail, account, unread, advance)) as made:
        async for vocabulary in made:
            _keep(mail.search_vocabularies, kept, vocabulary)
            yield [vocabulary]


async def _made(
    mail: "Mail",
    account: AccountId,
    unread: Sequence[tuple[int, int]],
    advance: Callable[[int, int], None],
) -> AsyncGenerator[Vocabulary, None]:
    """Make the words of messages that are not in the store."""
    groups = pieces(unread)

    async def make(ids: Sequence[EmailId]) -> Vocabulary:
        given = await content.given(mail, account, ids)
        try:
            made_of, packed = await mail.indexer.makers.vocabulary(given)
        except MakerEnded as error:
            raise Unavailable("messages cannot be searched now") from error
        return Vocabulary(made_of, (), packed)

    done = 0
    async with aclosing(in_order(groups, make, AHEAD)) as made:
        async for vocabulary in made:
            advance(done, len(unread))
            done += len(vocabulary.ids)
            yield vocabulary


def pieces(unread: Sequence[tuple[int, int]]) -> list[list[EmailId]]:
    """Split emails, given with their sizes, into those that are read and decoded at once."""
    found: list[list[EmailId]] = []
    octets = 0
    for email_id, size in unread:
        octets += size
        if not found or octets > PIECE_OCTETS or len(found[-1]) == frames.ROWS:
            found.append([])
            octets = size
        found[-1].append(EmailId(email_id))
    return found


def _keep(cache: SearchVocabularies, kept: Shelf[Vocabulary], vocabulary: Vocabulary) -> None:
    rows = {each: vocabulary for each in vocabulary.ids if each not in kept.rows}
    if rows:
        cache.keep(kept, rows, vocabulary.size)


async def read_ahead(
    places: Sequence[stored.Place],
    at_once: int,
    read: Callable[[Sequence[int]], Awaitable[dict[int, bytes]]],
) -> AsyncGenerator[list[tuple[stored.Place, bytes]], None]:
    """Yield frames with what is read of them; the next ones are read meanwhile.

    Those that are not there any more, joined with others, are left out.
    """
    groups = [places[start : start + at_once] for start in range(0, len(places), at_once)]

    async def of_group(group: Sequence[stored.Place]) -> dict[int, bytes]:
        return await read([place.id for place in group])

    async with aclosing(in_order(groups, of_group, 2)) as answers:
        at = 0
        async for data in answers:
            yield [(place, data[place.id]) for place in groups[at] if place.id in data]
            at += 1
