"""Emails changed or destroyed wherever they are, many at once, in one transaction.

IMAP works on the messages of a mailbox; here an email is named by its id, and its flags and
mailboxes are what JMAP shows: a mailbox where it has \\Deleted does not count.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from mailserver.errors import Forbidden, Invalid, MailError, NotFound
from mailserver.mail import flags as flag_groups
from mailserver.mail import lessons
from mailserver.mail.context import Change
from mailserver.mail.flags import Restamp
from mailserver.mail.messages import add_rows, remove_rows
from mailserver.model import (
    ALL_RIGHTS,
    DELETED,
    SEEN,
    AccountId,
    EmailId,
    FlagChange,
    Flags,
    Mailbox,
    MailboxId,
    Membership,
    Modseq,
    Right,
)
from mailserver.storage import mailboxes, messages
from mailserver.storage.flags import Group
from mailserver.storage.messages import combined

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

Rights = Callable[[Mailbox], Right | None]  # None: the mailbox is not there for who asks
NO_FLAGS = Flags()
MAX_KEYWORDS = 200  # of one email
REMOVES = Right.DELETE | Right.EXPUNGE


class NoMailbox(Invalid):
    """The email would be in no mailbox, or in one that is not there."""


class Overtaken(MailError):
    """Somebody else changed the account first."""


class TooManyKeywords(Invalid):
    """The email would have more keywords than it may."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to change of an email."""

    flags: Flags | None = None  # instead of those it has
    add: Flags = NO_FLAGS
    remove: Flags = NO_FLAGS
    mailboxes: frozenset[MailboxId] | None = None  # instead of those it is in
    into: frozenset[MailboxId] = frozenset()
    out_of: frozenset[MailboxId] = frozenset()


@dataclass(slots=True)
class Edited:
    """What became of the emails."""

    modseq: Modseq | None = None  # of the change; None when nothing changed
    failed: dict[EmailId, MailError] = field(default_factory=dict)


class _Plan(NamedTuple):
    """What is to be done to one email."""

    flags: Flags
    rows: list[Membership]  # all of them
    shown: frozenset[MailboxId]  # the mailboxes where it is visible
    target: frozenset[MailboxId]  # those where it is to be visible


async def edit(
    mail: "Mail",
    account: AccountId,
    edits: Mapping[EmailId, Edit],
    rights: Rights,
    *,
    at: int | None = None,
) -> Edited:
    """Change flags and mailboxes of emails; each is changed as a whole or not at all.

    Raises Overtaken when the account is not `at` that modseq.
    """
    result = Edited()
    async with mail.change(account) as change:
        _check_at(change, at)
        boxes = await _mailboxes(change, rights)
        found = await _rows(change, list(edits))
        plans: list[_Plan] = []
        for email, wanted in edits.items():
            try:
                plans.append(_plan(found.get(email, []), wanted, boxes))
            except MailError as error:
                result.failed[email] = error
        await _flag(change, plans)
        await _place(mail, change, plans)
        await _teach(change, plans)
        if change.entries:
            result.modseq = change.modseq
    return result


async def destroy(
    mail: "Mail",
    account: AccountId,
    ids: Sequence[EmailId],
    rights: Rights,
    *,
    at: int | None = None,
) -> Edited:
    """Remove emails from all mailboxes that the rights reach; raises Overtaken as `edit` does.

    One that is then in none is gone for good.
    """
    result = Edited()
    async with mail.change(account) as change:
        _check_at(change, at)
        boxes = await _mailboxes(change, rights)
        found = await _rows(change, ids)
        leaving: dict[MailboxId, list[Membership]] = {}
        for email in ids:
            rows = found.get(email, [])
            try:
                _demand_all(_shown(rows, boxes), boxes, REMOVES)
            except MailError as error:
                result.failed[email] = error
                continue
            for row in rows:
                # what somebody else's rights do not reach stays, and they cannot tell
                if REMOVES in boxes.get(row.mailbox_id, Right(0)):
                    leaving.setdefault(row.mailbox_id, []).append(row)
        for mailbox, rows in sorted(leaving.items()):
            await remove_rows(change, mailbox, rows)
        if change.entries:
            result.modseq = change.modseq
    return result


def _check_at(change: Change, at: int | None) -> None:
    if at is not None and change.modseq != at + 1:
        raise Overtaken("account")


async def _mailboxes(change: Change, rights: Rights) -> dict[MailboxId, Right]:
    """Return the rights on the mailboxes that may be read."""
    found: dict[MailboxId, Right] = {}
    for each in await mailboxes.of_account(change.tx, change.account):
        allowed = rights(each)
        if allowed is not None:
            found[each.id] = allowed
    return found


async def _rows(change: Change, ids: Sequence[EmailId]) -> dict[EmailId, list[Membership]]:
    found: dict[EmailId, list[Membership]] = {}
    for row in await messages.memberships(change.tx, change.account, ids):
        found.setdefault(row.email_id, []).append(row)
    return found


# What is to be done ------------------------------------------------------------------------------


def _shown(rows: Sequence[Membership], boxes: Mapping[MailboxId, Right]) -> frozenset[MailboxId]:
    """Return the mailboxes in which an email is visible; NotFound without any."""
    shown = frozenset(
        row.mailbox_id
        for row in rows
        if not row.flags.bits & DELETED and Right.READ in boxes.get(row.mailbox_id, Right(0))
    )
    if not shown:
        raise NotFound("email")
    return shown


def _plan(rows: list[Membership], wanted: Edit, boxes: Mapping[MailboxId, Right]) -> _Plan:
    shown = _shown(rows, boxes)
    target = shown if wanted.mailboxes is None else wanted.mailboxes
    target = (target | wanted.into) - wanted.out_of
    if not target:
        raise NoMailbox("an email is in at least one mailbox")
    if any(each not in boxes for each in target):
        raise NoMailbox("there is no such mailbox")
    _demand_all(target - shown, boxes, Right.INSERT)
    _demand_all(shown - target, boxes, REMOVES)
    old = Flags(rows[0].flags.bits & ~DELETED, rows[0].flags.keywords)
    new = old if wanted.flags is None else _in_known_case(old, wanted.flags)
    new = combined(combined(new, FlagChange.ADD, wanted.add), FlagChange.REMOVE, wanted.remove)
    if new != old:
        if len(new.keywords) > max(MAX_KEYWORDS, len(old.keywords)):
            raise TooManyKeywords("email")
        seen = Right.SEEN if (new.bits ^ old.bits) & SEEN else Right(0)
        other = (new.bits ^ old.bits) & ~SEEN or new.keywords != old.keywords
        _demand_all(shown, boxes, seen | (Right.WRITE if other else Right(0)))
    return _Plan(new, rows, shown, target)


def _demand_all(
    places: frozenset[MailboxId], boxes: Mapping[MailboxId, Right], needed: Right
) -> None:
    if any(needed not in boxes[each] for each in places):
        raise Forbidden("mailbox")


def _in_known_case(old: Flags, new: Flags) -> Flags:
    """Return new flags with the keywords written as IMAP clients wrote them."""
    if not old.keywords or not new.keywords:
        return new
    known = {keyword.lower(): keyword for keyword in old.keywords}
    return Flags(new.bits, tuple(known.get(each.lower(), each) for each in new.keywords))


# Doing it ----------------------------------------------------------------------------------------


async def _flag(change: Change, plans: Sequence[_Plan]) -> None:
    """Write new flags, in all mailboxes; \\Deleted goes where an email is to be visible again."""
    alike: dict[tuple[MailboxId, Flags, Flags], list[Membership]] = {}
    for plan in plans:
        for row in plan.rows:
            deleted = 0 if row.mailbox_id in plan.target else row.flags.bits & DELETED
            new = Flags(plan.flags.bits | deleted, plan.flags.keywords)
            if new != row.flags:
                alike.setdefault((row.mailbox_id, row.flags, new), []).append(row)
    restamps: dict[MailboxId, list[Restamp]] = {}
    for (mailbox, old, new), rows in alike.items():
        rows.sort(key=lambda row: row.uid)
        group = Group(
            mailbox,
            old,
            array("q", [row.uid for row in rows]),
            array("q", [row.email_id for row in rows]),
            array("q", [row.thread_id for row in rows]),
            array("q", [row.modseq for row in rows]),
        )
        restamps.setdefault(mailbox, []).append(Restamp(group, new))
    for mailbox, some in sorted(restamps.items()):
        await flag_groups.write(change, mailbox, some)
        await flag_groups.teach(change, some)


async def _place(mail: "Mail", change: Change, plans: Sequence[_Plan]) -> None:
    """Put emails where they are to be, then take them from where they are not."""
    coming: dict[MailboxId, list[Membership]] = {}
    leaving: dict[MailboxId, list[Membership]] = {}
    for plan in plans:
        present = {row.mailbox_id for row in plan.rows}
        for mailbox in plan.target - present:
            coming.setdefault(mailbox, []).append(replace(plan.rows[0], flags=plan.flags))
        for row in plan.rows:
            if row.mailbox_id in plan.shown - plan.target:
                leaving.setdefault(row.mailbox_id, []).append(replace(row, flags=plan.flags))
    for mailbox, rows in sorted(coming.items()):
        await add_rows(mail, change, rows, mailbox, ALL_RIGHTS)
    for mailbox, rows in sorted(leaving.items()):
        await remove_rows(change, mailbox, rows)


async def _teach(change: Change, plans: Sequence[_Plan]) -> None:
    """Note what new places say about spam."""
    moves: dict[tuple[MailboxId, MailboxId], list[Membership]] = {}
    for plan in plans:
        if plan.shown != plan.target:
            source = min(plan.shown - plan.target or plan.shown)
            target = min(plan.target - plan.shown or plan.target)
            moves.setdefault((source, target), []).append(plan.rows[0])
    for (source, target), rows in sorted(moves.items()):
        await lessons.of_move(change, rows, source, target)
