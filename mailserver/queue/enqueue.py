"""What a submission puts in the queue, worked out without I/O."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from mailserver.model import AccountId, BlobId, QueueId, QueueState
from mailserver.queue.rules import DeliverBy, rank
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
    deliver_by: DeliverBy | None = None  # RFC 2852
    priority: int = 0  # -9 to 9 (RFC 6710)
    traceparent: str | None = None  # the span in which it is accepted


def reports_delay(notify: str | None) -> bool:
    """Tell whether a delay may be reported; without NOTIFY it is (RFC 3461 §4.1)."""
    return notify is None or "DELAY" in notify.upper().split(",")


def _delay_at(outgoing: Outgoing, recipient: OutgoingRecipient, due: datetime) -> datetime | None:
    """Return when the sender is told that the message still waits; None is never.

    Who wants to hear of it at a time hears of it then, whatever else NOTIFY asks for but NEVER
    (RFC 2852 §4.1).
    """
    if not outgoing.sender:
        return None
    by = outgoing.deliver_by
    if by is not None and not by.returns and by.at > due:
        return None if recipient.notify == "NEVER" else by.at
    return due + DELAY_NOTICE if reports_delay(recipient.notify) else None


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
    by = outgoing.deliver_by
    expires = due + EXPIRY
    if by is not None and by.returns:
        expires = min(expires, by.at)
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
        by.at if by else None,
        by.mode if by else None,
        outgoing.priority,
        outgoing.traceparent,
    )
    recipients = {
        recipient.address: NewRecipient(
            queue_id,
            recipient.address,
            recipient.domain,
            QueueState.CAUGHT if caught and not recipient.here else QueueState.WAITING,
            due,
            expires,
            recipient.notify,
            recipient.orcpt,
            _delay_at(outgoing, recipient, due),
            rank(outgoing.priority),
        )
        for recipient in outgoing.recipients
    }
    return message, list(recipients.values())
