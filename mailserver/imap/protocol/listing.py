"""LIST with its options (RFC 5258): how it is read, and which mailboxes it is about."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.mailboxes import StatusItem, matcher, status_items
from mailserver.imap.protocol.metadata import entries
from mailserver.imap.protocol.responses import DELIMITER
from mailserver.model import SPECIAL_USES, Place

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
    MYRIGHTS = b"MYRIGHTS"  # RFC 8440


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
    def is_plain(self) -> bool:
        """Whether the answer is known from the mailboxes there are, without what is told of each.

        Subscribed names may be left of mailboxes that are no more.
        """
        more = self.status or self.metadata or Return.MYRIGHTS in self.returns
        return not more and Selection.SUBSCRIBED not in self.selection

    @property
    def shows_subscribed(self) -> bool:
        r"""Whether \Subscribed is told."""
        return Return.SUBSCRIBED in self.returns or Selection.SUBSCRIBED in self.selection


class Match(NamedTuple):
    """A name to list."""

    path: str
    place: Place | None  # None: no mailbox, or none that may be seen, but there are some below it
    selected: bool  # False: it is listed for what is below it
    child_info: bool  # something that the patterns hide is selected below it
    has_children: bool
    is_left: bool = False  # it stayed subscribed when its mailbox was removed


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
        found = args.parenthesized(args.list_mailbox)
        if len(found) > MAX_PATTERNS:
            args.fail("Too many patterns")
    else:
        found = [args.list_mailbox()]
    patterns = tuple(pattern for pattern in found if pattern is not None)
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


def choose(command: List, found: Iterable[Place], left: Iterable[str] = ()) -> list[Match]:
    """Return what LIST answers with, in the order of `found` (RFC 5258 §3.3, §3.5).

    `left` are subscribed names of no mailbox, for a client that asks for those too.
    """
    patterns = [
        matcher(command.reference + pattern)
        for pattern in dict.fromkeys(command.patterns)
        if pattern or not command.extended
    ]
    names = _names(found)
    parents = {path.rpartition(DELIMITER)[0] for path in names}
    only_names: dict[str, None] = {}
    if Selection.SPECIAL_USE not in command.selection:  # without a mailbox there is none
        only_names = dict.fromkeys(path for path in left if names.get(path) is None)
    for path in only_names:
        for each in (*_above(path), path):
            names.setdefault(each, None)
    selected = {path for path, place in names.items() if _is_selected(command, place)}
    selected.update(only_names)
    matched = {path for path in names if any(matches(path) for matches in patterns)}
    above: set[str] = set()
    if Selection.RECURSIVEMATCH in command.selection:
        above.update(*map(_above, selected - matched))
    return [
        Match(path, place, path in selected, path in above, path in parents, path in only_names)
        for path, place in names.items()
        if path in matched and (path in selected or path in above)
    ]


def _names(found: Iterable[Place]) -> dict[str, Place | None]:
    """Return mailboxes by their paths, and before them the names above that are none."""
    names: dict[str, Place | None] = {}
    for place in found:
        for parent in _above(place.path):
            names.setdefault(parent, None)
        names[place.path] = place
    return names


def _is_selected(command: List, place: Place | None) -> bool:
    """Whether the selection options let a name through."""
    subscribed = Selection.SUBSCRIBED not in command.selection
    special = Selection.SPECIAL_USE not in command.selection
    if place is None:
        return subscribed and special
    return (subscribed or place.subscribed) and (special or place.role in SPECIAL_USES)


def _above(path: str) -> list[str]:
    """Return the names above one, from the root on."""
    parts = path.split(DELIMITER)[:-1]
    return [DELIMITER.join(parts[:depth]) for depth in range(1, len(parts) + 1)]
