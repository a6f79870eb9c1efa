"""THREAD: what was found, as conversations (RFC 5256 §3)."""

import asyncio
from collections.abc import Sequence

from mailserver.imap.commands.search import prepare
from mailserver.imap.commands.seeker import Seeker
from mailserver.imap.protocol.thread import (
    Algorithm,
    Member,
    Thread,
    by_references,
    by_refs,
    by_subject,
)
from mailserver.imap.session import Session
from mailserver.mail.search_headers import SearchHeader

_ALGORITHMS = {
    Algorithm.ORDEREDSUBJECT: by_subject,
    Algorithm.REFERENCES: by_references,
    Algorithm.REFS: by_refs,
}


async def thread(session: Session, command: Thread) -> bytes | None:
    """Tell what matches, replies below what they reply to."""
    await prepare(session, command.key)
    seeker = Seeker(session)
    found = await seeker.find(command.key)
    numbers = seeker.numbers(found, by_uid=command.by_uid)

    async def work() -> bytes:
        rows: dict[int, SearchHeader] = {}
        async for positions, some in seeker.headers(found):
            rows.update(zip(positions, some, strict=True))
        arrived = [seeker.received_at[position] / 1000 for position in found]
        ordered = [rows.get(position) for position in found]
        return await asyncio.to_thread(_render, command.algorithm, ordered, arrived, numbers)

    # nothing that threads are made by ever changes
    question = (command.algorithm.value, b"%d" % command.by_uid, *seeker.identity(found))
    threads = await session.mail.search_headers.answer(question, work)
    session.untagged(b"THREAD %b" % threads if threads else b"THREAD")
    return seeker.code


def _render(
    algorithm: Algorithm,
    rows: Sequence[SearchHeader | None],
    arrived: Sequence[float],
    numbers: Sequence[int],
) -> bytes:
    """Put messages into threads; runs in a thread of its own."""
    members = list(map(_member, rows, arrived))
    return _ALGORITHMS[algorithm](members).render(numbers)


def _member(row: SearchHeader | None, arrived: float) -> Member:
    if row is None:  # a message that left meanwhile is alone
        return Member(None, (), "", False, arrived, arrived)
    sent = arrived if row.sent is None else row.sent  # RFC 5256 §2.2
    return Member(row.message_id, row.references, row.base_subject, row.is_reply, sent, arrived)
