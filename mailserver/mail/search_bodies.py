"""The text of messages, decoded once for searching and kept compressed in memory per mailbox.

A frame is the text of up to 50 messages. A text is looked for in the whole frame first, so that a
rare word costs a search of octets and nothing for each message.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from mailserver.mail import content
from mailserver.mail.casemap import casemap
from mailserver.mail.fuzzy import Query
from mailserver.mail.shelves import Shelves
from mailserver.mime import parse, search_text
from mailserver.model import AccountId, EmailId, MailboxId
from mailserver.storage.compression import FAST, compressor, decompress_in_thread

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

ROOM = 64 * 1024 * 1024  # octets of frames in memory
FRAME_ROWS = 50  # messages of a frame
FRAME_OCTETS = 8 * 1024 * 1024  # of messages in a frame, unless one alone is larger
THREADS = 2  # that search at once: decompression leaves the interpreter free
FRAMES = 20  # that are searched before others are served
IN_BODY = 0.8  # what a fuzzy match in a body is worth, beside one in the header
_ROW_SIZE = 250  # octets that a message costs besides its share of the frame


class Frame:
    """Texts of messages as they are compared: of each the body, then all else, NUL between them."""

    __slots__ = ("data", "ids")

    def __init__(self, ids: tuple[int, ...], data: bytes) -> None:
        self.ids = ids
        self.data = data

    @property
    def size(self) -> int:
        """About how many octets of memory this takes."""
        return len(self.data) + _ROW_SIZE * len(self.ids)

    def matching(self, wanted: bytes, *, everywhere: bool) -> list[int]:
        """Return the emails whose body, or also header, contains octets."""
        octets = decompress_in_thread(self.data)
        if wanted not in octets:
            return []
        texts = octets.split(b"\0")
        return [
            email_id
            for place, email_id in enumerate(self.ids)
            if wanted in texts[2 * place] or (everywhere and wanted in texts[2 * place + 1])
        ]

    def scores(self, query: Query, *, everywhere: bool) -> list[tuple[int, float]]:
        """Return the emails that a query matches, with how well."""
        octets = decompress_in_thread(self.data)
        if query.phrase not in octets and not query.may_match(octets):
            return []
        texts = octets.split(b"\0")
        found = []
        for place, email_id in enumerate(self.ids):
            body, head = texts[2 * place : 2 * place + 2]
            score = query.score([(head, 1.0), (body, IN_BODY)] if everywhere else [(body, 1.0)])
            if score:
                found.append((email_id, score))
        return found


class SearchBodies(Shelves[Frame]):
    """The frames that a process keeps, in the order in which mailboxes were searched."""

    def __init__(self, room: int = ROOM) -> None:
        super().__init__(room)


async def matching(
    mail: "Mail",
    account: AccountId,
    mailbox: MailboxId,
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
    wanted = octets_of(text)
    found: set[int] = set()
    async for frames in _frames(mail, account, mailbox, candidates, advance):
        shares = (frames[share::THREADS] for share in range(THREADS))
        work = (asyncio.to_thread(_matching, some, wanted, everywhere) for some in shares if some)
        for matches in await asyncio.gather(*work):
            found.update(matches)
    return found


async def scores(
    mail: "Mail",
    account: AccountId,
    mailbox: MailboxId,
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
    async for frames in _frames(mail, account, mailbox, candidates, advance):
        found.update(await asyncio.to_thread(_scores, frames, query, everywhere))
    return found


async def _frames(
    mail: "Mail",
    account: AccountId,
    mailbox: MailboxId,
    candidates: Sequence[tuple[int, int]],
    advance: Callable[[int, int], None],
) -> AsyncIterator[Sequence[Frame]]:
    """Yield the texts of candidates, those in memory first; what is missing is made and kept."""
    cache = mail.search_bodies
    kept = cache.get((account, mailbox))
    known = dict.fromkeys(
        frame for each, _ in candidates if (frame := kept.rows.get(each)) is not None
    )
    missing = [each for each in candidates if each[0] and each[0] not in kept.rows]
    frames = list(known)
    for start in range(0, len(frames), FRAMES):
        yield frames[start : start + FRAMES]
    read = 0
    for ids in _pieces(missing):
        advance(read, len(missing))
        read += len(ids)
        found = await content.of_emails(mail, account, ids)
        made = await asyncio.to_thread(_frame, list(found.items()))
        cache.keep(kept, dict.fromkeys(made.ids, made), made.size)
        yield [made]


def _pieces(missing: Sequence[tuple[int, int]]) -> list[list[EmailId]]:
    pieces: list[list[EmailId]] = []
    octets = FRAME_OCTETS
    for email_id, size in missing:
        octets += size
        if octets > FRAME_OCTETS or len(pieces[-1]) == FRAME_ROWS:
            pieces.append([])
            octets = size
        pieces[-1].append(EmailId(email_id))
    return pieces


def octets_of(text: str) -> bytes:
    """Return the form in which texts are searched."""
    # a broken charset may decode to half a surrogate pair
    return casemap(text).encode("utf-8", "surrogatepass")


def _matching(frames: Sequence[Frame], wanted: bytes, everywhere: bool) -> list[int]:
    return [each for frame in frames for each in frame.matching(wanted, everywhere=everywhere)]


def _scores(frames: Sequence[Frame], query: Query, everywhere: bool) -> list[tuple[int, float]]:
    return [each for frame in frames for each in frame.scores(query, everywhere=everywhere)]


def _frame(raw: Sequence[tuple[int, bytes]]) -> Frame:
    """Decode messages; runs in a thread."""
    texts: list[bytes] = []
    for _, octets in raw:
        # every decoded text is shorter than this: nothing is left out of an exact search
        found = search_text(octets, parse(octets), 4 * len(octets) + 1024)
        head = f"{found.headers}\n{found.attachments}"
        texts += (octets_of(text).replace(b"\0", b"") for text in (found.body, head))
    return Frame(tuple(email_id for email_id, _ in raw), compressor(FAST)(b"\0".join(texts)))
