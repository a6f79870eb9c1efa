"""Vacation responses: who is away, and the replies that senders get (RFC 8621 §8)."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mailserver.errors import NotFound
from mailserver.mail import accounts, autoreply, messages, recipients, sending
from mailserver.mail.metadata import OF_ACCOUNT
from mailserver.mail.originals import Original, received
from mailserver.mime import HeaderBlock
from mailserver.model import AccountId, ChangeKind, IdKind, QueueId, Vacation, id_text
from mailserver.storage import delivery_tasks, vacation
from mailserver.storage.delivery_tasks import NewTask

if TYPE_CHECKING:
    from mailserver.mail.context import Change, Mail
    from mailserver.storage.database import Connection

log = logging.getLogger(__name__)


async def get(mail: "Mail", account: AccountId) -> Vacation:
    """Return the vacation response of an account."""
    return await vacation.get(mail.database, account)


async def locked(change: "Change") -> Vacation:
    """Return the vacation response of the account that is being changed."""
    return await vacation.get(change.tx, change.account)


async def put(change: "Change", new: Vacation) -> None:
    """Set the vacation response; senders who were told something else are told again."""
    await vacation.put(change.tx, change.account, new)
    await vacation.forget_told(change.tx, change.account)
    change.report(ChangeKind.VACATION_UPDATED, OF_ACCOUNT)


@dataclass(slots=True)
class _Reply:
    """What makes a reply the only one: its task goes, and its sender counts as told."""

    task: NewTask
    sender: str
    now: datetime
    again_before: datetime
    account_id: None = None  # nobody's mail changes

    async def admit(self, tx: "Connection") -> bool:
        """Take the task away; False when another process did it, or the sender knows."""
        return await delivery_tasks.finish(tx, self.task) and await vacation.tell(
            tx, self.task.account_id, self.sender, self.now, self.again_before
        )

    async def write(self, change: "Change", queue_id: QueueId | None) -> None:
        """Write nothing more."""


async def respond(mail: "Mail", task: NewTask) -> bool:
    """Answer a message that was delivered, if it is to be answered; False when it is not.

    The reply and the end of its task are one commit: a crash loses neither and doubles none.
    """
    account = task.account_id
    response = await get(mail, account)
    if not autoreply.is_due(response, task.received_at):
        return False
    separator = mail.config.smtp.subaddress_separator
    addresses = await recipients.send_addresses(mail, account)
    sender = autoreply.sender_of(task.sender, addresses, separator)
    found = await messages.emails(mail, account, [task.email_id], header=True)
    if sender is None or task.email_id not in found:
        return False
    header = HeaderBlock(found[task.email_id].header)
    own = autoreply.addressed(header, addresses, separator)
    if own is None or not autoreply.is_personal(header):
        return False
    hostname = mail.config.server.hostname
    reply_id = id_text(IdKind.EMAIL, mail.ids.next())
    now = mail.now()
    raw = autoreply.compose(
        response,
        header,
        name=(await accounts.get(mail, account)).name,
        own=own,
        sender=sender,
        now=now,
        message_id=f"{reply_id}@{hostname}",
    )
    where = await recipients.resolve(mail, sender)
    if where.local and not where.accounts:
        return False  # there is no such user any more
    text = task.sender
    envelope = sending.Envelope(
        account,
        "",  # so that nothing answers to it (RFC 3834 §3.3)
        (sending.Recipient(text, sender.domain, where.accounts),),
        reply_id,
        smtputf8=not text.isascii() or autoreply.needs_utf8(own, sender),
    )
    interval = timedelta(seconds=mail.config.smtp.vacation_interval)
    try:
        await sending.send(
            mail,
            Original(raw),
            envelope,
            received(hostname, reply_id, now),
            message_id="",
            companion=_Reply(task, str(sender), now, now - interval),
        )
    except NotFound:  # it was told already
        return False
    log.info("vacation response sent", extra={"account": account, "message_id": reply_id})
    return True


async def trim(mail: "Mail", now: datetime) -> None:
    """Forget who was told so long ago that it makes no difference."""
    await vacation.trim_told(
        mail.database, now - timedelta(seconds=mail.config.smtp.vacation_interval)
    )
