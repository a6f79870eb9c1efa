"""Taking a message in: the same for SMTP, submission, APPEND and import."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from mailserver.errors import Invalid
from mailserver.mime import Digest, digest
from mailserver.model import (
    AccountId,
    BlobId,
    EmailId,
    Flags,
    MailboxId,
    Modseq,
    QueueId,
    ThreadId,
)
from mailserver.queue.enqueue import Outgoing
from mailserver.storage.compression import compressor

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

LARGE = 256 * 1024  # bytes; a larger message is parsed in a thread
NO_FLAGS = Flags()


@dataclass(frozen=True, slots=True)
class Target:
    """Where a copy goes: an account's mailbox, by default its INBOX."""

    account_id: AccountId
    mailbox_id: MailboxId | None = None
    flags: Flags = NO_FLAGS


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where a copy went."""

    account_id: AccountId
    email_id: EmailId
    thread_id: ThreadId
    blob_id: BlobId
    mailbox_id: MailboxId
    uid: int
    uidvalidity: int
    modseq: Modseq


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a message that was taken in: durable from now on."""

    blob_id: BlobId
    delivered: tuple[Delivered, ...]  # one for each target account
    queue_id: QueueId | None  # of what leaves this server


@dataclass(frozen=True, slots=True)
class Incoming:
    """One of several messages that are stored together."""

    raw: bytes
    flags: Flags
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Replaced:
    """A message that leaves its mailbox when another one is stored."""

    account_id: AccountId
    mailbox_id: MailboxId
    uid: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """What the commit writes of a message beside its digest."""

    blob_id: BlobId
    stored: bytes  # zstd of the message
    header: bytes  # zstd of its header block


@dataclass(slots=True)
class Arrival:
    """A message that waits for the next commit."""

    raw: bytes
    digest: Digest
    targets: tuple[Target, ...]
    outgoing: Outgoing | None
    received_at: datetime
    enforce_quota: bool
    done: "asyncio.Future[Accepted]" = field(repr=False)


def seal(arrivals: Sequence[Arrival]) -> list[Sealed]:
    """Hash and compress messages: the work of a delivery that can be done in any thread."""
    compress = compressor()
    return [
        Sealed(
            BlobId(hashlib.sha256(arrival.raw).digest()),
            compress(arrival.raw),
            compress(arrival.digest.header),
        )
        for arrival in arrivals
    ]


async def accept(
    mail: "Mail",
    raw: bytes,
    targets: Sequence[Target],
    *,
    received_at: datetime,
    outgoing: Outgoing | None = None,
    enforce_quota: bool = False,
) -> Accepted:
    """Store a message for all its targets and queue the rest, in one commit: all or nothing.

    Returns after the commit of PostgreSQL, which is the promise. Several targets of one account
    become one message, in the mailbox of the first. Raises Unavailable, NotFound when an account
    or mailbox is gone, and OverQuota, but that only where `enforce_quota` asks for it: mail that
    RCPT let in is not refused for a race.
    """
    if not targets and outgoing is None:
        raise Invalid("a message needs a recipient")
    first: dict[AccountId, Target] = {}
    for target in targets:
        first.setdefault(target.account_id, target)
    arrival = Arrival(
        raw,
        await _digest(raw),
        tuple(first.values()),
        outgoing,
        received_at,
        enforce_quota,
        asyncio.get_running_loop().create_future(),
    )
    return await mail.committer.commit(arrival)


async def accept_together(
    mail: "Mail",
    account: AccountId,
    mailbox: MailboxId,
    messages: Sequence[Incoming],
    *,
    replaced: Replaced | None = None,
) -> list[Delivered]:
    """Store messages in one mailbox in one commit, within the quota: all or none.

    Their UIDs ascend in the order given. A message that they replace is taken out of its mailbox
    in the same commit; NotFound when it is not there. Raises what `accept` raises.
    """
    loop = asyncio.get_running_loop()
    arrivals = [
        Arrival(
            message.raw,
            await _digest(message.raw),
            (Target(account, mailbox, message.flags),),
            None,
            message.received_at,
            True,
            loop.create_future(),
        )
        for message in messages
    ]
    accepted = await mail.committer.commit_together(arrivals, replaced)
    return [each.delivered[0] for each in accepted]


async def _digest(raw: bytes) -> Digest:
    if len(raw) > LARGE:
        return await asyncio.to_thread(digest, raw)
    return digest(raw)
