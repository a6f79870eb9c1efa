"""SEARCH: a tree of keys (RFC 9051 §6.4.4), and what to return of what is found (RFC 4731)."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Flag, auto

from mailserver.imap.protocol.cursor import MAX_NUMBER, Cursor
from mailserver.imap.protocol.errors import BadCharset
from mailserver.imap.protocol.fetch import Item, fetch_items
from mailserver.imap.protocol.modseq import mod_sequence
from mailserver.imap.protocol.partial import Partial, partial_range
from mailserver.imap.protocol.responses import string
from mailserver.imap.protocol.search_keys import (
    And,
    Everything,
    Fuzzy,
    HasEmailId,
    HasFlag,
    HasKeyword,
    HasThreadId,
    InBody,
    InHeader,
    InText,
    IsRecent,
    Key,
    Larger,
    Messages,
    Modified,
    Not,
    Older,
    Or,
    Order,
    Received,
    Saved,
    Sent,
    Smaller,
    Younger,
)
from mailserver.imap.protocol.sequences import SequenceSet, compact
from mailserver.mime import codec_of
from mailserver.model import (
    ANSWERED,
    DELETED,
    DRAFT,
    FLAGGED,
    SEEN,
    IdKind,
    flag_bit,
    id_value,
)

MAX_DEPTH = 100  # nested NOT, OR and parentheses
MAX_KEYS = 2000  # in one command
_OBJECT_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}")  # RFC 8474 §7


NOTHING = Not(Everything())


class Wanted(Flag):
    """What an ESEARCH response shall tell, and what else shall be done with what is found."""

    MIN = auto()
    MAX = auto()
    ALL = auto()
    COUNT = auto()
    SAVE = auto()
    PARTIAL = auto()
    UPDATE = auto()  # tell later changes (RFC 5267 §4.3)
    RELEVANCY = auto()  # how well each message matches (RFC 6203 §4)
    CONTEXT = auto()  # a hint that more is asked of the same results (RFC 5267 §4.2)


NOT_TOLD = Wanted.SAVE | Wanted.UPDATE | Wanted.CONTEXT


@dataclass(frozen=True, slots=True)
class Returns:
    """The return options of a search."""

    wanted: Wanted
    partial: Partial | None = None
    items: tuple[Item, ...] = ()  # to fetch of what is found later (RFC 5465 §7)


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH: what to find, how to name it, and what to tell; without options, all numbers."""

    key: Key
    by_uid: bool
    returns: Returns | None = None
    names_charset: bool = False


def parse_search(args: Cursor) -> Search:
    """Read search = "SEARCH" [search-return-opts] SP search-program (RFC 9051 §9).

    search-program = ["CHARSET" SP charset SP] search-key *(SP search-key)
    """
    return _search(args, by_uid=False)


def parse_uid_search(args: Cursor) -> Search:
    """Read "UID" SP search."""
    return _search(args, by_uid=True)


def _search(args: Cursor, *, by_uid: bool) -> Search:
    args.space()
    returns = return_options(args)
    # QUIRK(several): 8-bit text without a charset is UTF-8
    encoding = "utf-8"
    names_charset = args.take(b"CHARSET ")
    if names_charset:
        encoding = charset(args, returns)
        args.space()
    by_relevancy = returns is not None and Wanted.RELEVANCY in returns.wanted
    key = search_keys(args, encoding, by_relevancy=by_relevancy)
    return Search(key, by_uid, returns, names_charset)


def charset(args: Cursor, returns: Returns | None) -> str:
    """Read a charset that strings may be in and return its codec: all that mail itself may use.

    Raises BadCharset for one that is not known.
    """
    known = codec_of(args.astring().decode("ascii", "replace"))
    if known is None:
        raise BadCharset(saves=returns is not None and Wanted.SAVE in returns.wanted)
    return known


def search_keys(args: Cursor, encoding: str, *, by_relevancy: bool = False) -> Key:
    """Read search-key *(SP search-key), the rest of a command; RELEVANCY needs a FUZZY one."""
    reader = _Reader(args, encoding)
    keys = [reader.key()]
    while not args.at_end() and args.take(b" "):
        if args.at_end():
            break  # QUIRK(several): a space at the end
        keys.append(reader.key())
    args.end()
    if by_relevancy and not reader.fuzzy:
        args.fail("RELEVANCY needs FUZZY")
    return keys[0] if len(keys) == 1 else And(tuple(keys))


def return_options(args: Cursor) -> Returns | None:
    """search-return-opts = "RETURN" SP "(" [search-return-opt *(SP search-return-opt)] ")" SP."""
    if not args.take(b"RETURN "):
        return None
    wanted = Wanted(0)
    partial: Partial | None = None
    items: tuple[Item, ...] = ()

    def option() -> None:
        nonlocal wanted, partial, items
        name = args.word()
        chosen = _WANTED.get(name)
        if chosen is None:
            args.fail("Unknown return option")
        if chosen is Wanted.PARTIAL:
            if partial is not None:
                args.fail("PARTIAL is given twice")
            args.space()
            partial = partial_range(args)
        if chosen is Wanted.UPDATE and (args.peek(b"(") or args.peek(b" (")):
            args.take(b" ")  # RFC 5465 §8 has none, its examples have one
            items = fetch_items(args)
        wanted |= chosen

    args.parenthesized(option, allow_empty=True)
    args.space()
    if Wanted.PARTIAL | Wanted.ALL in wanted:
        args.fail("PARTIAL and ALL exclude each other")
    return Returns(wanted or Wanted.ALL, partial, items)


_WANTED = {name.encode("ascii"): member for name, member in Wanted.__members__.items()}


def mentions(key: Key, kind: type) -> bool:
    """Whether a key of some kind is among the keys."""
    return any(isinstance(each, kind) for each in _leaves(key))


def names_numbers(key: Key) -> bool:
    """Whether sequence numbers are among the keys; "$" is none."""
    return any(
        isinstance(each, Messages) and not each.by_uid and bool(each.messages.ranges)
        for each in _leaves(key)
    )


def _leaves(key: Key) -> Iterator[Key]:
    """Return the keys that have no keys inside."""
    if isinstance(key, And):
        for each in key.keys:
            yield from _leaves(each)
    elif isinstance(key, Or):
        yield from _leaves(key.left)
        yield from _leaves(key.right)
    elif isinstance(key, Not):
        yield from _leaves(key.key)
    else:
        yield key


def modseq_shown(returns: Returns, modseqs: Sequence[int]) -> int:
    """Return the mod-sequence of a result, of what is told of it (RFC 7162 §3.1.10).

    `modseqs` are those of the found messages, in the order they are told.
    """
    ends = Wanted.MIN | Wanted.MAX
    if not returns.wanted & ends or returns.wanted & ~ends & ~NOT_TOLD:
        return max(modseqs)
    shown = []
    if Wanted.MIN in returns.wanted:
        shown.append(modseqs[0])
    if Wanted.MAX in returns.wanted:
        shown.append(modseqs[-1])
    return max(shown)


def to_save(returns: Returns, found: Sequence[int]) -> Sequence[int]:
    """Return what "$" means after a search that found these UIDs, in the order they are told.

    Without ALL or COUNT it is only what is told (RFC 5182 §2.4, RFC 9394 §3.2).
    """
    wanted = returns.wanted
    told = Wanted.MIN | Wanted.MAX | Wanted.PARTIAL
    if not found or wanted & (Wanted.ALL | Wanted.COUNT) or not wanted & told:
        return sorted(found)
    saved = set(returns.partial.of(found)) if returns.partial is not None else set()
    if Wanted.MIN in wanted:
        saved.add(found[0])
    if Wanted.MAX in wanted:
        saved.add(found[-1])
    return sorted(saved)


def newest(returns: Returns | None, found: Sequence[int], limit: int) -> Sequence[int]:
    """Return what was found last, when more would be told or saved than a command may touch."""
    told = found
    if returns is not None:
        wanted = returns.wanted
        some = wanted & (Wanted.MIN | Wanted.MAX | Wanted.COUNT | Wanted.PARTIAL)
        saves_all = Wanted.SAVE in wanted and (Wanted.COUNT in wanted or not some)
        if not wanted & (Wanted.ALL | Wanted.RELEVANCY) and not saves_all:
            told = returns.partial.of(found) if returns.partial is not None else ()
    return found if len(told) <= limit else found[-limit:]


def esearch(
    tag: bytes,
    returns: Returns,
    numbers: Sequence[int],
    *,
    by_uid: bool,
    place: bytes = b"",
    scores: Sequence[int] = (),
) -> bytes | None:
    """Write an ESEARCH response (RFC 4731 §3.1); None when nothing but saving was asked for.

    `numbers` are in the order of the mailbox, or in that of a SORT (RFC 5267 §3.1). `place` tells
    the mailbox, when several are searched. `scores` are the relevancies of what was found.
    """
    wanted, partial = returns.wanted, returns.partial
    if wanted & ~Wanted.CONTEXT == Wanted.SAVE:
        return None
    parts = [b"ESEARCH (TAG %b%b)" % (string(tag), place)]
    if by_uid:
        parts.append(b"UID")
    if numbers and Wanted.MIN in wanted:
        parts.append(b"MIN %d" % numbers[0])
    if numbers and Wanted.MAX in wanted:
        parts.append(b"MAX %d" % numbers[-1])
    if numbers and Wanted.ALL in wanted:
        parts.append(b"ALL %b" % compact(numbers))
    if Wanted.COUNT in wanted:
        parts.append(b"COUNT %d" % len(numbers))
    if partial is not None:
        shown = compact(partial.of(numbers)) or b"NIL"
        parts.append(b"PARTIAL (%b %b)" % (partial.text, shown))
    if Wanted.RELEVANCY in wanted:
        told = scores if partial is None else partial.of(scores)
        parts.append(b"RELEVANCY (%b)" % b" ".join(b"%d" % score for score in told))
    return b" ".join(parts)


class _Reader:
    """Reads keys, and counts them."""

    def __init__(self, args: Cursor, charset: str) -> None:
        self.args = args
        self._charset = charset
        self.fuzzy = False  # a FUZZY key was among them
        self._depth = 0
        self._keys = 0

    def key(self) -> Key:
        """Read one search-key."""
        self._depth += 1
        self._keys += 1
        if self._depth > MAX_DEPTH or self._keys > MAX_KEYS:
            self.args.fail("Search is too complex")
        key = self._key()
        self._depth -= 1
        return key

    def _key(self) -> Key:
        args = self.args
        if args.peek(b"("):
            keys = args.parenthesized(self.key)
            return keys[0] if len(keys) == 1 else And(tuple(keys))
        if args.at_sequence_set():
            return Messages(args.sequence_set(), by_uid=False)
        word = args.word()
        read = _KEYS.get(word)
        if read is None:
            args.fail("Unknown search key")
        return read(self)

    def text(self) -> str:
        """SP astring, in the charset of the command."""
        self.args.space()
        try:
            return self.args.astring().decode(self._charset)
        except UnicodeError:
            self.args.fail("Text is not in the charset of the search")

    def day(self) -> date:
        """SP date."""
        self.args.space()
        return self.args.date()

    def size(self) -> int:
        """SP number."""
        self.args.space()
        return self.args.number()

    def interval(self) -> int:
        """SP nz-number."""
        return self.size() or self.args.fail("An interval cannot be zero")

    def modified(self) -> Key:
        """[SP entry-name SP entry-type-req] SP mod-sequence-valzer: there is one for all."""
        self.args.space()
        if self.args.peek(b'"'):
            if not self.args.string().lower().startswith(b"/flags/"):
                self.args.fail("Unknown entry")
            self.args.space()
            if self.args.word() not in (b"PRIV", b"SHARED", b"ALL"):
                self.args.fail("Unknown type of entry")
            self.args.space()
        return Modified(mod_sequence(self.args))

    def object_id(self, kind: IdKind) -> int | None:
        """SP objectid."""
        self.args.space()
        return id_value(kind, self.args.match(_OBJECT_ID, "an object id").decode("ascii"))

    def uids(self) -> SequenceSet:
        """SP sequence-set."""
        self.args.space()
        return self.args.sequence_set()

    def uid_after(self) -> Key:
        """SP uniqueid: the messages with larger UIDs (RFC 9738 §3)."""
        uid = self.size()
        return _uids(uid + 1, MAX_NUMBER) if uid < MAX_NUMBER else NOTHING

    def uid_before(self) -> Key:
        """SP uniqueid: the messages with smaller UIDs (RFC 9738 §3)."""
        uid = self.size()
        return _uids(1, uid - 1) if uid > 1 else NOTHING

    def keyword(self) -> Key:
        """SP flag-keyword."""
        self.args.space()
        name = self.args.flag()
        bit = flag_bit(name)
        return HasKeyword(name.lower()) if bit is None else HasFlag(bit)

    def header(self) -> Key:
        """SP header-fld-name SP astring."""
        self.args.space()
        field = self.args.astring().decode("ascii", "replace").lower()
        return InHeader(field, self.text())

    def either(self) -> Key:
        """SP search-key SP search-key."""
        self.args.space()
        left = self.key()
        self.args.space()
        return Or(left, self.key())

    def fuzzily(self) -> Key:
        """SP search-key; what is no text is matched as ever (RFC 6203 §5)."""
        self.args.space()
        self.fuzzy = True
        return _fuzzy(self.key())

    def inverse(self) -> Key:
        """SP search-key."""
        self.args.space()
        return Not(self.key())


def _fuzzy(key: Key) -> Key:
    """Make the texts in a key fuzzy, but not what is excluded."""
    if isinstance(key, And):
        return And(tuple(map(_fuzzy, key.keys)))
    if isinstance(key, Or):
        return Or(_fuzzy(key.left), _fuzzy(key.right))
    return Fuzzy(key) if isinstance(key, InHeader | InBody | InText) else key


def _uids(first: int, last: int) -> Key:
    return Messages(SequenceSet(((first, last),)), by_uid=True)


def _always(key: Key) -> Callable[[_Reader], Key]:
    return lambda reader: key


def _in_header(field: str) -> Callable[[_Reader], Key]:
    return lambda reader: InHeader(field, reader.text())


def _received(order: Order) -> Callable[[_Reader], Key]:
    return lambda reader: Received(order, reader.day())


def _sent(order: Order) -> Callable[[_Reader], Key]:
    return lambda reader: Sent(order, reader.day())


def _saved(order: Order) -> Callable[[_Reader], Key]:
    return lambda reader: Saved(order, reader.day())


_KEYS: dict[bytes, Callable[[_Reader], Key]] = {
    b"ALL": _always(Everything()),
    b"ANSWERED": _always(HasFlag(ANSWERED)),
    b"DELETED": _always(HasFlag(DELETED)),
    b"DRAFT": _always(HasFlag(DRAFT)),
    b"FLAGGED": _always(HasFlag(FLAGGED)),
    b"SEEN": _always(HasFlag(SEEN)),
    b"UNANSWERED": _always(Not(HasFlag(ANSWERED))),
    b"UNDELETED": _always(Not(HasFlag(DELETED))),
    b"UNDRAFT": _always(Not(HasFlag(DRAFT))),
    b"UNFLAGGED": _always(Not(HasFlag(FLAGGED))),
    b"UNSEEN": _always(Not(HasFlag(SEEN))),
    b"RECENT": _always(IsRecent()),
    b"OLD": _always(Not(IsRecent())),
    b"NEW": _always(And((IsRecent(), Not(HasFlag(SEEN))))),
    b"KEYWORD": _Reader.keyword,
    b"UNKEYWORD": lambda reader: Not(reader.keyword()),
    b"LARGER": lambda reader: Larger(reader.size()),
    b"SMALLER": lambda reader: Smaller(reader.size()),
    b"OLDER": lambda reader: Older(reader.interval()),
    b"YOUNGER": lambda reader: Younger(reader.interval()),
    b"MODSEQ": _Reader.modified,
    b"BEFORE": _received(Order.BEFORE),
    b"ON": _received(Order.ON),
    b"SINCE": _received(Order.SINCE),
    b"SENTBEFORE": _sent(Order.BEFORE),
    b"SENTON": _sent(Order.ON),
    b"SENTSINCE": _sent(Order.SINCE),
    b"SAVEDBEFORE": _saved(Order.BEFORE),
    b"SAVEDON": _saved(Order.ON),
    b"SAVEDSINCE": _saved(Order.SINCE),
    b"SAVEDATESUPPORTED": _always(Everything()),
    b"EMAILID": lambda reader: HasEmailId(reader.object_id(IdKind.EMAIL)),
    b"THREADID": lambda reader: HasThreadId(reader.object_id(IdKind.THREAD)),
    b"FROM": _in_header("from"),
    b"TO": _in_header("to"),
    b"CC": _in_header("cc"),
    b"BCC": _in_header("bcc"),
    b"SUBJECT": _in_header("subject"),
    b"HEADER": _Reader.header,
    b"BODY": lambda reader: InBody(reader.text()),
    b"TEXT": lambda reader: InText(reader.text()),
    b"UIDAFTER": _Reader.uid_after,
    b"UIDBEFORE": _Reader.uid_before,
    b"UID": lambda reader: Messages(reader.uids(), by_uid=True),
    b"NOT": _Reader.inverse,
    b"FUZZY": _Reader.fuzzily,
    b"OR": _Reader.either,
}
