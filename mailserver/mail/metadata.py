"""Annotations of mailboxes and accounts: small values that clients keep here (RFC 5464).

What is shared belongs to the mailbox; what is private, to whoever made it (RFC 5464 §3.3).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from mailserver.errors import Forbidden, NotFound, TooLarge, TooMany
from mailserver.mail import mailboxes
from mailserver.mail.context import Change
from mailserver.model import AccountId, ChangeKind, MailboxId, Modseq, Right
from mailserver.storage import delivery, metadata

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

# any of these rights, beside LOOKUP, lets somebody read and set them (RFC 5464 §3.3)
ANNOTATE = Right.READ | Right.SEEN | Right.WRITE | Right.INSERT | Right.POST
MAX_VALUE = 16384  # octets
MAX_ENTRIES = 100  # of one mailbox, or of the account itself
MAX_TOTAL = 1000  # of an account and all its mailboxes
OF_ACCOUNT = MailboxId(0)  # stands in the change log where annotations are of no mailbox
MAX_OCTETS = 1024 * 1024  # of all their values: one LIST may ask for them together


async def get(
    mail: "Mail", principal: AccountId, account: AccountId, mailbox: MailboxId | None
) -> dict[str, bytes]:
    """Return what somebody sees of the annotations of a mailbox, or of an account, by name."""
    reader = None if principal == account else principal
    return await metadata.of_mailbox(mail.database, account, mailbox, reader)


async def of_all_mailboxes(
    mail: "Mail", principal: AccountId, accounts: Collection[AccountId], names: Sequence[str]
) -> dict[MailboxId, dict[str, bytes]]:
    """Return what somebody sees of annotations with those names, of all mailboxes of accounts."""
    return await metadata.of_all_mailboxes(mail.database, principal, list(accounts), names)


async def put(
    mail: "Mail",
    principal: AccountId,
    account: AccountId,
    mailbox: MailboxId | None,
    values: Mapping[str, bytes | None],
) -> None:
    """Set annotations, and remove those whose value is None; all or nothing.

    Raises TooLarge, TooMany, and Forbidden for what concerns the whole server.
    """
    if mailbox is None and any(name.startswith("/shared") for name in values):
        raise Forbidden("what all accounts see is not for clients to set")
    if any(value is not None and len(value) > MAX_VALUE for value in values.values()):
        raise TooLarge("an annotation is too large")
    own = {
        name: value
        for name, value in values.items()
        if principal == account or name.startswith("/shared")
    }
    others = {name: value for name, value in values.items() if name not in own}
    async with mail.database.transaction() as tx:
        rooms = await delivery.lock_accounts(tx, [account, principal])
        if not rooms.keys() >= {account, principal}:
            raise NotFound("account")
        if mailbox is not None:
            await mailboxes.by_id_in(tx, account, mailbox)
        changes = [
            Change(tx, owner, Modseq(rooms[owner].modseq + 1), mail.now())
            for owner, names in ((account, own), (principal, others))
            if names
        ]
        for change in changes:
            is_owner = change.account == account
            reader = None if is_owner else principal
            await _write(change, account, mailbox, reader, own if is_owner else others)
    for change in changes:
        mail.events.publish(change.account, change.modseq)


async def copy(change: Change, source: MailboxId, target: MailboxId) -> None:
    """Give a new mailbox the annotations of another (RFC 5464 §4.1); TooMany."""
    await metadata.copy(change.tx, change.account, source, target)
    used = await metadata.usage(change.tx, change.account, target)
    if used.here and (used.total > MAX_TOTAL or used.octets > MAX_OCTETS):
        raise TooMany("there are too many annotations")


async def _write(
    change: Change,
    account: AccountId,
    mailbox: MailboxId | None,
    reader: AccountId | None,
    values: Mapping[str, bytes | None],
) -> None:
    """Write annotations of one owner, as a change of the account of whoever sees them."""
    tx = change.tx
    await metadata.delete(tx, account, mailbox, reader, list(values))
    if reader is None or mailbox is None:
        used = await metadata.usage(tx, account, mailbox)
    else:
        used = await metadata.usage_elsewhere(tx, reader, mailbox)
    kept = _kept(values, used)
    if kept:
        await metadata.insert(tx, account, mailbox, reader, kept)
    await delivery.grow_accounts(tx, [(change.account, change.modseq, 0)])
    change.report(ChangeKind.METADATA_UPDATED, mailbox or OF_ACCOUNT, names=tuple(values))
    await change.write()


def _kept(values: Mapping[str, bytes | None], used: metadata.Usage) -> dict[str, bytes]:
    """Return the values to keep beside those that are there; TooMany."""
    kept = {name: value for name, value in values.items() if value is not None}
    if kept and (
        used.here + len(kept) > MAX_ENTRIES
        or used.total + len(kept) > MAX_TOTAL
        or used.octets + sum(map(len, kept.values())) > MAX_OCTETS
    ):
        raise TooMany("there are too many annotations")
    return kept
