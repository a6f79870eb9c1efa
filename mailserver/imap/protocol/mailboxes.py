"""Commands about mailboxes: LIST LSUB STATUS CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.responses import DELIMITER


class StatusItem(Enum):
    """What STATUS can tell (RFC 3501 §6.3.10, RFC 8438 §2, RFC 9208 §4.1.4)."""

    MESSAGES = b"MESSAGES"
    RECENT = b"RECENT"
    UIDNEXT = b"UIDNEXT"
    UIDVALIDITY = b"UIDVALIDITY"
    UNSEEN = b"UNSEEN"
    HIGHESTMODSEQ = b"HIGHESTMODSEQ"  # RFC 7162 §3.1.7
    APPENDLIMIT = b"APPENDLIMIT"  # RFC 7889 §4
    SIZE = b"SIZE"
    DELETED = b"DELETED"
    DELETED_STORAGE = b"DELETED-STORAGE"
    MAILBOXID = b"MAILBOXID"  # RFC 8474 §4.3


@dataclass(frozen=True, slots=True)
class Listing:
    """LSUB: a reference and a pattern."""

    reference: str
    pattern: str | None  # None matches nothing


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS: what to tell about a mailbox that is not selected."""

    mailbox: str
    items: tuple[StatusItem, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A command whose only argument is a mailbox."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE: the name, and the special uses that the mailbox shall have (RFC 6154 §3)."""

    mailbox: str
    uses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME: the name that is and the name to be."""

    mailbox: str
    new: str


def parse_lsub(args: Cursor) -> Listing:
    """Read lsub = "LSUB" SP mailbox SP list-mailbox."""
    args.space()
    reference = args.mailbox()
    args.space()
    pattern = args.list_mailbox()
    args.end()
    return Listing(reference, pattern)


def parse_status(args: Cursor) -> Status:
    """Read status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"."""
    args.space()
    mailbox = args.mailbox()
    args.space()
    items = status_items(args)
    args.end()
    return Status(mailbox, items)


def status_items(args: Cursor) -> tuple[StatusItem, ...]:
    """Read "(" status-att *(SP status-att) ")", each item once."""

    def item() -> StatusItem:
        try:
            return StatusItem(args.word())
        except ValueError:
            args.fail("Unknown status item")

    return tuple(dict.fromkeys(args.parenthesized(item)))


def parse_named(args: Cursor) -> Named:
    """Read SP mailbox: DELETE, SUBSCRIBE, UNSUBSCRIBE."""
    args.space()
    mailbox = args.mailbox()
    args.end()
    return Named(mailbox)


def parse_create(args: Cursor) -> Create:
    """Read create = "CREATE" SP mailbox [create-params] (RFC 6154 §6).

    A delimiter at the end of the name announces children (RFC 9051 §6.3.4).
    """
    args.space()
    mailbox = args.mailbox()
    uses: list[str] = []
    if args.peek(b" ("):
        args.space()
        args.parenthesized(lambda: uses.extend(_use(args)))
    args.end()
    return Create(mailbox.removesuffix(DELIMITER) or mailbox, tuple(dict.fromkeys(uses)))


def _use(args: Cursor) -> list[str]:
    args.expect(b"USE ")
    return args.parenthesized(args.flag, allow_empty=True)


def parse_rename(args: Cursor) -> Rename:
    """Read rename = "RENAME" SP mailbox SP mailbox."""
    args.space()
    mailbox = args.mailbox()
    args.space()
    new = args.mailbox()
    args.end()
    return Rename(mailbox, new)


def matcher(pattern: str) -> Callable[[str], bool]:
    """Compile a LIST pattern: `*` is anything, `%` anything without the delimiter (§6.3.9)."""
    pattern = unicodedata.normalize("NFC", pattern)  # as names are kept
    first = pattern.split(DELIMITER, 1)[0]
    if first.isascii() and first.upper() == "INBOX":
        pattern = "INBOX" + pattern[len(first) :]
    if pattern == "*":
        return lambda name: True
    if pattern == "%":
        return lambda name: DELIMITER not in name
    if "*" not in pattern and "%" not in pattern:
        return lambda name: name == pattern
    return _automaton(pattern)


def _automaton(pattern: str) -> Callable[[str], bool]:
    """Compile a pattern of any form.

    All states advance together as bits of one number, so a hostile pattern costs no more than its
    length times the name's.
    """
    any_mask = 0  # states that stay on every character
    level_mask = 0  # states that stay on every character but the delimiter
    steps: dict[str, int] = {}
    for index, character in enumerate(pattern):
        if character == "*":
            any_mask |= 1 << index
        elif character == "%":
            level_mask |= 1 << index
        else:
            steps[character] = steps.get(character, 0) | 1 << index
    wild = any_mask | level_mask
    final = 1 << len(pattern)

    def reach(states: int) -> int:
        """Pass wildcards without a character."""
        while more := (states & wild) << 1 & ~states:
            states |= more
        return states

    def matches(name: str) -> bool:
        states = reach(1)
        for character in name:
            stay = any_mask if character == DELIMITER else wild
            states = reach((states & steps.get(character, 0)) << 1 | states & stay)
            if not states:
                return False
        return bool(states & final)

    return matches
