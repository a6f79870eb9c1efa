"""Which messages may have a text, told by their words: stored behind delivery, kept in memory.

It is a fraction of what the texts are, and of a text of letters and digits it is the answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from mailserver.mail.shelves import Shelf, Shelves
from mailserver.mail.vocabulary import Sought, Vocabulary, sought
from mailserver.model import AccountId
from mailserver.storage import search_frames as stored

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

ROOM = 48 * 1024 * 1024  # octets of words in memory
AT_ONCE = 100  # vocabularies that are read, or searched before the search can be cancelled
THREADS = 2  # that search at once: decompression leaves the interpreter free

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
) -> tuple[set[int], Sequence[tuple[int, int]]]:
    """Return which emails have a text, and those candidates in which it has to be looked for.

    Candidates are ids and sizes. Emails that are found may be more than the candidates.
    """
    pieces = sought(wanted)
    if pieces is None:
        return set(), candidates
    found: set[int] = set()
    left = dict(candidates)
    async with aclosing(_vocabularies(mail, account, left)) as groups:
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
    mail: "Mail", account: AccountId, candidates: Sizes
) -> AsyncGenerator[Sequence[Vocabulary], None]:
    """Yield the words of candidates, as far as there are any: from memory, then from the store."""
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
    ahead: asyncio.Future[dict[int, bytes]] | None = None
    try:
        for at, group in enumerate(groups):
            data = await (ahead or read([place.id for place in group]))
            ahead = None
            if at + 1 < len(groups):
                ahead = asyncio.ensure_future(read([place.id for place in groups[at + 1]]))
            yield [(place, data[place.id]) for place in group if place.id in data]
    finally:
        if ahead is not None:
            ahead.cancel()
