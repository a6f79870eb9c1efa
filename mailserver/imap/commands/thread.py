"""THREAD: what was found, as conversations (RFC 5256 §3)."""

import asyncio

from mailserver.imap.commands.search import Seeker
from mailserver.imap.protocol.thread import (
    Algorithm,
    Member,
    Thread,
    by_references,
    by_subject,
)
from mailserver.imap.session import Session

_ALGORITHMS = {
    Algorithm.ORDEREDSUBJECT: by_subject,
    Algorithm.REFERENCES: by_references,
}


async def thread(session: Session, command: Thread) -> None:
    """Tell what matches, replies below what they reply to."""
    seeker = Seeker(session)
    found = await seeker.narrow(command.key, list(range(len(seeker.uids))))
    if command.by_uid:
        numbers = [seeker.uids[position] for position in found]
    else:
        numbers = [position + 1 for position in found]

    async def work() -> bytes:
        members = await _members(seeker, found)
        return await asyncio.to_thread(_render, command.algorithm, members, numbers)

    # nothing that threads are made by ever changes
    question = (command.algorithm.value, b"%d" % command.by_uid, *seeker.identity(found))
    threads = await session.mail.search_headers.answer(question, work)
    session.untagged(b"THREAD %b" % threads if threads else b"THREAD")


def _render(algorithm: Algorithm, members: list[Member], numbers: list[int]) -> bytes:
    return _ALGORITHMS[algorithm](members).render(numbers)


async def _members(seeker: Seeker, found: list[int]) -> list[Member]:
    members: dict[int, Member] = {}
    async for positions, rows in seeker.headers(found):
        for position, row in zip(positions, rows, strict=True):
            sent = seeker.received_at[position] / 1000 if row.sent is None else row.sent
            members[position] = Member(
                row.message_id, row.references, row.base_subject, row.is_reply, sent
            )
    # a message that left and was not announced is a thread of its own
    return [
        members.get(position) or Member(None, (), "", False, seeker.received_at[position] / 1000)
        for position in found
    ]
