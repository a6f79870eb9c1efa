"""NOTIFY: events are told as they happen, of the selected mailbox and of others (RFC 5465)."""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from mailserver.errors import CannotCalculateChanges
from mailserver.events import Subscription
from mailserver.imap.commands.condstore import make_aware
from mailserver.imap.commands.fetch import send_unasked
from mailserver.imap.commands.multisearch import with_normal_names
from mailserver.imap.protocol import responses
from mailserver.imap.protocol.fetch import Attribute
from mailserver.imap.protocol.filters import Scope
from mailserver.imap.protocol.notify import (
    ARRIVALS,
    BAD_EVENT,
    MESSAGE_EVENTS,
    NONE,
    Event,
    Group,
    Notify,
    metadata_names,
)
from mailserver.imap.selected import EVERYTHING, Hears, Refused, Watcher
from mailserver.imap.session import Session
from mailserver.mail import access, changes, metadata
from mailserver.model import (
    EMAIL_KINDS,
    MAILBOX_KINDS,
    AccountId,
    ChangeEntry,
    ChangeKind,
    MailboxId,
    Modseq,
    Place,
    Right,
    Role,
)

log = logging.getLogger(__name__)

_EVENT_OF = {
    ChangeKind.EMAIL_CREATED: Event.MESSAGE_NEW,
    ChangeKind.EMAIL_ADDED: Event.MESSAGE_NEW,
    ChangeKind.EMAIL_UPDATED: Event.FLAG_CHANGE,
    ChangeKind.EMAIL_REMOVED: Event.MESSAGE_EXPUNGE,
    ChangeKind.EMAIL_DESTROYED: Event.MESSAGE_EXPUNGE,
}
_NOTHING = Hears(messages=False, flags=False)


async def notify(session: Session, command: Notify) -> None:
    """Tell from now on what the client wants to hear of, and nothing else (§3.1)."""
    if command.groups is None:
        session.listen(None, _NOTHING)
        return
    if not command.supported:
        raise Refused(BAD_EVENT, "Some of the events are not supported")
    watch, before = Watch(session, command), session.hears
    try:
        # whatever it wants from now on, it is told what happened until now
        session.hears = EVERYTHING
        await session.synchronize(may_expunge=True, ask=True)
        await watch.begin(command)
    except BaseException:
        session.hears = before
        watch.close()
        raise
    session.listen(watch, _hears(command.of_selected))


def _hears(group: Group | None) -> Hears:
    if group is None:
        return _NOTHING
    return Hears(
        messages=bool(group.events & ARRIVALS),
        flags=Event.FLAG_CHANGE in group.events,
        immediate=group.mailboxes.scope is Scope.SELECTED,
    )


class Known(NamedTuple):
    """What the client knows about the name of a mailbox; filters match it as they match a Place."""

    account_id: AccountId
    path: str
    parent: MailboxId | None
    name: str
    role: Role | None
    subscribed: bool

    @classmethod
    def of(cls, place: Place) -> "Known":
        """Keep what names a mailbox."""
        mailbox = place.mailbox
        return cls(
            place.account_id,
            place.path,
            mailbox.parent_id,
            mailbox.name,
            place.role,
            place.subscribed,
        )


@dataclass(slots=True)
class Heard:
    """How far the events of one account were told."""

    subscription: Subscription
    told: Modseq


@dataclass(slots=True)
class News:
    """What happened since then, without what this client did itself."""

    messages: dict[MailboxId, Event] = field(default_factory=dict)
    names: bool = False  # mailboxes were made, renamed, removed, subscribed
    by_self: set[MailboxId] = field(default_factory=set)  # the mailboxes of which the client did
    by_others: set[MailboxId] = field(default_factory=set)  # and those of which others did
    metadata: dict[MailboxId, dict[str, None]] = field(default_factory=dict)  # names, in order

    def add(self, entry: ChangeEntry, *, own: bool, of_user: bool) -> None:
        """Take one entry of a change log, that of the user's own account or another."""
        if entry.kind in EMAIL_KINDS:
            if not own:
                before = self.messages.get(entry.mailbox_id, NONE)
                self.messages[entry.mailbox_id] = before | _EVENT_OF[entry.kind]
        elif entry.kind is ChangeKind.METADATA_UPDATED:
            # what is private belongs to whoever made it
            names = [name for name in entry.names if of_user or name.startswith("/shared")]
            if names and not own:
                self.metadata.setdefault(entry.mailbox_id, {}).update(dict.fromkeys(names))
        elif entry.kind in MAILBOX_KINDS or entry.kind is ChangeKind.SHARING_UPDATED:
            self.names = True
            (self.by_self if own else self.by_others).add(entry.mailbox_id)


class Watch(Watcher):
    """What one client wants to hear of, and what it was told; one subscription an account."""

    __slots__ = ("_accounts", "_groups", "_items", "_known", "_session")

    def __init__(self, session: Session, command: Notify) -> None:
        self._session = session
        selected = command.of_selected
        self._items = selected.items if selected is not None else ()
        groups = [group for group in command.groups or () if not group.of_selected]
        filters = with_normal_names(group.mailboxes for group in groups)
        self._groups = [
            replace(group, mailboxes=mailboxes)
            for group, mailboxes in zip(groups, filters, strict=True)
        ]
        self._accounts: dict[AccountId, Heard] = {}
        self._known: dict[MailboxId, Known] = {}

    async def begin(self, command: Notify) -> None:
        """Note what is now; tell it when asked to, and what may not be heard of (§3.1)."""
        session = self._session
        if Attribute.MODSEQ in self._items:
            await make_aware(session)
        await self._follow([session.account])
        places = await access.visible(session.mail, session.user)
        await self._take(places)
        for place in places:
            events = self._events_of(place)
            if events and Right.READ not in place.rights:
                name = session.mailbox_name(place.path)
                session.send(responses.list_line(name, ["\\NoAccess"]))
            elif command.status and events & MESSAGE_EVENTS and not self._is_selected(place):
                items = [b"UIDVALIDITY %d" % place.mailbox.uidvalidity]
                if events & ARRIVALS:
                    items += [_messages(place), _uidnext(place)]
                if Event.FLAG_CHANGE in events:
                    items.append(_highest(place))
                self._send_status(place, items)
            await session.relieve()
            await asyncio.sleep(0)  # filters may have many names, and accounts many mailboxes

    def close(self) -> None:
        """Stop listening."""
        for heard in self._accounts.values():
            self._session.mail.events.unsubscribe(heard.subscription)
        self._accounts.clear()

    @property
    def has_news(self) -> bool:
        """Whether something happened in an account that is listened to."""
        return any(heard.subscription.modseq > heard.told for heard in self._accounts.values())

    def made(self, account: AccountId, modseq: int) -> None:
        """Note that this client made a change, which it need not be told of (§5)."""
        if account in self._accounts:
            self._accounts[account].subscription.own.add(modseq)

    async def arrived(self, after: int) -> None:
        """Send what was asked for of new messages, but not of the client's own ones (§5.2)."""
        if not self._items:
            return
        selected = self._session.open
        view, listing = selected.view, selected.listing
        heard = self._accounts.get(selected.account)
        own = heard.subscription.own if heard is not None else frozenset()
        uids = []
        for uid in view.uids[bisect_right(view.uids, after, 0, view.count) : view.count]:
            index = listing.index(uid)
            if index is not None and listing.modseqs[index] not in own:
                uids.append(uid)
        if uids:
            await send_unasked(self._session, uids, self._items)

    async def tell(self) -> None:
        """Tell what happened; when that cannot be known any more, nothing is told from now on."""
        if not self.has_news:
            return
        session = self._session
        try:
            news, told = await self._read()
        except CannotCalculateChanges:
            session.untagged(b"OK [NOTIFICATIONOVERFLOW] Too much happened")
            session.listen(None, _NOTHING)
            return
        if news.names or self._concerns(news):
            places = await access.visible(session.mail, session.user)
            if news.names:
                await self._tell_names(news, places)
            await self._tell_places(news, places)
        self._tell_server_metadata(news)
        for account, modseq in told.items():
            heard = self._accounts.get(account)
            if heard is not None:
                heard.told = modseq
                heard.subscription.own = {own for own in heard.subscription.own if own > modseq}

    async def _read(self) -> tuple[News, dict[AccountId, Modseq]]:
        """Read the change logs; return what they say and up to where they were read."""
        news = News()
        told: dict[AccountId, Modseq] = {}
        for account, heard in self._accounts.items():
            newest = heard.subscription.modseq
            if newest <= heard.told:
                continue
            entries = await changes.since(self._session.mail, account, heard.told, limit=None)
            for entry in entries:
                own = entry.modseq in heard.subscription.own
                news.add(entry, own=own, of_user=account == self._session.account)
                newest = max(newest, entry.modseq)
            told[account] = newest
        return news, told

    def _concerns(self, news: News) -> bool:
        """Whether what happened may interest the client, as far as can be told without a query."""
        selected = self._session.selected
        elsewhere = news.messages.keys() - ({selected.mailbox_id} if selected else set())
        watched = NONE
        for group in self._groups:
            watched |= group.events
        return bool(
            (elsewhere and watched & MESSAGE_EVENTS)
            or (news.metadata and Event.MAILBOX_METADATA_CHANGE in watched)
        )

    def _events_of(self, place: Place | Known) -> Event:
        """Return what the client wants to hear of a mailbox."""
        events = NONE
        for group in self._groups:
            if group.mailboxes.matches(place, self._session.account):
                events |= group.events
        return events

    def _is_selected(self, place: Place) -> bool:
        selected = self._session.selected
        return selected is not None and selected.mailbox_id == place.mailbox.id

    # messages and annotations ----------------------------------------------------------------

    async def _tell_places(self, news: News, places: Iterable[Place]) -> None:
        session = self._session
        for place in places:
            happened = news.messages.get(place.mailbox.id, NONE)
            names = news.metadata.get(place.mailbox.id, {})
            if Right.READ not in place.rights or not (happened or names):
                continue
            events = self._events_of(place)
            if events & happened & MESSAGE_EVENTS and not self._is_selected(place):
                self._send_status(place, self._numbers(place, events, events & happened))
            if names and Event.MAILBOX_METADATA_CHANGE in events:
                session.send(metadata_names(session.mailbox_name(place.path), names))
            await session.relieve()
            await asyncio.sleep(0)

    def _numbers(self, place: Place, events: Event, happened: Event) -> list[bytes]:
        """Return what a STATUS response tells (§5.1, §5.2, §5.3)."""
        items = [b"UIDVALIDITY %d" % place.mailbox.uidvalidity]
        if happened & ARRIVALS:
            items += [_messages(place), _uidnext(place)]
        if Event.FLAG_CHANGE in events:
            items.append(b"UNSEEN %d" % place.mailbox.unseen)
        if self._session.condstore:
            items.append(_highest(place))
        return items

    def _send_status(self, place: Place, items: list[bytes]) -> None:
        session = self._session
        session.send(responses.status(session.mailbox_name(place.path), items))

    def _tell_server_metadata(self, news: News) -> None:
        session = self._session
        names = news.metadata.get(metadata.OF_ACCOUNT, {})
        if names and any(Event.SERVER_METADATA_CHANGE in group.events for group in self._groups):
            session.send(metadata_names(b'""', names))

    # names -----------------------------------------------------------------------------------

    async def _follow(self, accounts: Iterable[AccountId]) -> None:
        """Listen to these accounts and no others."""
        mail, wanted = self._session.mail, set(accounts)
        for account in self._accounts.keys() - wanted:
            mail.events.unsubscribe(self._accounts.pop(account).subscription)
        for account in wanted - self._accounts.keys():
            subscription = mail.events.subscribe(account)
            subscription.wake = self._session.channel.wake
            subscription.maker = asyncio.current_task()
            try:
                told = await changes.state(mail, account)
            except BaseException:
                mail.events.unsubscribe(subscription)
                raise
            self._accounts[account] = Heard(subscription, told)

    async def _take(self, places: Iterable[Place]) -> None:
        """Know these mailboxes, and listen to the accounts whose they are."""
        known = {place.mailbox.id: Known.of(place) for place in places}
        accounts = {each.account_id for each in known.values()}
        await self._follow({self._session.account, *accounts})
        self._known = known  # last, for without the store all this is done again later

    async def _tell_names(self, news: News, places: list[Place]) -> None:
        """Tell which names came, went and changed, and which are subscribed (§5.4, §5.5)."""
        before = self._known
        await self._take(places)
        now = self._known
        by_path = {known.path: known for known in now.values()}
        shown: dict[str, str | None] = {}  # by path, what the mailbox was called before
        for mailbox in (before.keys() | now.keys()) - (news.by_self - news.by_others):
            old, new = before.get(mailbox), now.get(mailbox)
            if old is not None and new is not None:
                self._compare(old, new, shown)
                continue
            if old is not None:
                self._affect(old, by_path, shown)
            if new is not None:
                self._affect(new, by_path, shown)
                # its UIDVALIDITY is another than that name had, if it was there before (§5.1)
                news.messages[mailbox] = news.messages.get(mailbox, NONE) | Event.FLAG_CHANGE
        parents = set(map(_above, by_path))
        for path, old_path in sorted(shown.items()):
            self._send_name(path, by_path.get(path), old_path, has_children=path in parents)

    def _affect(
        self, known: Known, by_path: Mapping[str, Known], shown: dict[str, str | None]
    ) -> None:
        """Show a mailbox that came or went, and the one above it."""
        for each in (known, by_path.get(_above(known.path))):
            if each is not None and Event.MAILBOX_NAME in self._events_of(each):
                shown.setdefault(each.path, None)

    def _compare(self, old: Known, new: Known, shown: dict[str, str | None]) -> None:
        """Show a mailbox that has another name itself, or was subscribed or not."""
        if old == new:
            return
        events = self._events_of(old) | self._events_of(new)
        if (old.parent, old.name) != (new.parent, new.name):
            if Event.MAILBOX_NAME in events:
                shown[new.path] = old.path
        elif old.subscribed != new.subscribed and Event.SUBSCRIPTION_CHANGE in events:
            shown.setdefault(new.path, None)

    def _send_name(
        self, path: str, known: Known | None, old_path: str | None, *, has_children: bool
    ) -> None:
        session = self._session
        if known is None:
            attributes = ["\\NonExistent"]
        else:
            attributes = responses.mailbox_attributes(known.role, has_children=has_children)
            if known.subscribed:
                attributes.append("\\Subscribed")
        old_name = None if old_path is None else session.mailbox_name(old_path)
        name = session.mailbox_name(path)
        session.send(responses.list_line(name, attributes, old_name=old_name))


def _above(path: str) -> str:
    return path.rpartition(responses.DELIMITER)[0]


def _messages(place: Place) -> bytes:
    return b"MESSAGES %d" % place.mailbox.total


def _uidnext(place: Place) -> bytes:
    return b"UIDNEXT %d" % place.mailbox.uidnext


def _highest(place: Place) -> bytes:
    return b"HIGHESTMODSEQ %d" % place.mailbox.modseq
