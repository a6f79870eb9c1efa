"""SORT: by what, and of what is found (RFC 5256 §3, RFC 5957, RFC 5267 §3)."""

from dataclasses import dataclass
from enum import Enum

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.search import (
    Returns,
    Wanted,
    charset,
    return_options,
    search_keys,
)
from mailserver.imap.protocol.search_keys import Key

MAX_CRITERIA = 20


class SortKey(Enum):
    """One property of a message to sort by."""

    ARRIVAL = b"ARRIVAL"
    CC = b"CC"
    DATE = b"DATE"
    FROM = b"FROM"
    SIZE = b"SIZE"
    SUBJECT = b"SUBJECT"
    TO = b"TO"
    DISPLAYFROM = b"DISPLAYFROM"
    DISPLAYTO = b"DISPLAYTO"
    RELEVANCY = b"RELEVANCY"  # the highest first (RFC 6203 §6)


@dataclass(frozen=True, slots=True)
class Sort:
    """SORT: the criteria, the most important first, each with whether it is reversed."""

    criteria: tuple[tuple[SortKey, bool], ...]
    key: Key
    by_uid: bool
    returns: Returns | None = None


def parse_sort(args: Cursor) -> Sort:
    """Read sort = "SORT" [search-return-opts] SP sort-criteria SP search-criteria."""
    return _sort(args, by_uid=False)


def parse_uid_sort(args: Cursor) -> Sort:
    """Read "UID" SP sort."""
    return _sort(args, by_uid=True)


def _sort(args: Cursor, *, by_uid: bool) -> Sort:
    args.space()
    returns = return_options(args)
    criteria = args.parenthesized(lambda: _criterion(args))
    if len(criteria) > MAX_CRITERIA:
        args.fail("Too many sort criteria")
    args.space()
    encoding = charset(args, returns)
    args.space()
    by_relevancy = any(key is SortKey.RELEVANCY for key, _ in criteria) or (
        returns is not None and Wanted.RELEVANCY in returns.wanted
    )
    key = search_keys(args, encoding, by_relevancy=by_relevancy)
    return Sort(tuple(criteria), key, by_uid, returns)


def _criterion(args: Cursor) -> tuple[SortKey, bool]:
    """sort-criterion = ["REVERSE" SP] sort-key."""
    reverse = args.take(b"REVERSE ")
    name = args.word()
    try:
        return SortKey(name), reverse
    except ValueError:
        args.fail("Unknown sort criterion")
