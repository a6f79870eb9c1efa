"""Commands about mailboxes: LIST LSUB STATUS CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.responses import DELIMITER


class StatusItem(Enum):
    """What STATUS can tell (RFC 3501 §6.3.10)."""

    MESSAGES = b"MESSAGES"
    RECENT = b"RECENT"
    UIDNEXT = b"UIDNEXT"
    UIDVALIDITY = b"UIDVALIDITY"
    UNSEEN = b"UNSEEN"


@dataclass(frozen=True, slots=True)
class Listing:
    """LIST or LSUB: a reference and a pattern."""

    reference: str
    pattern: str


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
class Rename:
    """RENAME: the name that is and the name to be."""

    mailbox: str
    new: str


def parse_list(args: Cursor) -> Listing:
    """Read list = "LIST" SP mailbox SP list-mailbox; LSUB is the same."""
    args.space()
    reference = args.mailbox()
    args.space()
    pattern = args.list_mailbox()
    args.end()
    return Listing(reference, pattern)


def parse_status(args: Cursor) -> Status:
    """Read status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"."""

    def item() -> StatusItem:
        try:
            return StatusItem(args.word())
        except ValueError:
            args.fail("Unknown status item")

    args.space()
    mailbox = args.mailbox()
    args.space()
    items = args.parenthesized(item)
    args.end()
    return Status(mailbox, tuple(dict.fromkeys(items)))


def parse_named(args: Cursor) -> Named:
    """Read SP mailbox: CREATE, DELETE, SUBSCRIBE, UNSUBSCRIBE, SELECT, EXAMINE."""
    args.space()
    mailbox = args.mailbox()
    args.end()
    return Named(mailbox)


def parse_create(args: Cursor) -> Named:
    """Read create = "CREATE" SP mailbox; a delimiter at its end announces children (§6.3.4)."""
    named = parse_named(args)
    return Named(named.mailbox.removesuffix(DELIMITER) or named.mailbox)


def parse_rename(args: Cursor) -> Rename:
    """Read rename = "RENAME" SP mailbox SP mailbox."""
    args.space()
    mailbox = args.mailbox()
    args.space()
    new = args.mailbox()
    args.end()
    return Rename(mailbox, new)


def matcher(pattern: str) -> Callable[[str], bool]:
    """Compile a LIST pattern: `*` is anything, `%` anything without the delimiter (§6.3.9).

    All states of the automaton advance together as bits of one number, so a hostile pattern costs
    no more than its length times the name's.
    """
    first = pattern.split(DELIMITER, 1)[0]
    if first.upper() == "INBOX":
        pattern = "INBOX" + pattern[len(first) :]
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
