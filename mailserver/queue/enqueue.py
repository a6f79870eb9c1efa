"""What a submission puts in the queue, worked out without I/O."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from mailserver.model import AccountId, BlobId, QueueId, QueueState
from mailserver.storage.queue import NewQueued, NewRecipient

EXPIRY = timedelta(days=5)  # RFC 5321 §4.5.4.1: at least 4 to 5 days
DELAY_NOTICE = timedelta(hours=4)  # after which a sender is told that mail still waits


@dataclass(frozen=True, slots=True)
class OutgoingRecipient:
    """One recipient that waits, with its delivery-status wishes (RFC 3461)."""

    address: str  # the forward-path as given
    domain: str  # normal form
    notify: str | None = None
    orcpt: str | None = None
    here: bool = False  # a user of this server, whom mail reaches even where nothing leaves it


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
    require_tls: bool = False  # RFC 8689
    release_at: datetime | None = None  # not before this time (RFC 4865)


def reports_delay(notify: str | None) -> bool:
    """Tell whether a delay may be reported; without NOTIFY it is (RFC 3461 §4.1)."""
    return notify is None or "DELAY" in notify.upper().split(",")


def rows(
    outgoing: Outgoing, queue_id: QueueId, blob: BlobId, size: int, now: datetime, *, caught: bool
) -> tuple[NewQueued, list[NewRecipient]]:
    """Return the rows of one message: due at its release, or caught: shown and never sent.

    Every time is stored: a setting that changes later does not change what waits. What is held is
    caught when it is released: until then it can be taken back.
    """
    held = outgoing.release_at is not None
    caught = caught and not held
    due = outgoing.release_at or now
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
        outgoing.require_tls,
    )
    recipients = {
        recipient.address: NewRecipient(
            queue_id,
            recipient.address,
            recipient.domain,
            QueueState.CAUGHT if caught and not recipient.here else QueueState.WAITING,
            due,
            due + EXPIRY,
            recipient.notify,
            recipient.orcpt,
            due + DELAY_NOTICE if outgoing.sender and reports_delay(recipient.notify) else None,
        )
        for recipient in outgoing.recipients
    }
    return message, list(recipients.values())
