"""What a submission puts in the queue, worked out without I/O."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from mailserver.model import AccountId, BlobId, QueueId, QueueState
from mailserver.storage.queue import NewQueued, NewRecipient

EXPIRY = timedelta(days=5)  # RFC 5321 §4.5.4.1: at least 4 to 5 days


@dataclass(frozen=True, slots=True)
class OutgoingRecipient:
    """One recipient outside this server, with its delivery-status wishes (RFC 3461)."""

    address: str  # the forward-path as given
    domain: str  # normal form
    notify: str | None = None
    orcpt: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The envelope of a message that leaves this server."""

    account_id: AccountId  # whose message it is
    sender: str  # the reverse-path; empty for <>
    recipients: tuple[OutgoingRecipient, ...]
    session: str
    smtputf8: bool = False
    body: str = "7BIT"
    envid: str | None = None
    ret: str | None = None


def rows(
    outgoing: Outgoing, queue_id: QueueId, blob: BlobId, size: int, now: datetime, *, caught: bool
) -> tuple[NewQueued, list[NewRecipient]]:
    """Return the rows of one message: due at once, or caught: shown and never sent."""
    state = QueueState.CAUGHT if caught else QueueState.WAITING
    message = NewQueued(
        queue_id,
        outgoing.account_id,
        blob,
        outgoing.sender,
        size,
        outgoing.smtputf8,
        outgoing.body,
        outgoing.envid,
        outgoing.ret,
        now,
        outgoing.session,
    )
    recipients = {
        recipient.address: NewRecipient(
            queue_id,
            recipient.address,
            recipient.domain,
            state,
            now,
            now + EXPIRY,
            recipient.notify,
            recipient.orcpt,
        )
        for recipient in outgoing.recipients
    }
    return message, list(recipients.values())
