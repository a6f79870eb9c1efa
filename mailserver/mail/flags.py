"""STORE: flags of many messages, worked out once for all that have the same ones."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from mailserver.mail import lessons
from mailserver.mail.context import Change
from mailserver.mail.lessons import Flagged
from mailserver.mail.rights import limited
from mailserver.model import (
    ALL_RIGHTS,
    DELETED,
    HIDDEN,
    SEEN,
    SHOWN,
    AccountId,
    ChangeKind,
    FlagChange,
    Flags,
    MailboxId,
    Right,
)
from mailserver.storage import flags as flag_table
from mailserver.storage.flags import Group, NewFlags
from mailserver.storage.messages import combined

if TYPE_CHECKING:
    from mailserver.mail.context import Mail


class Restamp(NamedTuple):
    """Messages of one mailbox that had the same flags and have the same other ones now."""

    group: Group
    new: Flags

    @property
    def unseen(self) -> int:
        """How many more messages are without \\Seen now."""
        seen = (not self.new.bits & SEEN) - (not self.group.flags.bits & SEEN)
        return seen * len(self.group.uids)

    @property
    def deleted(self) -> int:
        """How many more messages have \\Deleted now."""
        marked = bool(self.new.bits & DELETED) - bool(self.group.flags.bits & DELETED)
        return marked * len(self.group.uids)

    @property
    def visibility(self) -> str:
        """What the change log says of it: whether JMAP shows the messages, if that changed."""
        return HIDDEN if self.deleted > 0 else SHOWN if self.deleted < 0 else ""


@dataclass(frozen=True, slots=True)
class Stored:
    """What STORE did."""

    modseq: int = 0  # of the change; 0 when nothing changed
    restamps: list[Restamp] = field(default_factory=list)  # in the mailbox of the STORE
    refused: list[int] = field(default_factory=list)  # UIDs above UNCHANGEDSINCE (RFC 7162 §3.1.3)

    @property
    def changed(self) -> list[int]:
        """UIDs whose flags are other now."""
        return sorted(uid for each in self.restamps for uid in each.group.uids)

    def overtaken(self, modseq: int) -> set[int]:
        """Return the UIDs whose flags had already changed after a modseq, and now changed again."""
        return {
            uid
            for each in self.restamps
            if max(each.group.modseqs) > modseq
            for uid, changed in zip(each.group.uids, each.group.modseqs, strict=True)
            if changed > modseq
        }


async def store(
    mail: "Mail",
    account: AccountId,
    mailbox: MailboxId,
    uids: Sequence[int],
    mode: FlagChange,
    flags: Flags,
    *,
    rights: Right = ALL_RIGHTS,
    unchanged_since: int | None = None,
) -> Stored:
    """Change flags of messages of a mailbox.

    Flags belong to the email, so they change in all its mailboxes; \\Deleted belongs to this
    mailbox alone. What the rights do not let change stays as it is.
    """
    stored = Stored()
    async with mail.change(account) as change:
        groups = await flag_table.grouped(change.tx, account, mailbox, uids)
        here, refused = restamped(
            [group for group in groups if group.mailbox_id == mailbox],
            mode,
            flags,
            rights=rights,
            unchanged_since=unchanged_since,
        )
        if here:
            await write(change, mailbox, here)
            await teach(change, here)
            elsewhere = [group for group in groups if group.mailbox_id != mailbox]
            for other, restamps in sorted(_followed(here, elsewhere).items()):
                await write(change, other, restamps)
        stored = Stored(change.modseq if here else 0, here, refused)
    return stored


def restamped(
    groups: Sequence[Group],
    mode: FlagChange,
    flags: Flags,
    *,
    rights: Right,
    unchanged_since: int | None,
) -> tuple[list[Restamp], list[int]]:
    """Return what STORE changes, and the UIDs that `unchanged_since` keeps from being changed."""
    found: list[Restamp] = []
    refused: list[int] = []
    for group in groups:
        if unchanged_since is not None:
            group, late = _divided(group, unchanged_since)
            refused += late
        new = limited(group.flags, combined(group.flags, mode, flags), rights)
        if new != group.flags and group.uids:
            found.append(Restamp(group, new))
    return found, sorted(refused)


def _divided(group: Group, modseq: int) -> tuple[Group, list[int]]:
    """Return what has not changed since a modseq, and the UIDs of what has."""
    rows = [row for row, changed in enumerate(group.modseqs) if changed <= modseq]
    if len(rows) == len(group.uids):
        return group, []
    kept = group.part(rows)
    there = set(kept.uids)
    return kept, [uid for uid in group.uids if uid not in there]


def _followed(
    here: Sequence[Restamp], elsewhere: Sequence[Group]
) -> dict[MailboxId, list[Restamp]]:
    """Return the same change for the other mailboxes in which the emails are."""
    found: dict[MailboxId, list[Restamp]] = {}
    if not elsewhere:
        return found
    new = {email: each.new for each in here for email in each.group.email_ids}
    for group in elsewhere:
        rows: dict[Flags, list[int]] = {}
        for row, email in enumerate(group.email_ids):
            if email in new:
                bits = new[email].bits & ~DELETED | group.flags.bits & DELETED
                rows.setdefault(Flags(bits, new[email].keywords), []).append(row)
        for flags, some in rows.items():
            if flags != group.flags:
                found.setdefault(group.mailbox_id, []).append(Restamp(group.part(some), flags))
    return found


async def teach(change: Change, restamps: Sequence[Restamp]) -> None:
    """Note what new flags say about spam."""
    await lessons.of_flags(
        change,
        (Flagged(each.group.email_ids, each.group.flags, each.new) for each in restamps),
    )


async def write(change: Change, mailbox: MailboxId, restamps: Sequence[Restamp]) -> None:
    """Write new flags of one mailbox, keep its counters, and report it."""
    unseen = sum(each.unseen for each in restamps)
    deleted = sum(each.deleted for each in restamps)
    by_old: dict[Flags, list[Restamp]] = {}
    by_visibility: dict[str, list[Group]] = {}
    for each in restamps:
        by_visibility.setdefault(each.visibility, []).append(each.group)
        by_old.setdefault(each.group.flags, []).append(each)
    # messages that had the same flags may get different ones, if elsewhere they were different
    while by_old:
        alike = [same.pop() for same in by_old.values()]
        by_old = {old: same for old, same in by_old.items() if same}
        await flag_table.write(
            change.tx,
            change.account,
            mailbox,
            change.modseq,
            sorted(uid for each in alike for uid in each.group.uids),
            [NewFlags(each.group.flags, each.new) for each in alike],
            unseen=unseen,
            deleted=deleted,
        )
        unseen = deleted = 0
    for visibility, some in by_visibility.items():
        _report(change, mailbox, some, (visibility,) if visibility else ())


def _report(
    change: Change, mailbox: MailboxId, groups: Sequence[Group], names: tuple[str, ...]
) -> None:
    """Report new flags; messages that JMAP shows or hides from now on are named as such."""
    uids, emails, threads = array("q"), array("q"), array("q")
    for group in groups:
        uids += group.uids
        emails += group.email_ids
        threads += group.thread_ids
    change.report(
        ChangeKind.EMAIL_UPDATED, mailbox, tuple(uids), tuple(emails), tuple(threads), names
    )
