"""Messages: read many at once, flagged, copied, moved, expunged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mailserver.errors import NotFound, OverQuota
from mailserver.mail import changes as change_log
from mailserver.mail import flags, lessons
from mailserver.mail.context import Change
from mailserver.mail.rights import limited
from mailserver.model import (
    ALL_RIGHTS,
    DELETED,
    HIDDEN,
    SEEN,
    AccountId,
    ChangeKind,
    Descriptions,
    Email,
    EmailId,
    Flags,
    MailboxId,
    Membership,
    Modseq,
    Right,
    ThreadId,
)
from mailserver.storage import bodies, delivery, mailboxes, messages
from mailserver.storage.mailboxes import Growth, growth_of
from mailserver.storage.messages import NewMessage

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

state = change_log.state
store = flags.store


async def emails(
    mail: "Mail", account: AccountId, ids: Sequence[int], *, header: bool = False
) -> dict[EmailId, Email]:
    """Return emails by id, those that exist; with their header blocks when asked."""
    if header:
        return await messages.emails_with_header(mail.database, account, ids)
    return await messages.emails(mail.database, account, ids)


async def saved(
    mail: "Mail", account: AccountId, mailbox: MailboxId, uids: Sequence[int]
) -> dict[int, int]:
    """Return when messages were saved to a mailbox, in milliseconds since 1970, by UID."""
    return await messages.saved(mail.database, account, mailbox, uids)


async def descriptions(
    mail: "Mail",
    account: AccountId,
    ids: Sequence[int],
    *,
    env: int,
    header: bool,
    current: bool = False,
) -> Descriptions:
    """Return only what lists need of emails that exist: of envs at most so many octets.

    With `current` nothing is known to have left the account since the caller found them there.
    """
    known = mail.fresh.descriptions(account, ids, env=env, header=header) if current else None
    if known is not None:
        return known
    return await messages.descriptions(mail.database, account, ids, env=env, header=header)


async def memberships(
    mail: "Mail", account: AccountId, ids: Sequence[int]
) -> dict[EmailId, list[Membership]]:
    """Return in which mailboxes emails are."""
    found: dict[EmailId, list[Membership]] = {}
    for row in await messages.memberships(mail.database, account, ids):
        found.setdefault(row.email_id, []).append(row)
    return found


async def thread_emails(
    mail: "Mail", account: AccountId, threads: Sequence[int]
) -> dict[ThreadId, list[EmailId]]:
    """Return the emails of threads, oldest first."""
    found: dict[ThreadId, list[EmailId]] = {}
    for thread, email in await messages.of_threads(mail.database, account, threads):
        found.setdefault(thread, []).append(email)
    return found


# Leaving a mailbox -------------------------------------------------------------------------------


async def expunge(
    mail: "Mail", account: AccountId, mailbox: MailboxId, uids: Sequence[int] | None
) -> list[int]:
    """Remove the messages with \\Deleted, of these UIDs or all; return the removed UIDs."""
    rows: list[Membership] = []
    if not await mailboxes.has_deleted(mail.database, account, mailbox):
        return []  # every CLOSE comes here: without a lock, nor a row that is written in vain
    async with mail.change(account) as change:
        rows = await messages.deleted(change.tx, account, mailbox, uids)
        if rows:
            await remove_rows(change, mailbox, rows)
    return [row.uid for row in rows]


async def remove_rows(change: Change, mailbox: MailboxId, rows: Sequence[Membership]) -> int:
    """Take messages out of a mailbox; an email that is in no other one is destroyed.

    Returns the bytes that this gives back to the account.
    """
    freed = 0
    await messages.remove(change.tx, change.account, mailbox, [row.uid for row in rows])
    await _shrink(change, mailbox, rows)
    ids = list({row.email_id for row in rows})
    destroyed = await messages.destroy_homeless(change.tx, change.account, ids)
    if destroyed:
        await bodies.release(
            change.tx, change.account, [blob for _, blob, _ in destroyed], change.now
        )
        freed = sum(size for _, _, size in destroyed)
        await delivery.grow_accounts(change.tx, [(change.account, change.modseq, -freed)])
    homeless = {email for email, _, _ in destroyed}
    for kind, gone in ((ChangeKind.EMAIL_DESTROYED, True), (ChangeKind.EMAIL_REMOVED, False)):
        leaving = [row for row in rows if (row.email_id in homeless) is gone]
        hidden = [row for row in leaving if row.flags.bits & DELETED]
        _report_gone(change, kind, mailbox, hidden, (HIDDEN,))
        if len(hidden) < len(leaving):
            shown = [row for row in leaving if not row.flags.bits & DELETED]
            _report_gone(change, kind, mailbox, shown, ())
    return freed


def _report_gone(
    change: Change,
    kind: ChangeKind,
    mailbox: MailboxId,
    rows: Sequence[Membership],
    names: tuple[str, ...],
) -> None:
    if rows:
        change.report(
            kind,
            mailbox,
            tuple(row.uid for row in rows),
            tuple(row.email_id for row in rows),
            tuple(row.thread_id for row in rows),
            names,
        )


async def _shrink(change: Change, mailbox: MailboxId, rows: Sequence[Membership]) -> None:
    await mailboxes.grow(
        change.tx,
        [
            Growth(
                change.account,
                mailbox,
                uids=0,
                total=-len(rows),
                unseen=-sum(not row.flags.bits & SEEN for row in rows),
                deleted=-sum(bool(row.flags.bits & DELETED) for row in rows),
                size=-sum(row.size for row in rows),
                modseq=change.modseq,
            )
        ],
    )


# Copies and moves --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Copied:
    """Where messages went: UIDPLUS's COPYUID (RFC 4315 §3)."""

    uidvalidity: int
    sources: list[int]
    targets: list[int]  # in the order of `sources`


async def copy(
    mail: "Mail",
    account: AccountId,
    source: MailboxId,
    uids: Sequence[int],
    target: MailboxId,
    *,
    rights: Right = ALL_RIGHTS,
) -> Copied:
    """Put messages also into another mailbox: the same email, with a UID of its own there.

    The rights are those on the target: flags that they do not let set are not copied. Raises
    OverQuota when emails have to be doubled for that, or because they are there already.
    """
    async with mail.change(account) as change:
        rows = await messages.in_mailbox(change.tx, account, source, uids)
        if rows:
            copied, grown = await add_rows(mail, change, rows, target, rights)
            await lessons.of_move(change, rows, source, target)
            if grown:
                await check_room(change)
        else:
            copied = Copied(0, [], [])
    return copied


async def move(
    mail: "Mail",
    account: AccountId,
    source: MailboxId,
    uids: Sequence[int],
    target: MailboxId,
    *,
    rights: Right = ALL_RIGHTS,
) -> Copied:
    """Take messages from one mailbox to another in one step (RFC 6851); rights as for `copy`.

    Raises OverQuota when emails have to be doubled that stay in a third mailbox, or in the target.
    """
    async with mail.change(account) as change:
        rows = await messages.in_mailbox(change.tx, account, source, uids)
        if rows:
            moved = await move_rows(mail, change, rows, source, target, rights)
        else:
            moved = Copied(0, [], [])
    return moved


async def move_rows(
    mail: "Mail",
    change: Change,
    rows: Sequence[Membership],
    source: MailboxId,
    target: MailboxId,
    rights: Right = ALL_RIGHTS,
) -> Copied:
    """Add messages to the target, then remove them from the source."""
    moved, grown = await add_rows(mail, change, rows, target, rights)
    await lessons.of_move(change, rows, source, target)
    if grown > await remove_rows(change, source, rows):
        await check_room(change)
    return moved


async def add_rows(
    mail: "Mail",
    change: Change,
    rows: Sequence[Membership],
    target: MailboxId,
    rights: Right,
) -> tuple[Copied, int]:
    """Put emails in a mailbox; return also the bytes by which the account has grown.

    One that is there already gets a twin, with an id of its own; so does one that may not keep
    its flags, as flags belong to the email.

    JMAP knows the twin by that id; to IMAP it is the same content (RFC 8474 §5.1).
    """
    ids = [row.email_id for row in rows]
    twinned = await messages.present(change.tx, change.account, target, ids)
    if rights != ALL_RIGHTS:
        kept = [replace(row, flags=limited(Flags(), row.flags, rights)) for row in rows]
        twinned |= {
            row.email_id
            for row, new in zip(rows, kept, strict=True)
            if Flags(row.flags.bits & ~DELETED, row.flags.keywords)
            != Flags(new.flags.bits & ~DELETED, new.flags.keywords)
        }
        rows = kept
    twins = {email: EmailId(mail.ids.next()) for email in ids if email in twinned}
    growth = growth_of(change.account, target, rows, change.modseq)
    place = (await mailboxes.grow(change.tx, [growth])).get((change.account, target))
    if place is None:
        raise NotFound("mailbox")
    targets = range(place.first_uid, place.first_uid + len(rows))
    await messages.insert_messages(
        change.tx,
        [
            NewMessage(
                change.account,
                target,
                uid,
                twins.get(row.email_id, row.email_id),
                row.thread_id,
                row.received_at,
                row.size,
                Modseq(change.modseq),
                row.flags.bits,
                " ".join(row.flags.keywords),
                row.content_id if row.email_id in twins else row.original_id,
                change.now,
            )
            for uid, row in zip(targets, rows, strict=True)
        ],
    )
    grown = 0
    if twins:
        grown = await messages.duplicate(change.tx, change.account, list(twins.items()))
        await delivery.grow_accounts(change.tx, [(change.account, change.modseq, grown)])
    for kind, new in ((ChangeKind.EMAIL_CREATED, True), (ChangeKind.EMAIL_ADDED, False)):
        added = [
            (uid, row)
            for uid, row in zip(targets, rows, strict=True)
            if new is (row.email_id in twins)
        ]
        if added:
            change.report(
                kind,
                target,
                tuple(uid for uid, _ in added),
                tuple(twins.get(row.email_id, row.email_id) for _, row in added),
                tuple(row.thread_id for _, row in added),
            )
    return Copied(place.uidvalidity, [row.uid for row in rows], list(targets)), grown


async def check_room(change: Change) -> None:
    """Refuse what has grown beyond the quota."""
    room = (await delivery.lock_accounts(change.tx, [change.account]))[change.account]
    if room.quota_limit is not None and room.quota_used > room.quota_limit:
        raise OverQuota("account")
