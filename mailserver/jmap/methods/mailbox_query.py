"""Mailbox/query and Mailbox/queryChanges (RFC 8621 §2.3, §2.4)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mailserver.errors import CannotCalculateChanges
from mailserver.jmap.methods.get import StandardQuery, window
from mailserver.jmap.methods.mailbox import shown_name, visible_mailboxes
from mailserver.jmap.methods.query_changes import Difference, StandardQueryChanges, response
from mailserver.jmap.protocol.filters import (
    checked_sort,
    collation_of,
)
from mailserver.jmap.protocol.ids import mailbox_text
from mailserver.jmap.protocol.object_filters import Test, parse_test
from mailserver.jmap.protocol.properties import Reader, boolean, nullable, optional, text
from mailserver.jmap.session import Session
from mailserver.mail import changes
from mailserver.mail.casemap import COLLATIONS
from mailserver.model import (
    MAILBOX_KINDS,
    ChangeEntry,
    ChangeKind,
    IdKind,
    Mailbox,
    MailboxId,
    id_value,
)

ATTEMPTS = 5  # to read mailboxes and the log while mailboxes change

Matches = Test[Mailbox]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(StandardQuery):
    """The arguments of Mailbox/query (RFC 8621 §2.3)."""

    sort_as_tree: bool = optional("sortAsTree", boolean, False)
    filter_as_tree: bool = optional("filterAsTree", boolean, False)


def _by_parent(value: object) -> Matches:
    parent = nullable(text)(value)
    number = None if parent is None else id_value(IdKind.MAILBOX, parent) or -1
    return lambda mailbox: mailbox.parent_id == number


def _by_name(value: object) -> Matches:
    name = text(value).casefold()
    return lambda mailbox: name in shown_name(mailbox).casefold()


def _by_role(value: object) -> Matches:
    role = nullable(text)(value)
    return lambda mailbox: (mailbox.role.value if mailbox.role else None) == role


def _by_any_role(value: object) -> Matches:
    has = boolean(value)
    return lambda mailbox: (mailbox.role is not None) == has


def _by_subscription(value: object) -> Matches:
    subscribed = boolean(value)
    return lambda mailbox: mailbox.subscribed == subscribed


_CONDITIONS: dict[str, Reader[Matches]] = {
    "parentId": _by_parent,
    "name": _by_name,
    "role": _by_role,
    "hasAnyRole": _by_any_role,
    "isSubscribed": _by_subscription,
}


_KEYS: dict[str, Callable[[Callable[[str], str]], Callable[[Mailbox], Any]]] = {
    "sortOrder": lambda collate: lambda mailbox: mailbox.sort_order,
    "name": lambda collate: lambda mailbox: collate(shown_name(mailbox)),
    "parentId": lambda collate: lambda mailbox: mailbox.parent_id or 0,
}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A filter and an order, read from their JSON."""

    test: Matches
    comparators: Sequence[Mapping[str, object]]
    sort_as_tree: bool
    filter_as_tree: bool

    @classmethod
    def of(cls, asked: "Query | QueryChanges") -> "_Wanted":
        test = parse_test(asked.filter, _CONDITIONS)
        comparators = checked_sort(asked.sort, tuple(_KEYS))
        return cls(test, comparators, asked.sort_as_tree, asked.filter_as_tree)

    def result(self, everything: Sequence[Mailbox]) -> list[MailboxId]:
        """Return the mailboxes that match, in order; parents come before children in `everything`.

        What the order leaves equal is sorted as folders mostly are shown.
        """
        result = sorted(everything, key=lambda mailbox: (mailbox.sort_order, mailbox.path))
        for comparator in reversed(self.comparators):
            descending = comparator.get("isAscending", True) is False
            key = _KEYS[str(comparator["property"])](COLLATIONS[collation_of(comparator)])
            result.sort(key=key, reverse=descending)
        if self.sort_as_tree:
            result = _as_tree(result)
        matching = {mailbox.id for mailbox in result if self.test(mailbox)}
        if self.filter_as_tree:
            matching = _under_matching(matching, everything)
        return [mailbox.id for mailbox in result if mailbox.id in matching]


async def query(session: Session, asked: Query) -> dict[str, object]:
    """Return mailboxes that match, in order (RFC 8621 §2.3)."""
    wanted = _Wanted.of(asked)
    state = await session.state()
    ids = wanted.result(await visible_mailboxes(session))
    texts = [mailbox_text(each) for each in ids]
    return window(session, asked, state, texts, can_calculate_changes=True)


def _as_tree(result: list[Mailbox]) -> list[Mailbox]:
    """Put children behind their parents, siblings in the order given (RFC 8621 §2.3)."""
    children: dict[int | None, list[Mailbox]] = {}
    for mailbox in result:
        children.setdefault(mailbox.parent_id, []).append(mailbox)
    ordered: list[Mailbox] = []
    waiting = list(reversed(children.get(None, [])))
    while waiting:
        mailbox = waiting.pop()
        ordered.append(mailbox)
        waiting.extend(reversed(children.get(mailbox.id, [])))
    return ordered


def _under_matching(matching: set[MailboxId], everything: Sequence[Mailbox]) -> set[MailboxId]:
    """Keep a mailbox only where all mailboxes above it are in the result too (RFC 8621 §2.3)."""
    kept: set[MailboxId] = set()
    for mailbox in everything:  # parents come before children
        above = mailbox.parent_id
        if mailbox.id in matching and (above is None or above in kept):
            kept.add(mailbox.id)
    return kept


# Mailbox/queryChanges ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryChanges(StandardQueryChanges):
    """The arguments of Mailbox/queryChanges; they say what Mailbox/query was asked."""

    sort_as_tree: bool = optional("sortAsTree", boolean, False)
    filter_as_tree: bool = optional("filterAsTree", boolean, False)


async def query_changes(session: Session, asked: QueryChanges) -> dict[str, object]:
    """Return how the result of a query changed since a state (RFC 8621 §2.4).

    Every property that a filter or sort looks at can change: `upToId` counts for nothing.
    """
    wanted, since = _Wanted.of(asked), asked.since(session)
    log = await changes.log(session.mail, session.account, since)
    for _ in range(ATTEMPTS):
        everything = await visible_mailboxes(session)
        before, log = log, await changes.log(session.mail, session.account, since)
        if not _touched(each for each in log.entries if each.modseq > before.modseq):
            break  # so the mailboxes are those of both states
    else:
        raise CannotCalculateChanges("mailboxes change all the time")
    touched = _touched(log.entries)
    if session.view.share is not None:
        touched &= session.view.share.rights.keys()
    touched = _with_descendants(touched, everything)
    made = {each.mailbox_id for each in log.entries if each.kind is ChangeKind.MAILBOX_CREATED}
    ids = wanted.result(everything)
    difference = Difference(
        log.modseq,
        sorted(touched - made),
        [(index, each) for index, each in enumerate(ids) if each in touched],
        len(ids) if asked.calculate_total else None,
    )
    return response(session, asked, difference, mailbox_text)


def _touched(entries: Iterable[ChangeEntry]) -> set[MailboxId]:
    return {entry.mailbox_id for entry in entries if entry.kind in MAILBOX_KINDS}


def _with_descendants(touched: set[MailboxId], everything: Sequence[Mailbox]) -> set[MailboxId]:
    """Add all mailboxes below: their paths, and their places in the tree, changed with it."""
    found = set(touched)
    for mailbox in everything:  # parents come before children
        if mailbox.parent_id in found:
            found.add(mailbox.id)
    return found
