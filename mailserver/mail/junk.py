"""Where mail goes that nobody asked for."""

import logging
from typing import TYPE_CHECKING

from mailserver.errors import AlreadyExists, MailError, NotFound, OverQuota
from mailserver.mail import mailboxes
from mailserver.mail.delivery import Target
from mailserver.model import JUNK, AccountId, Flags, MailboxId, Role
from mailserver.storage import mailboxes as stored

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

log = logging.getLogger(__name__)

NAME = "Junk"
FLAGS = Flags(JUNK)


async def target(mail: "Mail", account: AccountId) -> Target:
    """Return where junk of an account goes: its mailbox of that role, which is made if need be.

    An account that cannot have one more mailbox gets it in its INBOX, marked as junk.
    """
    try:
        mailbox = await _mailbox(mail, account)
    except OverQuota as error:
        log.warning("no Junk mailbox", extra={"account_id": account, "error": str(error)})
        return Target(account, flags=FLAGS)
    return Target(account, mailbox, FLAGS)


async def _mailbox(mail: "Mail", account: AccountId) -> MailboxId:
    found = await stored.with_role(mail.database, [account], Role.JUNK)
    if account in found:
        return found[account]
    try:
        made = await mailboxes.create(mail, account, NAME, Role.JUNK, subscribed=True)
        return made[-1].id
    except AlreadyExists as error:
        refusal: MailError = error
    # somebody was faster, or the name is that of a mailbox without a role
    found = await stored.with_role(mail.database, [account], Role.JUNK)
    if account in found:
        return found[account]
    try:
        return (await mailboxes.by_path(mail, account, NAME)).id
    except NotFound:
        raise refusal from None
