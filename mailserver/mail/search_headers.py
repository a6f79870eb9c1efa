"""What searching, sorting and threading need of headers, kept in memory per mailbox.

Headers never change, so nothing here is ever out of date. What is missing is read in chunks and
decoded in a thread; the mailboxes that were not searched for longest make room for others.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from mailserver.mail.casemap import casemap
from mailserver.mail.shelves import Shelves
from mailserver.mime import HeaderBlock, as_date, as_message_ids, as_text, base
from mailserver.mime.addresses import Mailbox, parse
from mailserver.mime.subject import is_reply
from mailserver.mime.words import decode
from mailserver.model import AccountId, MailboxId
from mailserver.storage import search_headers
from mailserver.storage.compression import decompress_in_thread
from mailserver.storage.search_headers import StoredHeader

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

CHUNK = 200  # headers that are read and decoded at once
ROOM = 128 * 1024 * 1024  # octets of headers in memory, about
_ROW_SIZE = 900  # octets of a row besides its texts
ANSWER_SIZE = 300  # octets that an answer costs besides what it says
ANSWER_ROOM = 32 * 1024 * 1024  # octets of answers in memory
FIELDS = ("from", "to", "cc", "bcc", "subject", "message-id")  # that `SearchHeader` has
_OF_ADDRESSES = frozenset({"from", "to", "cc", "bcc"})
# comments, quoting and white space by which a field differs from what its ENVELOPE shows
_DIFFERS = re.compile(rb"[(\\]|\s@|@\s|\"@|\"\s++[^\s<]")


class SearchHeader:
    """The header of one message, decoded, with its texts as they are compared."""

    __slots__ = (
        "base_subject", "display_from", "display_to", "fields", "first_cc", "first_from",
        "first_to", "is_reply", "message_id", "references", "sent", "sent_day",
    )  # fmt: skip

    def __init__(self, stored: StoredHeader) -> None:
        header = HeaderBlock(decompress_in_thread(stored.header))
        self.fields: tuple[str | None, ...] = tuple(_text(header, name) for name in FIELDS)
        self.sent = None if stored.sent_at is None else stored.sent_at.timestamp()
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
        texts = sum(len(text) for text in self.fields if text is not None)
        return _ROW_SIZE + 2 * texts + sum(len(each) + 60 for each in self.references)


def _text(header: HeaderBlock, name: str) -> str | None:
    """Return all fields of a name; NUL, which no argument has, keeps them apart."""
    values = header.all(name)
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


class SearchHeaders(Shelves[SearchHeader]):
    """The headers and answers that a process keeps, in the order in which they were needed."""

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


async def read(
    mail: "Mail", account: AccountId, mailbox: MailboxId, ids: Sequence[int]
) -> AsyncIterator[tuple[list[int], list[SearchHeader]]]:
    """Yield the headers of emails, each stretch with their places in `ids`.

    What is in memory comes first. Emails that do not exist any more are left out.
    """
    cache = mail.search_headers
    kept = cache.get((account, mailbox))
    rows = kept.rows
    found = list(map(rows.get, ids))
    missing = [place for place, row in enumerate(found) if row is None and ids[place]]
    if not missing:
        places = [place for place, row in enumerate(found) if row is not None]
    else:
        without = set(missing)
        places = [place for place in range(len(ids)) if ids[place] and place not in without]
    if places:
        yield places, [row for row in found if row is not None]
    for start in range(0, len(missing), CHUNK):
        chunk = missing[start : start + CHUNK]
        stored = await search_headers.headers(
            mail.database, account, [ids[place] for place in chunk]
        )
        made = await asyncio.to_thread(_decoded, stored)
        cache.keep(kept, made, sum(row.size for row in made.values()))
        there = [place for place in chunk if ids[place] in made]
        yield there, [made[ids[place]] for place in there]


def _decoded(stored: Sequence[StoredHeader]) -> dict[int, SearchHeader]:
    return {each.email_id: SearchHeader(each) for each in stored}
