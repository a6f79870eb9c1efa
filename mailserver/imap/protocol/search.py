"""SEARCH: a tree of keys (RFC 9051 §6.4.4)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import BadCharset
from mailserver.imap.protocol.sequences import SequenceSet
from mailserver.model import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, flag_bit

MAX_DEPTH = 100  # nested NOT, OR and parentheses
MAX_KEYS = 2000  # in one command
CHARSETS = {b"US-ASCII": "ascii", b"UTF-8": "utf-8", b"ASCII": "ascii", b"UTF8": "utf-8"}


class Order(Enum):
    """How a date or a size compares with the one given."""

    BEFORE = -1
    ON = 0
    SINCE = 1  # on or after


@dataclass(frozen=True, slots=True)
class Everything:
    """ALL."""


@dataclass(frozen=True, slots=True)
class Messages:
    """A sequence set, or UID and a sequence set."""

    messages: SequenceSet
    by_uid: bool


@dataclass(frozen=True, slots=True)
class HasFlag:
    """A flag with a bit."""

    bit: int


@dataclass(frozen=True, slots=True)
class HasKeyword:
    """A keyword without a bit, in lower case."""

    keyword: str


@dataclass(frozen=True, slots=True)
class IsRecent:
    """RECENT."""


@dataclass(frozen=True, slots=True)
class Larger:
    """More octets than this."""

    size: int


@dataclass(frozen=True, slots=True)
class Smaller:
    """Fewer octets than this."""

    size: int


@dataclass(frozen=True, slots=True)
class Received:
    """INTERNALDATE against a day."""

    order: Order
    day: date


@dataclass(frozen=True, slots=True)
class Sent:
    """The Date field against a day; time and zone are disregarded."""

    order: Order
    day: date


@dataclass(frozen=True, slots=True)
class InHeader:
    """A header field that contains a text; an empty text asks only for the field."""

    field: str  # lower case
    text: str


@dataclass(frozen=True, slots=True)
class InBody:
    """A text anywhere in the body."""

    text: str


@dataclass(frozen=True, slots=True)
class InText:
    """A text anywhere in header or body."""

    text: str


@dataclass(frozen=True, slots=True)
class Not:
    """What the key does not match."""

    key: "Key"


@dataclass(frozen=True, slots=True)
class Or:
    """What either key matches."""

    left: "Key"
    right: "Key"


@dataclass(frozen=True, slots=True)
class And:
    """What all keys match."""

    keys: tuple["Key", ...]


Key = (
    Everything | Messages | HasFlag | HasKeyword | IsRecent | Larger | Smaller | Received | Sent
    | InHeader | InBody | InText | Not | Or | And
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH: what to find, and how to name it."""

    key: Key
    by_uid: bool


def parse_search(args: Cursor) -> Search:
    """Read search = "SEARCH" [SP "CHARSET" SP charset] 1*(SP search-key) (RFC 3501 §9)."""
    return _search(args, by_uid=False)


def parse_uid_search(args: Cursor) -> Search:
    """Read "UID" SP search."""
    return _search(args, by_uid=True)


def _search(args: Cursor, *, by_uid: bool) -> Search:
    args.space()
    # QUIRK(several): 8-bit text without a charset is UTF-8
    charset = "utf-8"
    if args.take(b"CHARSET "):
        known = CHARSETS.get(args.astring().upper())
        if known is None:
            raise BadCharset
        charset = known
        args.space()
    reader = _Reader(args, charset)
    keys = [reader.key()]
    while not args.at_end() and args.take(b" "):
        if args.at_end():
            break  # QUIRK(several): a space at the end
        keys.append(reader.key())
    args.end()
    return Search(keys[0] if len(keys) == 1 else And(tuple(keys)), by_uid)


class _Reader:
    """Reads keys, and counts them."""

    def __init__(self, args: Cursor, charset: str) -> None:
        self.args = args
        self._charset = charset
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
        except UnicodeDecodeError:
            self.args.fail("Text is not in the charset of the search")

    def day(self) -> date:
        """SP date."""
        self.args.space()
        return self.args.date()

    def size(self) -> int:
        """SP number."""
        self.args.space()
        return self.args.number()

    def uids(self) -> SequenceSet:
        """SP sequence-set."""
        self.args.space()
        return self.args.sequence_set()

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

    def inverse(self) -> Key:
        """SP search-key."""
        self.args.space()
        return Not(self.key())


def _always(key: Key) -> Callable[[_Reader], Key]:
    return lambda reader: key


def _in_header(field: str) -> Callable[[_Reader], Key]:
    return lambda reader: InHeader(field, reader.text())


def _received(order: Order) -> Callable[[_Reader], Key]:
    return lambda reader: Received(order, reader.day())


def _sent(order: Order) -> Callable[[_Reader], Key]:
    return lambda reader: Sent(order, reader.day())


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
    b"BEFORE": _received(Order.BEFORE),
    b"ON": _received(Order.ON),
    b"SINCE": _received(Order.SINCE),
    b"SENTBEFORE": _sent(Order.BEFORE),
    b"SENTON": _sent(Order.ON),
    b"SENTSINCE": _sent(Order.SINCE),
    b"FROM": _in_header("from"),
    b"TO": _in_header("to"),
    b"CC": _in_header("cc"),
    b"BCC": _in_header("bcc"),
    b"SUBJECT": _in_header("subject"),
    b"HEADER": _Reader.header,
    b"BODY": lambda reader: InBody(reader.text()),
    b"TEXT": lambda reader: InText(reader.text()),
    b"UID": lambda reader: Messages(reader.uids(), by_uid=True),
    b"NOT": _Reader.inverse,
    b"OR": _Reader.either,
}
