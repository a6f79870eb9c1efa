"""Texts of messages as they are searched, up to 50 in one compressed piece.

A text is looked for in the whole frame first, so that a rare word costs a search of octets and
nothing for each message.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from mailserver.mail import vocabulary
from mailserver.mail.casemap import casemap
from mailserver.mail.fuzzy import Query
from mailserver.mime import Message, SearchText
from mailserver.storage.compression import FAST, compressor, decompress_in_thread

ROWS = 50  # messages of a frame
OCTETS = 1024 * 1024  # of texts in a frame, unless one alone is larger
LIMIT = 256 * 1024  # characters of the body, and of the header, that are stored of a message
TEXT_OCTETS = 1024 * 1024  # of each: some characters become 18 when they are compared
LEVEL = FAST  # of zstd: half larger than at 1, and read in half the time
IN_BODY = 0.8  # what a fuzzy match in a body is worth, beside one in the header
_ROW_SIZE = 250  # octets that a message costs besides its share of the frame
_PLACES = 3  # texts of a message


class Texts(NamedTuple):
    """The texts of one message as they are compared; NUL is in none."""

    email_id: int
    body: bytes
    names: bytes  # of attachments
    header: bytes
    cut: bool = False  # there is more than this
    body_words: frozenset[bytes] = frozenset()  # of the body, if they are known

    def words(self) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """Return the words of the body, and those of names and header."""
        body = self.body_words or vocabulary.words(self.body)
        return body, vocabulary.words(self.names + b"\n" + self.header)


class Frame:
    """Texts of messages, NUL between them."""

    __slots__ = ("_starts", "data", "ids")

    def __init__(self, ids: Sequence[int], data: bytes) -> None:
        self.ids = ids
        self.data = data
        self._starts: array[int] | None = None  # of the texts, once something was found in them

    @property
    def size(self) -> int:
        """About how many octets of memory this takes."""
        return len(self.data) + _ROW_SIZE * len(self.ids)

    def texts(self) -> Iterator[Texts]:
        """Yield what is in it, nothing as cut."""
        texts = decompress_in_thread(self.data).split(b"\0")
        for place, email_id in enumerate(self.ids):
            body, names, header = texts[_PLACES * place : _PLACES * (place + 1)]
            yield Texts(email_id, body, names, header)

    def matching(self, wanted: bytes, *, everywhere: bool) -> list[int]:
        """Return the emails whose body, or also header, contains octets."""
        octets = decompress_in_thread(self.data)
        at = octets.find(wanted) if self.ids and b"\0" not in wanted else -1
        if at < 0:
            return []
        starts = self._starts
        if starts is None:
            sizes = (len(text) + 1 for text in octets.split(b"\0"))
            starts = self._starts = array("l", accumulate(sizes, initial=0))
        width = _PLACES if everywhere else 1
        found = []
        while at >= 0:
            row, place = divmod(bisect_right(starts, at) - 1, _PLACES)
            if place < width:
                found.append(self.ids[row])
            # what else there is of this message does not matter
            at = octets.find(wanted, starts[_PLACES * (row + 1)])
        return found

    def scores(self, query: Query, *, everywhere: bool) -> list[tuple[int, float]]:
        """Return the emails that a query matches, with how well."""
        octets = decompress_in_thread(self.data)
        if query.phrase not in octets and not query.may_match(octets):
            return []
        texts = octets.split(b"\0")
        found = []
        for place, email_id in enumerate(self.ids):
            body, names, head = texts[_PLACES * place : _PLACES * (place + 1)]
            worth = [(head, 1.0), (names, 1.0), (body, IN_BODY)] if everywhere else [(body, 1.0)]
            score = query.score(worth)
            if score:
                found.append((email_id, score))
        return found


def compared(text: str) -> bytes:
    """Return the form in which texts are searched."""
    # a broken charset may decode to half a surrogate pair
    return casemap(text).encode("utf-8", "surrogatepass")


def texts(email_id: int, found: SearchText, *, limit: int, cut: bool) -> Texts:
    """Return the texts of a message as they are compared, each up to `limit` octets."""
    pieces = [
        compared(text).replace(b"\0", b"")
        for text in (found.body, found.attachments, found.headers)
    ]
    body, names, header = (piece[:limit] for piece in pieces)
    return Texts(email_id, body, names, header, cut or any(len(each) > limit for each in pieces))


def packed(rows: Sequence[Texts], level: int) -> tuple[int, bytes]:
    """Return the size of texts together, and them compressed."""
    octets = b"\0".join(text for row in rows for text in (row.body, row.names, row.header))
    return len(octets), compressor(level)(octets)


def grouped(rows: Sequence[Texts]) -> list[list[Texts]]:
    """Split texts into those of one frame each."""
    groups: list[list[Texts]] = []
    room = 0
    for row in rows:
        size = len(row.body) + len(row.names) + len(row.header)
        if not groups or size > room or len(groups[-1]) >= ROWS:
            groups.append([])
            room = OCTETS
        groups[-1].append(row)
        room -= size
    return groups


def fits(message: Message) -> bool:
    """Tell whether all text of a message is surely below the limit.

    Decoding makes no text longer than its octets in the message.
    """
    header = message.header
    text = sum(part.body_end - part.body_start for part in message.parts if part.type == "text")
    heads = [part.message.header for part in message.parts if part.message is not None]
    attached = sum(head.body_start - head.start for head in heads)
    fields = header.body_start - header.start
    return text + 2 * (attached + fields) + len(message.parts) <= LIMIT
