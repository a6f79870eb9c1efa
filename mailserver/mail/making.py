"""What the search index has of messages, made from their octets.

Without I/O: it runs in a thread, or in a process of its own, to which only plain values can be
given (`mailserver.app.search_process`).
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from mailserver.errors import Corrupt
from mailserver.mail import frames, tokens, vocabulary
from mailserver.mail.frames import Frame, Texts
from mailserver.mime import SearchText, parse, search_text
from mailserver.storage.compression import MAX_SIZE, decompress_in_thread

_MARKS = {"from": "F", "to": "T", "cc": "C", "bcc": "B"}
SUBJECT_MARK = "S"
FIELD_MARK = "H"  # of the names of header fields
BODY_MARK = ""


class Given(NamedTuple):
    """A message to make something of."""

    email_id: int
    data: bytes
    packed: bool  # by zstd


class MadeFrame(NamedTuple):
    """The texts of some messages, and their words, as they are stored."""

    email_ids: list[int]
    cut_ids: list[int]
    size: int  # octets of the texts
    small: bool
    data: bytes
    vocabulary: bytes


class Made(NamedTuple):
    """What is stored of messages."""

    words: list[tuple[int, str]]  # by email, joined by blanks
    frames: list[MadeFrame]
    unread: list[int]  # emails whose octets are not what was stored: they have no words


class Read(NamedTuple):
    """What was found in messages; their texts are still to be put into frames."""

    words: list[tuple[int, str]]
    texts: list[Texts]
    unread: list[int]


Words = tuple[int, tuple[frozenset[bytes], frozenset[bytes]]]  # of an email: body, all else


def index(given: Iterable[Given]) -> Made:
    """Make what the index has of messages."""
    found = read(given)
    return Made(found.words, new_frames(found.texts), found.unread)


def read(given: Iterable[Given]) -> Read:
    """Find words and texts of messages."""
    found = Read([], [], [])
    for each in given:
        try:
            octets = _octets(each)
        except Corrupt:
            found.unread.append(each.email_id)
            found.words.append((each.email_id, ""))
            continue
        words, texts = _of_message(each.email_id, octets)
        found.words.append((each.email_id, words))
        found.texts.append(texts)
    return found


def together(parts: Sequence[Made]) -> Made:
    """Join what was made of different messages."""
    return Made(
        [each for part in parts for each in part.words],
        [each for part in parts for each in part.frames],
        [each for part in parts for each in part.unread],
    )


def whole_vocabulary(given: Iterable[Given]) -> tuple[list[int], bytes]:
    """Make the words of up to `frames.ROWS` messages, all of them; Corrupt."""
    return packed_words(whole_words(given))


def whole_words(given: Iterable[Given]) -> list[Words]:
    """Find the words of messages; Corrupt."""
    return [(each.email_id, whole_texts(each).words()) for each in given]


def packed_words(rows: Sequence[Words]) -> tuple[list[int], bytes]:
    """Put the words of messages together."""
    return [each for each, _ in rows], vocabulary.pack(words for _, words in rows)


def whole_texts(each: Given) -> Texts:
    """Make the texts of a message without a limit: nothing is left out of an exact search."""
    octets = _octets(each)
    # every decoded text is shorter than this
    found = search_text(octets, parse(octets), 4 * len(octets) + 1024)
    return frames.texts(each.email_id, found, limit=MAX_SIZE, cut=False)


def _octets(each: Given) -> bytes:
    return decompress_in_thread(each.data) if each.packed else each.data


def _of_message(email_id: int, octets: bytes) -> tuple[str, Texts]:
    message = parse(octets)
    found = search_text(octets, message, frames.LIMIT)
    texts = frames.texts(email_id, found, limit=frames.TEXT_OCTETS, cut=not frames.fits(message))
    names = {name.decode("ascii", "replace").lower() for name, _ in message.header.pairs()}
    body_words = vocabulary.words(texts.body)
    # the one mark that is compared as a letter may change places with others
    whole = len(texts.body) < frames.TEXT_OCTETS and "\u0345" not in found.body
    words = words_of(found, names, body_words if whole else None)
    return words, texts._replace(body_words=body_words)


def words_of(found: SearchText, fields: set[str], body: Collection[bytes] | None = None) -> str:
    """Return the words of a message with the marks of where they are, joined by blanks.

    Some may be there twice. `body` are those of the body, if all are known: to find them is most
    of the work.
    """
    words = tokens.words(found.attachments)
    if body is None:
        words.update(tokens.words(found.body))
    words.update(SUBJECT_MARK + word for word in tokens.words(found.subject))
    for field, mark in _MARKS.items():
        text = found.addresses(field)
        words.update(mark + word for word in tokens.words(text) | tokens.addresses(text))
    words.update(FIELD_MARK + name for name in fields if name.isprintable() and " " not in name)
    joined = " ".join(filter(None, (" ".join(words), tokens.of_vocabulary(body or ()))))
    if len(joined) * 4 > tokens.MAX_WORDS_SIZE and len(joined.encode()) > tokens.MAX_WORDS_SIZE:
        cut = joined.encode()[: tokens.MAX_WORDS_SIZE].decode("utf-8", "ignore")
        return cut.rpartition(" ")[0]
    return joined


def new_frames(texts: Sequence[Texts]) -> list[MadeFrame]:
    """Compress texts, as many together as a frame holds."""
    new = []
    for rows in frames.grouped(sorted(texts)):
        size, data = frames.packed(rows, frames.LEVEL)
        words = vocabulary.pack(row.words() for row in rows)
        ids = [row.email_id for row in rows]
        cut = [row.email_id for row in rows if row.cut]
        small = len(rows) <= frames.ROWS // 2 and size <= frames.OCTETS // 2
        new.append(MadeFrame(ids, cut, size, small, data, words))
    return new


def rejoined(
    stored: Iterable[tuple[Sequence[int], Collection[int], bytes]], alive: Collection[int]
) -> list[MadeFrame]:
    """Join frames, given as emails, those that are cut, and texts; only emails that are alive."""
    texts = []
    for email_ids, cut, data in stored:
        rows = Frame(email_ids, data).texts()
        texts += [row._replace(cut=row.email_id in cut) for row in rows if row.email_id in alive]
    return new_frames(texts)
