"""What a search asks for, in words of no protocol: a tree of criteria, and an order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from mailserver.mail.casemap import DEFAULT_COLLATION
from mailserver.model import EmailId, MailboxId


class Within(StrEnum):
    """How many messages of a thread must have a keyword."""

    ALL = "all"
    SOME = "some"
    NONE = "none"


class Place(StrEnum):
    """Where a text is looked for."""

    FROM = "from"
    TO = "to"
    CC = "cc"
    BCC = "bcc"
    SUBJECT = "subject"
    BODY = "body"
    TEXT = "text"  # all of the above


@dataclass(frozen=True, slots=True)
class InMailbox:
    """The message is in this mailbox."""

    mailbox: int


@dataclass(frozen=True, slots=True)
class InMailboxOtherThan:
    """The message is in at least one mailbox that is none of these."""

    mailboxes: frozenset[int]


@dataclass(frozen=True, slots=True)
class Received:
    """The message came at `after` or later, and earlier than `before`."""

    after: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """The message has at least `minimum` octets, and fewer than `below`."""

    minimum: int | None = None
    below: int | None = None


@dataclass(frozen=True, slots=True)
class HasKeyword:
    """The message has a JMAP keyword, given in lower case."""

    keyword: str


@dataclass(frozen=True, slots=True)
class ThreadKeyword:
    """All, some or none of the messages in the thread have a keyword, given in lower case."""

    within: Within
    keyword: str


@dataclass(frozen=True, slots=True)
class HasAttachment:
    """The message has, or has not, something to download."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class Contains:
    """Each of these words or phrases, in folded case, occurs in a place."""

    place: Place
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HeaderField:
    """The message has a header field with that name and, unless None, that text in it."""

    name: str  # lower case
    text: str | None  # folded case


@dataclass(frozen=True, slots=True)
class All:
    """Every one of the criteria holds; without any, that is true."""

    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of the criteria holds."""

    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """None of the criteria holds."""

    criteria: tuple[Criterion, ...]


Criterion: TypeAlias = (
    InMailbox
    | InMailboxOtherThan
    | Received
    | Size
    | HasKeyword
    | ThreadKeyword
    | HasAttachment
    | Contains
    | HeaderField
    | All
    | AnyOf
    | NoneOf
)


def conjuncts(criterion: Criterion) -> list[Criterion]:
    """Return criteria of which all must hold."""
    if isinstance(criterion, All):
        return [inner for each in criterion.criteria for inner in conjuncts(each)]
    return [criterion]


def leaves(criterion: Criterion) -> Iterator[Criterion]:
    """Yield every criterion of a tree that combines no others."""
    inner: tuple[Criterion, ...] | None = getattr(criterion, "criteria", None)
    if inner is None:
        yield criterion
    else:
        for each in inner:
            yield from leaves(each)


def mentions(criterion: Criterion, kind: type) -> bool:
    """Tell whether a criterion of that kind is anywhere in a tree."""
    return any(isinstance(each, kind) for each in leaves(criterion))


class SortKey(StrEnum):
    """What messages can be ordered by; the names are those of RFC 8621 §4.4.2."""

    RECEIVED_AT = "receivedAt"
    SENT_AT = "sentAt"
    SIZE = "size"
    FROM = "from"
    TO = "to"
    SUBJECT = "subject"
    HAS_KEYWORD = "hasKeyword"
    ALL_IN_THREAD_HAVE_KEYWORD = "allInThreadHaveKeyword"
    SOME_IN_THREAD_HAVE_KEYWORD = "someInThreadHaveKeyword"


@dataclass(frozen=True, slots=True)
class Comparator:
    """One level of an order."""

    key: SortKey
    ascending: bool = True
    keyword: str = ""  # lower case; of the keys that need one
    collation: str = DEFAULT_COLLATION  # of texts


@dataclass(frozen=True, slots=True)
class Window:
    """Which stretch of the result is wanted."""

    position: int = 0  # negative: from the end
    anchor: EmailId | None = None  # start there instead
    anchor_offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Query:
    """A whole search."""

    where: Criterion = All(())
    order: tuple[Comparator, ...] = ()
    window: Window = Window()
    collapse_threads: bool = False
    total: bool = False
    within: frozenset[MailboxId] | None = None  # nothing else is there; None is every mailbox
