"""Mailboxes: found by path, made, renamed, deleted."""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mailserver.errors import AlreadyExists, Forbidden, InUse, Invalid, NotFound, OverQuota
from mailserver.mail.context import Change
from mailserver.model import AccountId, ChangeKind, Mailbox, MailboxId, Modseq, Role
from mailserver.storage import acl, mailboxes, messages, subscriptions
from mailserver.storage.mailboxes import Entered

if TYPE_CHECKING:
    from mailserver.mail.context import Mail
    from mailserver.storage.database import Connection

SEPARATOR = "/"
INBOX = "INBOX"
OTHERS = "Other Users"  # where others' mailboxes are seen: nobody has one of that name
MAX_NAME = 255  # bytes of one part of a path
MAX_DEPTH = 20
MAX_MAILBOXES = 10_000  # of an account
ROW_SIZE = 1000  # octets of a mailbox in memory, about


async def list_all(mail: "Mail", account: AccountId) -> list[Mailbox]:
    """Return all mailboxes, INBOX first, parents before children."""
    return await mailboxes.of_account(mail.database, account)


async def by_path(mail: "Mail", account: AccountId, path: str) -> Mailbox:
    """Return the mailbox of that path; INBOX in any case (RFC 9051 §5.1); NotFound."""
    mailbox, _ = await _read(mail, account, normal_path(path))
    return mailbox


async def _read(mail: "Mail", account: AccountId, path: str) -> tuple[Mailbox, Modseq | None]:
    """Return the mailbox of a normal path, and the modseq of the account at that moment."""
    if SEPARATOR in path:
        every, modseq = await mailboxes.of_account_now(mail.database, account)
        return _find(every, path), modseq
    found = await mailboxes.at_root(mail.database, account, path)
    if found is None:
        raise NotFound("mailbox")
    return found


async def numbered(mail: "Mail", account: AccountId, path: str) -> Mailbox:
    """Return what `by_path` does, but for `recent_uid`; one that has not changed from memory.

    Clients ask for the numbers of the same mailboxes again and again.
    """
    path = normal_path(path)
    known = await _unchanged(mail, account, mail.numbered.get((account, path)))
    if known is not None:
        return known[0]
    mailbox, modseq = await _read(mail, account, path)
    if modseq is not None:
        _keep(mail, account, mailbox, modseq)
    return mailbox


async def _unchanged(
    mail: "Mail", account: AccountId, known: tuple[Mailbox, Modseq] | None
) -> tuple[Mailbox, Modseq] | None:
    """Return a mailbox that is as it was at a modseq, and the modseq of now; else None."""
    if known is None:
        return None
    mailbox, then = known
    if mail.looks.has_changed(account, mailbox.id, then):
        return None
    now = await mail.looks.modseq(account)
    if now is None or not mail.looks.is_same(account, mailbox.id, then, now):
        return None
    _keep(mail, account, mailbox, now)
    return mailbox, now


def _keep(mail: "Mail", account: AccountId, mailbox: Mailbox, now: Modseq) -> None:
    size = ROW_SIZE + 2 * len(mailbox.path)
    mail.numbered.keep((account, mailbox.path), (mailbox, now), size)


async def enter(mail: "Mail", account: AccountId, path: str) -> Entered:
    """Return what `by_path` does, and the \\Recent UIDs if the caller alone got them with it."""
    path = normal_path(path)
    if SEPARATOR in path:
        return Entered(_find(await list_all(mail, account), path))
    known = mail.numbered.get((account, path))
    # where nothing is recent nothing gets so without a change, and there is nothing to be taken
    if known is not None and known[0].recent_uid >= known[0].uidnext:
        same = await _unchanged(mail, account, known)
        if same is not None:
            return Entered(same[0], None, same[1])
    found = await mailboxes.enter_at_root(mail.database, account, path)
    if found is None:
        raise NotFound("mailbox")
    if found.modseq is not None:
        mailbox = found.mailbox
        if found.recent is not None:
            mailbox = replace(mailbox, recent_uid=found.recent.stop)
        _keep(mail, account, mailbox, found.modseq)
    return found


async def by_id(mail: "Mail", account: AccountId, mailbox: MailboxId) -> Mailbox:
    """Return the mailbox with that id; NotFound."""
    return _with_id(await list_all(mail, account), mailbox)


async def by_id_in(tx: "Connection", account: AccountId, mailbox: MailboxId) -> Mailbox:
    """Return the mailbox with that id as a transaction sees it; NotFound."""
    return _with_id(await mailboxes.of_account(tx, account), mailbox)


def _with_id(found: list[Mailbox], mailbox: MailboxId) -> Mailbox:
    for each in found:
        if each.id == mailbox:
            return each
    raise NotFound("mailbox")


def _check_new(path: str) -> None:
    """Refuse a path where others' mailboxes are seen."""
    if path.split(SEPARATOR, 1)[0] == OTHERS:
        raise Invalid("the name is reserved")


def normal_path(path: str) -> str:
    """Return a path with INBOX in upper case and no trailing separator; raise Invalid."""
    path = unicodedata.normalize("NFC", path)  # RFC 5198 §2, so that no two names look the same
    parts = path.removesuffix(SEPARATOR).split(SEPARATOR)
    if parts[0].isascii() and parts[0].upper() == INBOX:  # "\u0131" is no "i"
        parts[0] = INBOX
    if len(parts) > MAX_DEPTH:
        raise Invalid("the path is too deep")
    for part in parts:
        if not part.isprintable() and any(map(breaks_lines, part)):
            raise Invalid("the path has a control character")
        if not part or len(part.encode()) > MAX_NAME:
            raise Invalid("a part of the path is empty or too long")
    return SEPARATOR.join(parts)


def breaks_lines(character: str) -> bool:
    """Whether it is a control character, a line separator or half a character."""
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def _find(found: list[Mailbox], path: str) -> Mailbox:
    path = normal_path(path)
    for mailbox in found:
        if mailbox.path == path:
            return mailbox
    raise NotFound("mailbox")


async def create(
    mail: "Mail",
    account: AccountId,
    path: str,
    role: Role | None = None,
    *,
    subscribed: bool = False,
) -> list[Mailbox]:
    """Make a mailbox and its missing parents; return what was made, parents first.

    A name that stayed subscribed when its mailbox was removed is subscribed in any case.
    """
    path = normal_path(path)
    _check_new(path)
    async with mail.change(account) as change:
        known = {found.path: found for found in await mailboxes.of_account(change.tx, account)}
        if path in known:
            raise AlreadyExists(path)
        if role is not None and any(found.role is role for found in known.values()):
            raise AlreadyExists(role.value)
        made = await _make(mail, change, known, path, role, subscribed=subscribed)
    return made


async def _make(
    mail: "Mail",
    change: Change,
    known: dict[str, Mailbox],
    path: str,
    role: Role | None,
    *,
    subscribed: bool = False,
) -> list[Mailbox]:
    made: list[str] = []
    parent: MailboxId | None = None
    parts = path.split(SEPARATOR)
    paths = [SEPARATOR.join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    if len(known) + sum(each not in known for each in paths) > MAX_MAILBOXES:
        raise OverQuota("mailboxes")
    names = await subscriptions.take(change.tx, change.account, paths)
    for prefix, name in zip(paths, parts, strict=True):
        if prefix in known:
            parent = known[prefix].id
            continue
        mailbox = MailboxId(mail.ids.next())
        await mailboxes.insert(
            change.tx,
            change.account,
            mailbox,
            parent,
            name,
            role if prefix == path else None,
            change.modseq,
            subscribed=subscribed or prefix in names,
        )
        if parent is not None:
            await acl.inherit(change.tx, change.account, parent, mailbox)  # RFC 4314 §4
        change.report(ChangeKind.MAILBOX_CREATED, mailbox)
        made.append(prefix)
        parent = mailbox
    after = await mailboxes.of_account(change.tx, change.account)
    return [found for found in after if found.path in made]


async def rename(mail: "Mail", account: AccountId, mailbox: MailboxId, target: str) -> Mailbox:
    """Give a mailbox, and so all below it, another path; missing parents are made.

    Renaming INBOX moves its messages to a new mailbox and leaves it empty (RFC 9051 §6.3.6).
    """
    from mailserver.mail import metadata

    target = normal_path(target)
    _check_new(target)
    async with mail.change(account) as change:
        known = {found.path: found for found in await mailboxes.of_account(change.tx, account)}
        source = _with_id(list(known.values()), mailbox)
        if target in known:
            raise AlreadyExists(target)
        if target.startswith(source.path + SEPARATOR):
            raise Invalid("a mailbox cannot move below itself")
        if source.role is Role.INBOX:
            made = await _make(mail, change, known, target, None)
            await _move_all(mail, change, source, made[-1])
            await metadata.copy(change, source.id, made[-1].id)
            return made[-1]
        parent_path, _, name = target.rpartition(SEPARATOR)
        parent: MailboxId | None = None
        if parent_path:
            if parent_path not in known:
                await _make(mail, change, known, parent_path, None)
            parent = _find(await mailboxes.of_account(change.tx, account), parent_path).id
        await mailboxes.rename(change.tx, account, source.id, parent, name, change.modseq)
        change.report(ChangeKind.MAILBOX_UPDATED, source.id)
        moved = [
            replace(each, path=target + each.path[len(source.path) :])
            for each in known.values()
            if each.id == source.id or each.path.startswith(source.path + SEPARATOR)
        ]
        await _resume(change, moved)
    return replace(source, path=target, name=name, parent_id=parent, modseq=change.modseq)


async def _resume(change: Change, moved: Sequence[Mailbox]) -> None:
    """Subscribe mailboxes that were given names which stayed subscribed."""
    names = await subscriptions.take(change.tx, change.account, [each.path for each in moved])
    for each in moved:
        if each.path in names and not each.subscribed:
            await mailboxes.subscribe(change.tx, change.account, each.id, True, change.modseq)
            change.report(ChangeKind.MAILBOX_UPDATED, each.id)


async def _move_all(mail: "Mail", change: Change, source: Mailbox, target: Mailbox) -> None:
    from mailserver.mail.messages import move_rows

    packed = await messages.pack(change.tx, change.account, source.id)
    rows = await messages.in_mailbox(change.tx, change.account, source.id, packed.uids.tolist())
    if rows:
        await move_rows(mail, change, rows, source.id, target.id)


async def delete(mail: "Mail", account: AccountId, mailbox: MailboxId) -> None:
    """Remove a mailbox with its messages; one with children stays (RFC 9051 §6.3.5).

    Its name stays subscribed if it was (RFC 3501 §6.3.6).
    """
    async with mail.change(account) as change:
        found = await mailboxes.of_account(change.tx, account)
        leaving = _with_id(found, mailbox)
        if leaving.role is Role.INBOX:
            raise Forbidden("INBOX cannot be deleted")
        if any(other.parent_id == mailbox for other in found):
            raise InUse("the mailbox has children")
        await empty(change, mailbox)
        await mailboxes.delete(change.tx, account, mailbox)
        if leaving.subscribed:
            await subscriptions.keep(change.tx, account, leaving.path)
        change.report(ChangeKind.MAILBOX_DESTROYED, mailbox)


async def empty(change: Change, mailbox: MailboxId) -> None:
    """Remove every message of a mailbox."""
    from mailserver.mail.messages import remove_rows

    packed = await messages.pack(change.tx, change.account, mailbox)
    if packed.uids:
        rows = await messages.in_mailbox(change.tx, change.account, mailbox, packed.uids.tolist())
        await remove_rows(change, mailbox, rows)


async def subscribe(mail: "Mail", account: AccountId, path: str, subscribed: bool) -> None:
    """Add a mailbox to the subscribed ones, or take it out."""
    async with mail.change(account) as change:
        mailbox = _find(await mailboxes.of_account(change.tx, account), path)
        if mailbox.subscribed == subscribed:
            return
        await mailboxes.subscribe(change.tx, account, mailbox.id, subscribed, change.modseq)
        change.report(ChangeKind.MAILBOX_UPDATED, mailbox.id)


async def forget_name(mail: "Mail", account: AccountId, path: str) -> None:
    """Take a name that no mailbox has now out of the subscribed ones."""
    await subscriptions.take(mail.database, account, [normal_path(path)])


async def subscribed_names(mail: "Mail", account: AccountId) -> list[str]:
    """Return the names that are subscribed and that no mailbox has now."""
    return await subscriptions.of_account(mail.database, account)


async def take_recent(mail: "Mail", account: AccountId, mailbox: MailboxId) -> range:
    """Return the UIDs that are \\Recent for the caller, who alone gets them (RFC 3501 §2.3.2)."""
    taken = await mailboxes.take_recent(mail.database, account, mailbox)
    if taken is None:
        raise NotFound("mailbox")
    return taken


async def peek_recent(mail: "Mail", account: AccountId, mailbox: MailboxId) -> int:
    """Return the first \\Recent UID and leave it so for others: EXAMINE and STATUS."""
    first = await mailboxes.peek_recent(mail.database, account, mailbox)
    if first is None:
        raise NotFound("mailbox")
    return first
