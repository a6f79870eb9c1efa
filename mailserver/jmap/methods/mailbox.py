"""Mailbox/get (RFC 8621 §2)."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from mailserver.jmap.methods.get import Get, got, wanted
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.ids import mailbox_text
from mailserver.jmap.session import NO_MESSAGES, Session
from mailserver.mail import mailboxes
from mailserver.mail.thread_counts import ThreadCount
from mailserver.model import IdKind, Mailbox, Right, Role

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
    "name": lambda mailbox: shown_name(mailbox),
    "parentId": lambda mailbox: _parent(mailbox),
    "role": lambda mailbox: mailbox.role.value if mailbox.role else None,
    "sortOrder": lambda mailbox: mailbox.sort_order,
    "myRights": _my_rights,
    "isSubscribed": lambda mailbox: mailbox.subscribed,
}
PROPERTIES = (*_SHOWN, *COUNTS)


def shown_name(mailbox: Mailbox) -> str:
    """Return the name that clients show; IMAP's INBOX is a word of its protocol."""
    return "Inbox" if mailbox.role is Role.INBOX else mailbox.name


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
    await session.state()  # before the data: it may be older than they are, never newer
    counts = NOTHING_IN_IT
    if shown & COUNTS.keys():
        counts = await session.counts()
    found: dict[int, object] = {}
    for mailbox in await visible_mailboxes(session):
        if ids is not None and mailbox.id not in ids.values():
            continue
        found[mailbox.id] = record(mailbox, counts, shown)
    return await got(session, ids, found)
