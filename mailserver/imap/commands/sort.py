"""SORT: what was found, in an order (RFC 5256 §3)."""

import asyncio
from array import array
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from mailserver.imap.commands.search import follow, prepare, saving, tell, wants_updates
from mailserver.imap.commands.seeker import Seeker
from mailserver.imap.protocol.sort import Sort, SortKey
from mailserver.imap.session import Session
from mailserver.mail.search_headers import SearchHeader

_OF_HEADER: dict[SortKey, Callable[[SearchHeader], str]] = {
    SortKey.CC: attrgetter("first_cc"),
    SortKey.FROM: attrgetter("first_from"),
    SortKey.SUBJECT: attrgetter("base_subject"),
    SortKey.TO: attrgetter("first_to"),
    SortKey.DISPLAYFROM: attrgetter("display_from"),
    SortKey.DISPLAYTO: attrgetter("display_to"),
}


async def sort(session: Session, command: Sort) -> bytes | None:
    """Tell what matches in the order that was asked for; equal messages in that of the mailbox."""
    await prepare(session, command.key)
    updates = await wants_updates(session, command.returns, command.key)
    async with saving(session, command.returns):
        seeker = Seeker(session)
        found = await seeker.find(command.key)
        order = await _arranged(session, command, seeker, found)
    tell(session, command, b"SORT", seeker, order)
    if updates:

        async def arrange(positions: list[int]) -> Sequence[int]:
            return await _arranged(session, command, Seeker(session), positions)

        follow(session, command, seeker, order, arrange)
    return seeker.code


async def _arranged(
    session: Session, command: Sort, seeker: Seeker, found: list[int]
) -> "array[int]":
    """Return positions in the order that was asked for."""
    criteria = b" ".join(b"%b %d" % (key.value, reverse) for key, reverse in command.criteria)

    async def work() -> bytes:
        columns = await _columns(seeker, {key for key, _ in command.criteria}, found)
        return await asyncio.to_thread(_sorted, command, columns, found)

    # nothing that messages are sorted by ever changes, relevancy excepted
    question = [b"SORT", criteria, *seeker.identity(found)]
    if any(key is SortKey.RELEVANCY for key, _ in command.criteria):
        question.append(array("q", seeker.relevancies(found)).tobytes())
    return array("q", await session.mail.search_headers.answer(question, work))


def _sorted(command: Sort, columns: dict[SortKey, Sequence[Any]], found: Sequence[int]) -> bytes:
    order = list(found)
    for key, reverse in reversed(command.criteria):  # each sort is stable, so the last counts most
        # reverse=True keeps equal elements in their order
        order.sort(key=columns[key].__getitem__, reverse=reverse)
    return array("q", order).tobytes()


async def _columns(
    seeker: Seeker, keys: set[SortKey], found: list[int]
) -> dict[SortKey, Sequence[Any]]:
    """Return what to sort by, each by the position of the message."""
    columns: dict[SortKey, Sequence[Any]] = {
        SortKey.ARRIVAL: seeker.received_at,
        SortKey.SIZE: seeker.sizes,
    }
    texts: dict[SortKey, list[str]] = {
        key: [""] * len(seeker.uids) for key in keys & _OF_HEADER.keys()
    }
    columns.update(texts)
    if SortKey.RELEVANCY in keys:
        everything = range(len(seeker.uids))
        columns[SortKey.RELEVANCY] = [-score for score in seeker.relevancies(everything)]
    if SortKey.DATE in keys:
        columns[SortKey.DATE] = await _dates(seeker, found)
    if texts:
        async for positions, rows in seeker.headers(found):
            for key, column in texts.items():
                for position, text in zip(positions, map(_OF_HEADER[key], rows), strict=True):
                    column[position] = text
    return columns


async def _dates(seeker: Seeker, found: list[int]) -> list[float]:
    """Return when messages were sent; without a valid Date, INTERNALDATE (RFC 5256 §2.2)."""
    dates = [received / 1000 for received in seeker.received_at]
    async for positions, stamps in seeker.dates(found):
        for position, stamp in zip(positions, stamps, strict=True):
            if stamp is not None:
                dates[position] = stamp
    return dates
