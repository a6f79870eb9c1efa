"""NOTIFY: which events the client wants to hear of, of which mailboxes (RFC 5465)."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Flag, auto

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.fetch import Item, fetch_items
from mailserver.imap.protocol.filters import OF_SELECTED, Filter, Scope, filter_mailboxes
from mailserver.imap.protocol.responses import astring

MAX_GROUPS = 100


class Event(Flag):
    """What can happen (RFC 5465 §5)."""

    MESSAGE_NEW = auto()
    MESSAGE_EXPUNGE = auto()
    FLAG_CHANGE = auto()
    MAILBOX_NAME = auto()
    SUBSCRIPTION_CHANGE = auto()
    MAILBOX_METADATA_CHANGE = auto()
    SERVER_METADATA_CHANGE = auto()


NONE = Event(0)
ARRIVALS = Event.MESSAGE_NEW | Event.MESSAGE_EXPUNGE
MESSAGE_EVENTS = ARRIVALS | Event.FLAG_CHANGE
NAME_EVENTS = Event.MAILBOX_NAME | Event.SUBSCRIPTION_CHANGE
_NAMES = {
    b"MessageNew": Event.MESSAGE_NEW,
    b"MessageExpunge": Event.MESSAGE_EXPUNGE,
    b"FlagChange": Event.FLAG_CHANGE,
    b"MailboxName": Event.MAILBOX_NAME,
    b"SubscriptionChange": Event.SUBSCRIPTION_CHANGE,
    b"MailboxMetadataChange": Event.MAILBOX_METADATA_CHANGE,
    b"ServerMetadataChange": Event.SERVER_METADATA_CHANGE,
}
_EVENTS = {name.upper(): event for name, event in _NAMES.items()}
BAD_EVENT = b"BADEVENT (%b)" % b" ".join(_NAMES)
_SCOPES = frozenset(Scope) - {Scope.SUBTREE_ONE}


@dataclass(frozen=True, slots=True)
class Group:
    """Mailboxes, the events of them, and what to fetch of new messages."""

    mailboxes: Filter
    events: Event
    items: tuple[Item, ...] = ()

    @property
    def of_selected(self) -> bool:
        """Whether it is about the selected mailbox, whichever that is."""
        return self.mailboxes.scope in OF_SELECTED


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY: what to tell from now on; None: nothing at all."""

    groups: tuple[Group, ...] | None
    status: bool = False  # tell what is now, too
    supported: bool = True  # False: there are events among them that are not

    @property
    def of_selected(self) -> Group | None:
        """The group about the selected mailbox."""
        return next((group for group in self.groups or () if group.of_selected), None)


def parse_notify(args: Cursor) -> Notify:
    """Read notify = "NOTIFY" SP ("SET" [SP "STATUS"] SP event-groups / "NONE")."""
    args.space()
    form = args.word()
    if form == b"NONE":
        args.end()
        return Notify(None)
    if form != b"SET":
        args.fail("Expected SET or NONE")
    return _Reader(args).notify_set()


class _Reader:
    """Reads event groups, and notes whether there are events that nobody knows."""

    def __init__(self, args: Cursor) -> None:
        self._args = args
        self._supported = True

    def notify_set(self) -> Notify:
        """Read [SP "STATUS"] SP event-group *(SP event-group)."""
        args = self._args
        status = args.take(b" STATUS ")
        if not status:
            args.space()
        groups = [self._group()]
        while args.take(b" "):
            groups.append(self._group())
        args.end()
        if len(groups) > MAX_GROUPS:
            args.fail("Too many groups")
        if sum(group.of_selected for group in groups) > 1:
            args.fail("There is one selected mailbox")
        return Notify(tuple(groups), status, self._supported)

    def _group(self) -> Group:
        """event-group = "(" filter-mailboxes SP events ")"."""
        args = self._args
        args.expect(b"(")
        mailboxes = filter_mailboxes(args, allowed=_SCOPES)
        args.space()
        events, items = self._events()
        args.expect(b")")
        group = Group(mailboxes, events, items)
        if events & ARRIVALS not in (NONE, ARRIVALS):
            args.fail("MessageNew and MessageExpunge need each other")
        if Event.FLAG_CHANGE in events and not events & ARRIVALS:
            args.fail("FlagChange needs MessageNew and MessageExpunge")
        if group.of_selected and events & ~MESSAGE_EVENTS:
            args.fail("The selected mailbox has events of messages only")
        if items and not group.of_selected:
            args.fail("Data is fetched of messages in the selected mailbox only")
        return group

    def _events(self) -> tuple[Event, tuple[Item, ...]]:
        """events = ("(" event *(SP event) ")") / "NONE"."""
        if self._args.take(b"NONE"):
            return NONE, ()
        events = NONE
        items: tuple[Item, ...] = ()
        for event, some in self._args.parenthesized(self._event):
            events |= event
            items += some
        return events, tuple(dict.fromkeys(items))

    def _event(self) -> tuple[Event, tuple[Item, ...]]:
        """event = message-event / mailbox-event / user-event / event-ext."""
        args = self._args
        event = _EVENTS.get(args.word())
        if event is None:
            self._supported = False
            return NONE, ()
        if event is not Event.MESSAGE_NEW or not args.peek(b" ("):
            return event, ()
        args.space()
        return event, fetch_items(args)


def metadata_names(mailbox: bytes, entries: Iterable[str]) -> bytes:
    """Write a METADATA response without values (RFC 5464 §4.4.2); the empty name is the server."""
    shown = b" ".join(astring(entry.encode("ascii")) for entry in entries)
    return b"* METADATA %b %b\r\n" % (mailbox, shown)
