"""What searching, sorting and threading need of headers, kept in memory per mailbox.

Headers never change, so nothing here is ever out of date. What is missing is read in chunks and
decoded in a thread, each field when it is searched first; what was not needed for longest makes
room for others.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mailserver.mail.ahead import in_order
from mailserver.mail.casemap import casemap
from mailserver.mail.shelves import Shelf, Shelves
from mailserver.mime import HeaderBlock, as_date, as_message_ids, as_text, base, field_reader
from mailserver.mime.addresses import Mailbox, parse
from mailserver.mime.subject import is_reply
from mailserver.mime.words import decode
from mailserver.model import AccountId, MailboxId
from mailserver.storage import search_headers
from mailserver.storage.compression import decompress_in_thread
from mailserver.storage.search_headers import StoredHeader

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

V = TypeVar("V")

CHUNK = 200  # headers that are read at once
STEP = 50  # that are decoded as a whole before others are served
ROOM = 128 * 1024 * 1024  # octets of headers in memory, about
_ROW_SIZE = 600  # octets of a header that is decoded, besides its texts
_TEXT_SIZE = 150  # octets of a field besides its text, and of a header that is not decoded
ANSWER_SIZE = 300  # octets that an answer costs besides what it says
ANSWER_ROOM = 32 * 1024 * 1024  # octets of answers in memory
# fields for which clients search: their texts are kept
KEPT_FIELDS = frozenset({"from", "to", "cc", "bcc", "subject", "message-id"})
_OF_ADDRESSES = frozenset({"from", "to", "cc", "bcc"})
# comments, quoting and white space by which a field differs from what its ENVELOPE shows
_DIFFERS = re.compile(rb"[(\\]|\s@|@\s|\"@|\"\s++[^\s<]")


class SearchHeader:
    """What messages are sorted and threaded by, decoded, with texts as they are compared."""

    __slots__ = (
        "base_subject", "display_from", "display_to", "first_cc", "first_from",
        "first_to", "is_reply", "message_id", "references", "sent", "sent_day",
    )  # fmt: skip

    def __init__(self, stored: StoredHeader) -> None:
        header = HeaderBlock(decompress_in_thread(stored.header))
        self.sent = stored.sent
        self.sent_day = _day(header)  # "YYYY-MM-DD" in the zone of the sender
        sender, to = _first(header, b"from"), _first(header, b"to")
        self.first_from, self.first_to = _local_part(sender), _local_part(to)
        self.first_cc = _local_part(_first(header, b"cc"))
        self.display_from, self.display_to = _display(sender), _display(to)
        value = header.get_last(b"subject")
        subject = "" if value is None else as_text(value)
        self.base_subject = casemap(base(subject))
        self.is_reply = is_reply(subject)
        ids = _ids(header, b"message-id")
        self.message_id = ids[0] if ids else None
        self.references = _ids(header, b"references") or _ids(header, b"in-reply-to")[:1]

    @property
    def size(self) -> int:
        """About how many octets of memory this takes."""
        texts = (
            self.base_subject, self.display_from, self.display_to, self.first_cc,
            self.first_from, self.first_to, self.message_id or "",
        )  # fmt: skip
        return (
            _ROW_SIZE + 2 * sum(map(len, texts)) + sum(len(each) + 60 for each in self.references)
        )


def text_of(values: Sequence[bytes], name: str) -> str | None:
    """Return all fields of a name; NUL, which no argument has, keeps them apart."""
    if not values:
        return None
    texts = [as_text(value) for value in values]
    if name in _OF_ADDRESSES:  # RFC 9051 §6.4.4 searches the envelope structure
        texts += [_shown(value) for value in values if _DIFFERS.search(value)]
    return "\0".join(map(casemap, texts))


def _shown(value: bytes) -> str:
    """Return the addresses of a field as its ENVELOPE shows them."""
    return "\0".join(
        decode(b"%b <%b@%b>" % (mailbox.name or b"", mailbox.local or b"", mailbox.domain))
        for mailbox in parse(value)
        if mailbox.domain is not None
    )


def _day(header: HeaderBlock) -> str | None:
    value = header.get_last(b"date")
    found = None if value is None else as_date(value)
    return None if found is None else found[:10]


def _first(header: HeaderBlock, name: bytes) -> Mailbox | None:
    value = header.get_last(name)
    found = parse(value) if value is not None else None
    return found[0] if found else None


def _local_part(mailbox: Mailbox | None) -> str:
    """Return addr-mailbox, by which RFC 5256 §3 sorts; of a group it is the name."""
    return casemap(decode(mailbox.local)) if mailbox and mailbox.local else ""


def _display(mailbox: Mailbox | None) -> str:
    """Return the DISPLAY sort value (RFC 5957 §3)."""
    if mailbox is None:
        return ""
    name = decode(mailbox.name) if mailbox.name else ""
    if name:
        return casemap(name)
    if mailbox.local and mailbox.domain:
        return casemap(decode(b"%b@%b" % (mailbox.local, mailbox.domain)))
    return _local_part(mailbox)


def _ids(header: HeaderBlock, name: bytes) -> tuple[str, ...]:
    value = header.get_last(name)
    found = as_message_ids(value) if value is not None else None
    return tuple(_normalized(each) for each in found or ())


def _normalized(message_id: str) -> str:
    """Return the one spelling of a Message ID, whatever its quoting (RFC 5256 §3)."""
    if '"' not in message_id and "\\" not in message_id:
        return message_id
    result: list[str] = []
    characters = iter(message_id)
    for character in characters:
        if character == "\\":
            result.append(next(characters, ""))
        elif character != '"':
            result.append(character)
    return "".join(result)


class SearchHeaders(Shelves[Any]):
    """What a process keeps: headers as stored and as decoded, texts of fields, and answers."""

    def __init__(self, room: int = ROOM, answer_room: int = ANSWER_ROOM) -> None:
        super().__init__(room)
        self._answer_room = answer_room
        self._answers: OrderedDict[bytes, bytes] = OrderedDict()
        self.answer_size = 0

    async def answer(
        self, question: Sequence[bytes], work: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """Return what `work` says, or said when this question was asked before.

        The question names everything that the answer depends on.
        """
        digest = blake2b(digest_size=32)
        for part in question:
            digest.update(b"%d:" % len(part))
            digest.update(part)
        key = digest.digest()
        known = self._answers.get(key)
        if known is not None:
            self._answers.move_to_end(key)
            return known
        answer = await work()
        if key not in self._answers:  # else another session was first
            self._answers[key] = answer
            self.answer_size += ANSWER_SIZE + len(answer)
        while self.answer_size > self._answer_room:
            _, dropped = self._answers.popitem(last=False)
            self.answer_size -= ANSWER_SIZE + len(dropped)
        return answer


class _Made(Enum):
    """What is made of headers besides the texts of fields."""

    ALL = auto()
    SENT = auto()


@dataclass(frozen=True, slots=True)
class _Column(Generic[V]):
    """What is made of each header."""

    name: Hashable  # by which it is kept: a field, or something that is none
    kept: bool
    made: Callable[[Sequence[StoredHeader]], dict[int, V]]  # by email; runs in a thread
    size: Callable[[V], int]  # octets
    step: int  # headers before others are served


async def read(
    mail: "Mail", account: AccountId, mailbox: MailboxId, ids: Sequence[int]
) -> AsyncGenerator[tuple[Sequence[int], list[SearchHeader]], None]:
    """Yield the headers of emails, decoded, each stretch with their places in `ids`.

    What is in memory comes first. Emails that do not exist any more are left out.
    """
    column = _Column(_Made.ALL, True, _decoded, attrgetter("size"), STEP)
    async with aclosing(_stretches(mail, account, mailbox, ids, column)) as stretches:
        async for stretch in stretches:
            yield stretch


async def sent(
    mail: "Mail", account: AccountId, mailbox: MailboxId, ids: Sequence[int]
) -> AsyncGenerator[tuple[Sequence[int], list[float | None]], None]:
    """Yield when messages were sent, as seconds since 1970, by a valid Date; else as `read`."""

    def made(stored: Sequence[StoredHeader]) -> dict[int, float | None]:
        return {each.email_id: each.sent for each in stored}

    column = _Column(_Made.SENT, True, made, lambda _: _TEXT_SIZE, CHUNK)
    async with aclosing(_stretches(mail, account, mailbox, ids, column)) as stretches:
        async for stretch in stretches:
            yield stretch


async def texts(
    field: str, mail: "Mail", account: AccountId, mailbox: MailboxId, ids: Sequence[int]
) -> AsyncGenerator[tuple[Sequence[int], list[str | None]], None]:
    """Yield the texts of a field, as they are compared, None where there is none; else as `read`.

    `field` is in lower case. Several fields of the name have NUL between them.
    """
    values = field_reader(field)

    def made(stored: Sequence[StoredHeader]) -> dict[int, str | None]:
        return {
            each.email_id: text_of(values(decompress_in_thread(each.header)), field)
            for each in stored
        }

    column = _Column(field, field in KEPT_FIELDS, made, _text_size, CHUNK)
    async with aclosing(_stretches(mail, account, mailbox, ids, column)) as stretches:
        async for stretch in stretches:
            yield stretch


def _text_size(text: str | None) -> int:
    return _TEXT_SIZE if text is None else _TEXT_SIZE + 2 * len(text)


async def _stretches(
    mail: "Mail",
    account: AccountId,
    mailbox: MailboxId,
    ids: Sequence[int],
    column: _Column[V],
) -> AsyncGenerator[tuple[Sequence[int], list[V]], None]:
    """Yield what is made of headers: from memory, and then of those that are read."""
    cache, key = mail.search_headers, (account, mailbox, column.name)
    rows: dict[int, V] = cache.get(key).rows if column.kept else {}
    known = _all_of(rows, ids)
    if known is not None:
        yield range(len(ids)), known
        return
    missing = [at for at, each in enumerate(ids) if each and each not in rows]
    there = [at for at, each in enumerate(ids) if each in rows]
    if there:
        yield there, [rows[ids[at]] for at in there]
    stored: Shelf[StoredHeader] = cache.get((account, mailbox))
    kept: Shelf[V] | None = cache.get(key) if column.kept else None  # needed more: used later
    async with aclosing(_stored(mail, account, stored, ids, missing)) as groups:
        async for places, headers in groups:
            made: dict[int, V] = {}
            for start in range(0, len(headers), column.step):
                some = headers[start : start + column.step]
                made.update(await asyncio.to_thread(column.made, some))
            if kept is not None:
                cache.keep(kept, made, sum(map(column.size, made.values())))
            there = [at for at in places if ids[at] in made]
            yield there, [made[ids[at]] for at in there]


def _all_of(rows: dict[int, V], ids: Sequence[int]) -> list[V] | None:
    try:
        return list(map(rows.__getitem__, ids))
    except KeyError:
        return None


async def _stored(
    mail: "Mail",
    account: AccountId,
    kept: Shelf[StoredHeader],
    ids: Sequence[int],
    missing: Sequence[int],
) -> AsyncGenerator[tuple[Sequence[int], list[StoredHeader]], None]:
    """Yield headers as they are stored, from memory or while the next ones are read."""
    chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]

    async def read(places: Sequence[int]) -> list[StoredHeader]:
        wanted = [ids[at] for at in places]
        known = [row for each in wanted if (row := kept.rows.get(each)) is not None]
        new = [each for each in wanted if each not in kept.rows]
        if new:
            rows = await search_headers.headers(mail.database, account, new)
            octets = sum(_TEXT_SIZE + len(row.header) for row in rows)
            mail.search_headers.keep(kept, {row.email_id: row for row in rows}, octets)
            known += rows
        return known

    async with aclosing(in_order(chunks, read, 2)) as found:
        at = 0
        async for headers in found:
            yield chunks[at], headers
            at += 1


def _decoded(stored: Sequence[StoredHeader]) -> dict[int, SearchHeader]:
    return {each.email_id: SearchHeader(each) for each in stored}
