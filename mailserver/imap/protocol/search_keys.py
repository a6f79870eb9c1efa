"""The keys of SEARCH as values: a tree (RFC 9051 §6.4.4)."""

from dataclasses import dataclass
from datetime import date
from enum import Enum

from mailserver.imap.protocol.sequences import SequenceSet


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
class Older:
    """INTERNALDATE at least so many seconds ago (RFC 5032 §2)."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Younger:
    """INTERNALDATE at most so many seconds ago (RFC 5032 §2)."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Modified:
    """A mod-sequence of at least this (RFC 7162 §3.1.5)."""

    modseq: int


@dataclass(frozen=True, slots=True)
class Saved:
    """The day on which the message was saved to its mailbox (RFC 8514 §4.3)."""

    order: Order
    day: date


@dataclass(frozen=True, slots=True)
class HasEmailId:
    """The id of the content; None is the id of no email (RFC 8474 §6)."""

    value: int | None


@dataclass(frozen=True, slots=True)
class HasThreadId:
    """The id of the thread; None is the id of none (RFC 8474 §6)."""

    value: int | None


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
class Fuzzy:
    """A text that is matched with tolerance, and with a score (RFC 6203 §3)."""

    key: InHeader | InBody | InText


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
    | Saved | Older | Younger | Modified | HasEmailId | HasThreadId | InHeader | InBody | InText
    | Fuzzy | Not | Or | And
)  # fmt: skip
