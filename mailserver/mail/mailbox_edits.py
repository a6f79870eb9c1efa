"""Several changes of mailboxes worked out together and written in one transaction.

What is asked for in one call may swap names or move a child out of a mailbox that goes: the state
between two steps need not be one that could be stored, the last one must be (RFC 8620 §5.3).
"""

import unicodedata
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from mailserver.errors import AlreadyExists, Forbidden, InUse, Invalid, NotFound, OverQuota
from mailserver.mail.context import Change
from mailserver.mail.mailboxes import (
    INBOX,
    MAX_DEPTH,
    MAX_MAILBOXES,
    MAX_NAME,
    OTHERS,
    SEPARATOR,
    breaks_lines,
    empty,
)
from mailserver.model import AccountId, ChangeKind, Mailbox, MailboxId, Modseq, Right, Role
from mailserver.storage import acl, mailboxes, subscriptions
from mailserver.storage.mailboxes import Altered

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

Rights = Callable[[Mailbox], Right | None]  # None: the mailbox is not there for who asks


class WrongProperty(Invalid):
    """A property of a mailbox has a value that it cannot have."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}")
        self.name = name


class NameTaken(AlreadyExists):
    """A mailbox of that name is there already, below the same parent."""

    def __init__(self, mailbox: MailboxId | None) -> None:
        super().__init__("mailbox")
        self.mailbox = mailbox  # None: one that who asks does not see


class HasEmail(InUse):
    """The mailbox has messages."""


class HasChild(InUse):
    """The mailbox has children."""


class Edits:
    """The mailboxes of an account as they are going to be."""

    def __init__(
        self,
        mail: "Mail",
        change: Change,
        found: list[Mailbox],
        rights: Rights,
        *,
        top_level: bool,
    ) -> None:
        self._mail = mail
        self._change = change
        self._rights = rights
        self._top_level = top_level
        self._before = {each.id: each for each in found}
        self.after = dict(self._before)
        self.strict = False

    @property
    def modseq(self) -> Modseq:
        """The modseq that the change will have, if there is one."""
        return self._change.modseq

    @property
    def changed(self) -> bool:
        """Whether anything is to be written."""
        return self._before != self.after

    def restart(self, *, strict: bool) -> None:
        """Forget what was asked for; `strict` refuses every step to a state that is none."""
        self.after = dict(self._before)
        self.strict = strict

    def find(self, mailbox: MailboxId) -> Mailbox:
        """Return a mailbox that is visible; NotFound."""
        found = self.after.get(mailbox)
        if found is None or self._rights(found) is None:
            raise NotFound("mailbox")
        return found

    # Steps -------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        parent: MailboxId | None,
        role: Role | None,
        sort_order: int,
        subscribed: bool,
    ) -> Mailbox:
        """Add a mailbox."""
        self._demand_parent(parent)
        new = Mailbox(
            id=MailboxId(self._mail.ids.next()), parent_id=parent, name=_checked(name), path="",
            role=role, subscribed=subscribed, sort_order=sort_order, uidvalidity=0, uidnext=1,
            recent_uid=1, modseq=self.modseq, total=0, unseen=0, deleted=0, size=0,
        )  # fmt: skip
        self._put(new)
        return new

    def alter(
        self,
        mailbox: MailboxId,
        *,
        name: str | None = None,
        parent: tuple[MailboxId | None] | None = None,  # one value, which may be none
        role: tuple[Role | None] | None = None,
        sort_order: int | None = None,
        subscribed: bool | None = None,
    ) -> Mailbox:
        """Change what is given of a mailbox."""
        old = new = self.find(mailbox)
        if name is not None:
            new = replace(new, name=_checked(name))
        if parent is not None:
            new = replace(new, parent_id=parent[0])
        if role is not None:
            new = replace(new, role=role[0])
        if sort_order is not None:
            new = replace(new, sort_order=sort_order)
        if subscribed is not None:
            new = replace(new, subscribed=subscribed)
        moved = (old.name, old.parent_id) != (new.name, new.parent_id)
        if old.role is Role.INBOX and (moved or new.role is not old.role):
            raise Forbidden("INBOX stays what it is")
        if moved or (old.role, old.sort_order) != (new.role, new.sort_order):
            self._demand(old, Right.DELETE_MAILBOX)
        if old.parent_id != new.parent_id:
            self._demand_parent(new.parent_id)
        self._put(new)
        return new

    def destroy(self, mailbox: MailboxId, *, with_emails: bool) -> None:
        """Take a mailbox away; what only \\Deleted messages are in counts as empty."""
        old = self.find(mailbox)
        if old.role is Role.INBOX:
            raise Forbidden("INBOX cannot be destroyed")
        self._demand(old, Right.DELETE_MAILBOX)
        if self.strict and any(each.parent_id == mailbox for each in self.after.values()):
            raise HasChild("mailbox")
        if old.total > old.deleted:
            if not with_emails:
                raise HasEmail("mailbox")
            self._demand(old, Right.EXPUNGE)
        del self.after[mailbox]

    def _demand(self, mailbox: Mailbox, right: Right) -> None:
        if mailbox.id not in self._before:
            return  # made in the same call
        allowed = self._rights(mailbox)
        if allowed is None or right not in allowed:
            raise Forbidden("mailbox")

    def _demand_parent(self, parent: MailboxId | None) -> None:
        if parent is None:
            if not self._top_level:
                raise Forbidden("account")
            return
        found = self.after.get(parent)
        if found is None or self._rights(found) is None:
            raise WrongProperty("parentId", "names no mailbox")
        self._demand(found, Right.CREATE)

    # What must be so -----------------------------------------------------------------------------

    def _put(self, new: Mailbox) -> None:
        if self.strict:
            self._check(new)
        self.after[new.id] = new

    def _check(self, new: Mailbox) -> None:
        old = self.after.get(new.id)
        if old is None and len(self.after) >= MAX_MAILBOXES:
            raise OverQuota("mailboxes")
        if old is not None and _place(old) == _place(new):
            return
        for other in self.after.values():
            if other.id == new.id:
                continue
            if other.parent_id == new.parent_id and other.name == new.name:
                raise NameTaken(None if self._rights(other) is None else other.id)
            if new.role is not None and other.role is new.role:
                raise WrongProperty("role", "is that of another mailbox")
        if new.parent_id is None and new.name == OTHERS:
            raise WrongProperty("name", "is reserved")
        chain = self._chain({**self.after, new.id: new}, new.id)
        if chain is None:
            raise WrongProperty("parentId", "is a mailbox below this one")
        if len(chain) + self._levels_below(new.id) > MAX_DEPTH:
            raise WrongProperty("parentId", "is too deep")

    def _chain(self, boxes: dict[MailboxId, Mailbox], mailbox: MailboxId) -> list[str] | None:
        """Return the names from a mailbox up to the root; None when there is no way there."""
        names: list[str] = []
        at: MailboxId | None = mailbox
        while at is not None:
            if at not in boxes or len(names) > len(boxes):
                return None
            names.append(boxes[at].name)
            at = boxes[at].parent_id
        return names

    def _levels_below(self, mailbox: MailboxId) -> int:
        """Return how many levels are below a mailbox of a state that can be stored."""
        children: dict[MailboxId | None, list[MailboxId]] = {}
        for each in self.after.values():
            children.setdefault(each.parent_id, []).append(each.id)
        levels, found = 0, children.get(mailbox)
        while found:
            levels += 1
            found = [child for each in found for child in children.get(each, ())]
        return levels

    def depth(self, mailbox: MailboxId) -> int:
        """Return on which level a mailbox is; 0 for one that is not there."""
        return len(self._chain(self.after, mailbox) or ())

    def is_valid(self) -> bool:
        """Tell whether this is a state that can be stored."""
        boxes = list(self.after.values())
        if len(boxes) > max(MAX_MAILBOXES, len(self._before)):
            return False
        if len({(each.parent_id, each.name) for each in boxes}) < len(boxes):
            return False
        roles = [each.role for each in boxes if each.role is not None]
        if len(set(roles)) < len(roles):
            return False
        for each in boxes:
            chain = self._chain(self.after, each.id)
            if chain is None or len(chain) > MAX_DEPTH:
                return False
            if each.parent_id is None and each.name == OTHERS:
                return False
        return True

    # Writing -------------------------------------------------------------------------------------

    async def write(self) -> None:
        """Write what is other than it was; rows that change names make way for each other first."""
        tx, account, modseq = self._change.tx, self._change.account, self._change.modseq
        gone = [each for each in self._before if each not in self.after]
        new = [each for each in self.after if each not in self._before]
        kept = [each for each in self.after if each in self._before]
        altered = [each for each in kept if self.after[each] != self._before[each]]
        await self._resume([*new, *altered])
        if len(altered) > 1 or (altered and (gone or new)):
            aside = [_aside(self.after[each]) for each in altered]
            await mailboxes.alter(tx, account, aside, modseq)
        for each in sorted(gone, key=lambda each: -len(self._path(self._before, each))):
            await self._delete(self._before[each])
        for each in sorted(new, key=lambda each: len(self._path(self.after, each))):
            made = self.after[each]
            await mailboxes.insert(
                tx, account, made.id, made.parent_id, made.name, made.role, modseq,
                subscribed=made.subscribed,
            )  # fmt: skip
            if made.parent_id is not None:
                await acl.inherit(tx, account, made.parent_id, made.id)  # RFC 4314 §4
            self._change.report(ChangeKind.MAILBOX_CREATED, made.id)
        if new or altered:
            rows = [_altered(self.after[each]) for each in (*new, *altered)]
            await mailboxes.alter(tx, account, rows, modseq)
        for each in altered:
            self._change.report(ChangeKind.MAILBOX_UPDATED, each)

    def _path(self, boxes: dict[MailboxId, Mailbox], mailbox: MailboxId) -> list[str]:
        return list(reversed(self._chain(boxes, mailbox) or []))

    async def _resume(self, named: list[MailboxId]) -> None:
        """Subscribe mailboxes that were given names which stayed subscribed."""
        paths = {
            SEPARATOR.join(self._path(self.after, each)): each
            for each in named
            if each not in self._before
            or (self.after[each].name, self.after[each].parent_id)
            != (self._before[each].name, self._before[each].parent_id)
        }
        if paths:
            tx, account = self._change.tx, self._change.account
            for path in await subscriptions.take(tx, account, list(paths)):
                each = paths[path]
                self.after[each] = replace(self.after[each], subscribed=True)

    async def _delete(self, mailbox: Mailbox) -> None:
        tx, account = self._change.tx, self._change.account
        await empty(self._change, mailbox.id)
        await mailboxes.delete(tx, account, mailbox.id)
        if mailbox.subscribed:
            await subscriptions.keep(tx, account, mailbox.path)
        self._change.report(ChangeKind.MAILBOX_DESTROYED, mailbox.id)


@asynccontextmanager
async def editing(
    mail: "Mail", account: AccountId, rights: Rights, *, top_level: bool = True
) -> AsyncIterator[Edits]:
    """Lock an account, let its mailboxes be changed, and write what was changed at the end.

    `top_level` says whether mailboxes without a parent may be made.
    """
    async with mail.change(account) as change:
        found = await mailboxes.of_account(change.tx, account)
        edits = Edits(mail, change, found, rights, top_level=top_level)
        yield edits
        if edits.changed:
            await edits.write()


def _place(mailbox: Mailbox) -> tuple[str, MailboxId | None, Role | None]:
    return mailbox.name, mailbox.parent_id, mailbox.role


def _checked(name: str) -> str:
    name = unicodedata.normalize("NFC", name)  # RFC 8621 §2: Net-Unicode, so that names are equal
    if not name or len(name.encode("utf-8", "replace")) > MAX_NAME:
        raise WrongProperty("name", "is empty or too long")
    if SEPARATOR in name or (not name.isprintable() and any(map(breaks_lines, name))):
        raise WrongProperty("name", "has a character that no name may have")
    return INBOX if name.isascii() and name.upper() == INBOX else name


def _altered(mailbox: Mailbox) -> Altered:
    return Altered(
        mailbox.id,
        mailbox.parent_id,
        mailbox.name,
        mailbox.role.value if mailbox.role else None,
        mailbox.subscribed,
        mailbox.sort_order,
    )


def _aside(mailbox: Mailbox) -> Altered:
    """Return a mailbox under a name that no other can have, for the time of a transaction."""
    name = f"\x01{mailbox.id}"
    return _altered(mailbox)._replace(parent_id=None, name=name, role=None)
