"""Mailbox/set (RFC 8621 §2.5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mailserver import errors
from mailserver.jmap.methods import mailbox as shown
from mailserver.jmap.methods.set import (
    Json,
    Records,
    Set,
    carry_out,
    check_size,
    check_state,
    set_error,
)
from mailserver.jmap.protocol.errors import SetError, invalid_properties
from mailserver.jmap.protocol.ids import mailbox_text
from mailserver.jmap.protocol.properties import (
    WrongType,
    boolean,
    mapping,
    nullable,
    optional,
    text,
    unsigned,
)
from mailserver.jmap.protocol.records import Property, server_set
from mailserver.jmap.session import Session
from mailserver.mail import access, mailbox_edits
from mailserver.mail.mailbox_edits import Edits, HasChild, HasEmail, NameTaken, WrongProperty
from mailserver.model import NO_RIGHTS, IdKind, Mailbox, MailboxId, Role, id_value

NOBODY = MailboxId(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMailbox(Set):
    """The arguments of Mailbox/set."""

    remove_emails: bool = optional("onDestroyRemoveEmails", boolean, False)


def _role(value: object) -> Role:
    try:
        return Role(text(value))
    except ValueError:
        raise WrongType("a role that this server knows") from None


def _sort_order(value: object) -> int:
    number = unsigned(value)
    if number >= 1 << 31:
        raise WrongType("less than 2^31")
    return number


def _mailbox(value: object) -> MailboxId:
    number = id_value(IdKind.MAILBOX, text(value))
    return NOBODY if number is None else MailboxId(number)


TABLE = {
    "id": server_set(text),
    "name": Property(text),
    "parentId": Property(nullable(_mailbox), None, refers=True),
    "role": Property(nullable(_role), None),
    "sortOrder": Property(_sort_order, 0),
    "isSubscribed": Property(boolean, True),
    "myRights": server_set(mapping),
    **{name: server_set(unsigned) for name in shown.COUNTS},
}


async def set_mailboxes(session: Session, asked: SetMailbox) -> Json:
    """Create, change and destroy mailboxes, in one transaction (RFC 8621 §2.5)."""
    check_size(session, asked)
    created_ids = session.created_ids
    view = session.view
    async with mailbox_edits.editing(
        session.mail, view.id, view.rights, top_level=view.share is None
    ) as edits:
        session.modseq = edits.modseq - 1
        old_state = await session.state()
        check_state(asked.if_in_state, old_state)
        for strict in (False, True):
            edits.restart(strict=strict)
            session.created_ids = dict(created_ids)
            kind = MailboxRecords(session, edits, asked)
            outcome = await carry_out(session, asked, kind)
            if edits.is_valid():
                break
    if view.share is not None:
        if kind.subscriptions:
            await access.subscribe_elsewhere(
                session.mail, session.principal, view.id, kind.subscriptions
            )
        await session.renew_view()
    return {
        "accountId": session.account_id,
        "oldState": old_state,
        "newState": await session.advanced({edits.modseq} if edits.changed else ()),
        **outcome.shown(),
    }


class MailboxRecords(Records):
    """Mailboxes while a /set works on them."""

    table = TABLE

    def __init__(self, session: Session, edits: Edits, asked: SetMailbox) -> None:
        super().__init__(session)
        self._edits = edits
        self._remove_emails = asked.remove_emails
        self._shared = session.view.share is not None
        self.subscriptions: dict[MailboxId, bool] = {}  # to mailboxes of others
        if self._shared:  # RFC 8621 §2: then it should default to false
            self.table = TABLE | {"isSubscribed": Property(boolean, False)}
        patches = (asked.update or {}).values()
        self._shows_counts = any(name in shown.COUNTS for patch in patches for name in patch)

    async def create(self, new: Mapping[str, Json]) -> Mapping[str, Json | SetError]:
        """Add mailboxes."""
        results: dict[str, Json | SetError] = {}
        for each, values in new.items():
            try:
                made = self._edits.create(
                    values["name"],
                    values["parentId"],
                    values["role"],
                    values["sortOrder"],
                    self._shared or values["isSubscribed"],  # by the owner
                )
            except errors.MailError as error:
                results[each] = refusal(error)
            else:
                if self._shared and values["isSubscribed"]:
                    self.subscriptions[made.id] = True
                results[each] = shown.record(self._seen(made), shown.NOTHING_IN_IT)
        return results

    def _seen(self, made: Mailbox) -> Mailbox:
        """Return a new mailbox as its maker sees it: it inherits the rights on its parent."""
        if not self._shared or made.parent_id is None:
            return made
        above = self._edits.after[made.parent_id]
        return replace(
            made,
            owner_rights=self.session.view.rights(above) or NO_RIGHTS,
            subscribed=made.id in self.subscriptions,
        )

    async def current(self, ids: Sequence[str]) -> Mapping[str, Json]:
        """Return mailboxes as /get shows them."""
        counts = shown.NOTHING_IN_IT
        if self._shows_counts:
            counts = await self.session.counts()
        found: dict[str, Json] = {}
        for each in ids:
            try:
                mailbox = self._edits.find(_mailbox(each))
            except errors.NotFound:
                continue
            found[each] = shown.record(shown.seen(self.session, mailbox), counts)
        return found

    async def change(self, changes: Mapping[str, Json]) -> Mapping[str, Json | SetError | None]:
        """Rename, move, and so on."""
        results: dict[str, Json | SetError | None] = {}
        for each, values in changes.items():
            if self._shared and "isSubscribed" in values:
                self.subscriptions[_mailbox(each)] = values.pop("isSubscribed")
            try:
                altered = self._edits.alter(_mailbox(each), **_arguments(values))
            except errors.MailError as error:
                self.subscriptions.pop(_mailbox(each), None)
                results[each] = refusal(error)
            else:
                name = values.get("name", altered.name)
                results[each] = None if altered.name == name else {"name": altered.name}
        return results

    async def destroy(self, ids: Sequence[str]) -> Mapping[str, SetError | None]:
        """Take mailboxes away, children before their parents."""
        results: dict[str, SetError | None] = {}
        for each in sorted(ids, key=self._depth, reverse=True):
            try:
                self._edits.destroy(_mailbox(each), with_emails=self._remove_emails)
            except errors.MailError as error:
                results[each] = refusal(error)
            else:
                results[each] = None
        return results

    def _depth(self, text: str) -> int:
        return self._edits.depth(_mailbox(text))


def _arguments(values: Json) -> dict[str, Any]:
    names = {"name": "name", "sortOrder": "sort_order", "isSubscribed": "subscribed"}
    found = {to: values[name] for name, to in names.items() if name in values}
    for name, to in (("parentId", "parent"), ("role", "role")):
        if name in values:
            found[to] = (values[name],)
    return found


def refusal(error: errors.MailError) -> SetError:
    """Return what a client is told of a change that cannot be made."""
    match error:
        case WrongProperty():
            return invalid_properties([error.name], str(error))
        case NameTaken():
            if error.mailbox is None:
                return SetError("alreadyExists")
            return SetError("alreadyExists", existingId=mailbox_text(error.mailbox))
        case HasEmail():
            return SetError("mailboxHasEmail")
        case HasChild():
            return SetError("mailboxHasChild")
    return set_error(error)
