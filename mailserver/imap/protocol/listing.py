"""LIST with its options (RFC 5258): how it is read, and which mailboxes it is about."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.mailboxes import StatusItem, matcher, status_items
from mailserver.imap.protocol.metadata import entries
from mailserver.model import SPECIAL_USES, Mailbox, MailboxId

MAX_PATTERNS = 20  # each is held against every mailbox


class Selection(Enum):
    """Which mailboxes are meant, besides the patterns (RFC 5258 §3.1, RFC 6154 §2)."""

    SUBSCRIBED = b"SUBSCRIBED"
    SPECIAL_USE = b"SPECIAL-USE"
    REMOTE = b"REMOTE"  # adds mailboxes of other servers: there are none
    RECURSIVEMATCH = b"RECURSIVEMATCH"


class Return(Enum):
    """What is told about them (RFC 5258 §3.2, RFC 6154 §2)."""

    SUBSCRIBED = b"SUBSCRIBED"
    CHILDREN = b"CHILDREN"  # told always
    SPECIAL_USE = b"SPECIAL-USE"  # told always


@dataclass(frozen=True, slots=True)
class List:
    """LIST: the names, the selection, and what to tell of each."""

    reference: str
    patterns: tuple[str, ...]
    extended: bool = False
    selection: frozenset[Selection] = frozenset()
    returns: frozenset[Return] = frozenset()
    status: tuple[StatusItem, ...] = ()
    metadata: tuple[str, ...] = ()  # names of annotations, as the client wrote them

    @property
    def asks_for_root(self) -> bool:
        """Whether it asks for the delimiter only, as just the plain form can (RFC 5258 §3)."""
        return not self.extended and self.patterns == ("",)

    @property
    def shows_subscribed(self) -> bool:
        r"""Whether \Subscribed is told."""
        return Return.SUBSCRIBED in self.returns or Selection.SUBSCRIBED in self.selection


class Match(NamedTuple):
    """A mailbox to list."""

    mailbox: Mailbox
    selected: bool  # False: it is listed for what is below it
    child_info: bool  # something that the patterns hide is selected below it


def parse_list(args: Cursor) -> List:
    """Read list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]."""
    args.space()
    selection: frozenset[Selection] = frozenset()
    extended = args.peek(b"(")
    if extended:
        selection = _selection(args)
        args.space()
    reference = args.mailbox()
    args.space()
    if args.peek(b"("):
        extended = True
        patterns = tuple(args.parenthesized(args.list_mailbox))
        if len(patterns) > MAX_PATTERNS:
            args.fail("Too many patterns")
    else:
        patterns = (args.list_mailbox(),)
    if not args.take(b" RETURN "):
        args.end()
        return List(reference, patterns, extended, selection)
    returns = _Returns(args)
    args.end()
    return List(
        reference,
        patterns,
        True,
        selection,
        frozenset(returns.plain),
        tuple(dict.fromkeys(returns.status)),
        tuple(dict.fromkeys(returns.metadata)),
    )


def _selection(args: Cursor) -> frozenset[Selection]:
    def option() -> Selection:
        try:
            return Selection(args.word())
        except ValueError:
            args.fail("Unknown selection option")

    found = frozenset(args.parenthesized(option, allow_empty=True))
    if Selection.RECURSIVEMATCH in found and Selection.SUBSCRIBED not in found:
        args.fail("RECURSIVEMATCH needs another selection option")
    return found


class _Returns:
    """The return options while they are read; one that comes again adds to the first."""

    def __init__(self, args: Cursor) -> None:
        self.plain: set[Return] = set()
        self.status: list[StatusItem] = []
        self.metadata: list[str] = []
        args.parenthesized(lambda: self._option(args), allow_empty=True)

    def _option(self, args: Cursor) -> None:
        name = args.word()
        if name == b"STATUS":  # RFC 5819 §4
            args.space()
            self.status += status_items(args)
        elif name == b"METADATA":  # RFC 9590
            args.space()
            self.metadata += entries(args)
        else:
            try:
                self.plain.add(Return(name))
            except ValueError:
                args.fail("Unknown return option")


def choose(command: List, found: Sequence[Mailbox]) -> list[Match]:
    """Return what LIST answers with, in the order of `found` (RFC 5258 §3.3, §3.5)."""
    patterns = [
        matcher(command.reference + pattern)
        for pattern in dict.fromkeys(command.patterns)
        if pattern or not command.extended
    ]
    only_subscribed = Selection.SUBSCRIBED in command.selection
    only_special = Selection.SPECIAL_USE in command.selection
    selected = {
        mailbox.id
        for mailbox in found
        if (mailbox.subscribed or not only_subscribed)
        and (mailbox.role in SPECIAL_USES or not only_special)
    }
    matched = {
        mailbox.id for mailbox in found if any(matches(mailbox.path) for matches in patterns)
    }
    above: set[MailboxId] = set()
    if Selection.RECURSIVEMATCH in command.selection:
        above = _above(found, selected - matched)
    return [
        Match(mailbox, mailbox.id in selected, mailbox.id in above)
        for mailbox in found
        if mailbox.id in matched and (mailbox.id in selected or mailbox.id in above)
    ]


def _above(found: Iterable[Mailbox], below: set[MailboxId]) -> set[MailboxId]:
    """Return every ancestor of some mailboxes."""
    parents = {mailbox.id: mailbox.parent_id for mailbox in found}
    above: set[MailboxId] = set()
    for mailbox in below:
        parent = parents[mailbox]
        while parent is not None and parent not in above:
            above.add(parent)
            parent = parents[parent]
    return above
