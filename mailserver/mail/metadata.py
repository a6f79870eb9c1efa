"""Annotations of mailboxes and accounts: small values that clients keep here (RFC 5464).

An account sees only its own mailboxes, so what is shared and what is private differ in name only.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mailserver.errors import Forbidden, NotFound, TooLarge, TooMany
from mailserver.mail import mailboxes
from mailserver.model import AccountId, MailboxId
from mailserver.storage import delivery, metadata

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

MAX_VALUE = 16384  # octets
MAX_ENTRIES = 100  # of one mailbox, or of the account itself
MAX_TOTAL = 1000  # of an account and all its mailboxes
MAX_OCTETS = 1024 * 1024  # of all their values: one LIST may ask for them together


async def get(mail: "Mail", account: AccountId, mailbox: MailboxId | None) -> dict[str, bytes]:
    """Return the annotations of a mailbox, or without one of the account, sorted by name."""
    return await metadata.of_mailbox(mail.database, account, mailbox)


async def of_all_mailboxes(
    mail: "Mail", account: AccountId, names: Sequence[str]
) -> dict[MailboxId, dict[str, bytes]]:
    """Return the annotations with those names of every mailbox that has one."""
    return await metadata.of_all_mailboxes(mail.database, account, names)


async def put(
    mail: "Mail",
    account: AccountId,
    mailbox: MailboxId | None,
    values: Mapping[str, bytes | None],
) -> None:
    """Set annotations, and remove those whose value is None; all or nothing.

    Raises TooLarge, TooMany, and Forbidden for what concerns the whole server.
    """
    kept = {name: value for name, value in values.items() if value is not None}
    if mailbox is None and any(name.startswith("/shared") for name in values):
        raise Forbidden("what all accounts see is not for clients to set")
    if any(len(value) > MAX_VALUE for value in kept.values()):
        raise TooLarge("an annotation is too large")
    async with mail.database.transaction() as tx:
        if not await delivery.lock_accounts(tx, [account]):
            raise NotFound("account")
        if mailbox is not None:
            await mailboxes.by_id_in(tx, account, mailbox)
        await metadata.delete(tx, account, mailbox, list(values))
        if kept:
            used = await metadata.usage(tx, account, mailbox)
            if (
                used.here + len(kept) > MAX_ENTRIES
                or used.total + len(kept) > MAX_TOTAL
                or used.octets + sum(map(len, kept.values())) > MAX_OCTETS
            ):
                raise TooMany("there are too many annotations")
            await metadata.insert(tx, account, mailbox, kept)
