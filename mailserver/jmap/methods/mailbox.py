"""Mailbox/get and Mailbox/query (RFC 8621 §2)."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mailserver.jmap.methods.get import Get, StandardQuery, got, page_limit, wanted
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.errors import MethodError, invalid_arguments
from mailserver.jmap.protocol.filters import checked_sort, parse_tree, unsupported_filter
from mailserver.jmap.protocol.ids import mailbox_text
from mailserver.jmap.protocol.properties import WrongType, boolean, nullable, optional, text
from mailserver.jmap.session import NO_MESSAGES, Session
from mailserver.mail import mailboxes
from mailserver.mail.search import ThreadCount
from mailserver.model import IdKind, Mailbox, MailboxId, Right, Role, id_value

COUNTS = {"totalEmails": 0, "unreadEmails": 1, "totalThreads": 2, "unreadThreads": 3}
Counts = Mapping[Any, ThreadCount | tuple[int, ...]]
NOTHING_IN_IT: Counts = {}
# property -> the rights that it needs, all of them (RFC 8621 §2)
_RIGHTS = {
    "mayReadItems": Right.LOOKUP | Right.READ,
    "mayAddItems": Right.INSERT,
    "mayRemoveItems": Right.DELETE | Right.EXPUNGE,
    "maySetSeen": Right.SEEN,
    "maySetKeywords": Right.WRITE,
    "mayCreateChild": Right.CREATE,
    "mayRename": Right.DELETE_MAILBOX,
    "mayDelete": Right.DELETE_MAILBOX,
    "maySubmit": Right.POST,
}


def _my_rights(mailbox: Mailbox) -> dict[str, bool]:
    # the inbox can be neither renamed nor deleted, whatever the rights
    fixed = ("mayRename", "mayDelete") if mailbox.role is Role.INBOX else ()
    return {
        name: needs in mailbox.owner_rights and name not in fixed for name, needs in _RIGHTS.items()
    }


_SHOWN: dict[str, Callable[[Mailbox], object]] = {
    "id": lambda mailbox: mailbox_text(mailbox.id),
    "name": lambda mailbox: "Inbox" if mailbox.role is Role.INBOX else mailbox.name,
    "parentId": lambda mailbox: _parent(mailbox),
    "role": lambda mailbox: mailbox.role.value if mailbox.role else None,
    "sortOrder": lambda mailbox: mailbox.sort_order,
    "myRights": _my_rights,
    "isSubscribed": lambda mailbox: mailbox.subscribed,
}
PROPERTIES = (*_SHOWN, *COUNTS)


def _parent(mailbox: Mailbox) -> str | None:
    return None if mailbox.parent_id is None else mailbox_text(mailbox.parent_id)


def record(
    mailbox: Mailbox, counts: Counts, names: Collection[str] = PROPERTIES
) -> dict[str, object]:
    """Show a mailbox as its user sees it; `counts` are those of all that have messages."""
    values: dict[str, object] = {
        name: show(mailbox) for name, show in _SHOWN.items() if name in names
    }
    numbers = counts.get(mailbox.id, NO_MESSAGES)
    values.update((name, numbers[at]) for name, at in COUNTS.items() if name in names)
    return values


async def visible_mailboxes(session: Session) -> list[Mailbox]:
    """Return the mailboxes of the account as its user sees them, parents before children.

    Rights and subscription are those of the user, not of the owner; where the mailbox above is not
    visible, there is none.
    """
    found = await mailboxes.list_all(session.mail, session.account)
    share = session.view.share
    if share is None:
        return found
    return [seen(session, each) for each in found if each.id in share.rights]


def seen(session: Session, mailbox: Mailbox) -> Mailbox:
    """Return a visible mailbox as the user of the account sees it."""
    share = session.view.share
    if share is None:
        return mailbox
    return replace(
        mailbox,
        parent_id=mailbox.parent_id if mailbox.parent_id in share.rights else None,
        subscribed=mailbox.id in share.subscribed,
        owner_rights=share.rights[mailbox.id],
    )


async def get(session: Session, asked: Get) -> dict[str, object]:
    """Return mailboxes with their counts (RFC 8621 §2.1)."""
    shown = properties.check_properties(asked.properties, PROPERTIES)
    ids = None if asked.ids is None else wanted(session, IdKind.MAILBOX, asked.ids)
    modseq = await session.read_modseq()
    counts = NOTHING_IN_IT
    if shown & COUNTS.keys():
        counts = await session.counts.of(session.mail, session.view, modseq)
    found: dict[int, object] = {}
    for mailbox in await visible_mailboxes(session):
        if ids is not None and mailbox.id not in ids.values():
            continue
        found[mailbox.id] = record(mailbox, counts, shown)
    return await got(session, ids, found)


# Mailbox/query -----------------------------------------------------------------------------------

Matches = Callable[[Mailbox], bool]


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
    return lambda mailbox: name in str(_SHOWN["name"](mailbox)).casefold()


def _by_role(value: object) -> Matches:
    role = nullable(text)(value)
    return lambda mailbox: (mailbox.role.value if mailbox.role else None) == role


def _by_any_role(value: object) -> Matches:
    has = boolean(value)
    return lambda mailbox: (mailbox.role is not None) == has


def _by_subscription(value: object) -> Matches:
    subscribed = boolean(value)
    return lambda mailbox: mailbox.subscribed == subscribed


_CONDITIONS: dict[str, Callable[[object], Matches]] = {
    "parentId": _by_parent,
    "name": _by_name,
    "role": _by_role,
    "hasAnyRole": _by_any_role,
    "isSubscribed": _by_subscription,
}


def _condition(condition: dict[str, object]) -> Matches:
    tests = []
    for name, value in condition.items():
        if name not in _CONDITIONS:
            raise unsupported_filter(f"there is no filter {name[:50]!r}")
        try:
            tests.append(_CONDITIONS[name](value))
        except WrongType as error:
            raise invalid_arguments(f"filter {name} must be {error}") from None
    return _combine("AND", tuple(tests))


def _combine(operator: str, tests: tuple[Matches, ...]) -> Matches:
    if operator == "AND":
        return lambda mailbox: all(test(mailbox) for test in tests)
    if operator == "OR":
        return lambda mailbox: any(test(mailbox) for test in tests)
    return lambda mailbox: not any(test(mailbox) for test in tests)


_KEYS: dict[str, Callable[[Mailbox], Any]] = {
    "sortOrder": lambda mailbox: mailbox.sort_order,
    "name": lambda mailbox: str(_SHOWN["name"](mailbox)).casefold(),
    "parentId": lambda mailbox: mailbox.parent_id or 0,
}


async def query(session: Session, asked: Query) -> dict[str, object]:
    """Return mailboxes that match, in order (RFC 8621 §2.3)."""
    test = _combine("AND", ())
    if asked.filter is not None:
        test = parse_tree(asked.filter, _condition, _combine)
    comparators = checked_sort(asked.sort, tuple(_KEYS))
    state = await session.state()
    everything = await visible_mailboxes(session)
    result = sorted(everything, key=lambda mailbox: (mailbox.sort_order, mailbox.path))
    for comparator in reversed(comparators):
        descending = comparator.get("isAscending", True) is False
        result.sort(key=_KEYS[str(comparator["property"])], reverse=descending)
    if asked.sort_as_tree:
        result = _as_tree(result)
    matching = {mailbox.id for mailbox in result if test(mailbox)}
    if asked.filter_as_tree:
        matching = _under_matching(matching, everything)
    ids = [mailbox_text(mailbox.id) for mailbox in result if mailbox.id in matching]
    return _window(session, asked, state, ids)


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


def _under_matching(matching: set[MailboxId], everything: list[Mailbox]) -> set[MailboxId]:
    """Keep a mailbox only where all mailboxes above it are in the result too (RFC 8621 §2.3)."""
    kept: set[MailboxId] = set()
    for mailbox in everything:  # parents come before children
        above = mailbox.parent_id
        if mailbox.id in matching and (above is None or above in kept):
            kept.add(mailbox.id)
    return kept


def _window(session: Session, asked: Query, state: str, ids: list[str]) -> dict[str, object]:
    """Cut the wanted stretch out of the whole result (RFC 8620 §5.5)."""
    limit, reported = page_limit(session, asked.limit)
    start = asked.position if asked.position >= 0 else max(0, len(ids) + asked.position)
    if asked.anchor is not None:
        if asked.anchor not in ids:
            raise MethodError("anchorNotFound")
        start = max(0, ids.index(asked.anchor) + asked.anchor_offset)
    answer: dict[str, object] = {
        "accountId": session.account_id,
        "queryState": state,
        "canCalculateChanges": False,
        "position": start,
        "ids": ids[start : start + limit],
        **reported,
    }
    if asked.calculate_total:
        answer["total"] = len(ids)
    return answer
