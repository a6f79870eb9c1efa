"""Taking a message in: the same for SMTP, submission, APPEND and import."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

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
from mailserver.storage.compression import HEADERS, compress, compress_header, compressor

if TYPE_CHECKING:
    from mailserver.mail.context import Change, Mail
    from mailserver.storage.database import Connection

LARGE = 128 * 1024  # bytes; a larger message is read, hashed and compressed in a thread
NO_FLAGS = Flags()

Compress = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a copy goes: an account's mailbox, by default its INBOX; perhaps to others too."""

    account_id: AccountId
    mailbox_id: MailboxId | None = None
    flags: Flags = NO_FLAGS
    also_in: tuple[MailboxId, ...] = ()
    # what the mailbox has to be called, without a parent, if it was found by a name some time ago
    name: str | None = None


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
class Onward:
    """A copy of a message that is sent on to another server, as it leaves here."""

    raw: bytes
    outgoing: Outgoing


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
    """What is written of a message beside its digest."""

    blob_id: BlobId
    stored: bytes  # zstd of the message
    header: bytes  # zstd of its header block; empty for what is only queued


class Companion(Protocol):
    """What is written with a message, in the same commit: its submission, its reason."""

    @property
    def account_id(self) -> AccountId | None:
        """Return whose change it is; None: nobody's."""
        ...

    async def admit(self, tx: "Connection") -> bool:
        """Tell, in the transaction, whether the message is wanted; else it fails with NotFound."""
        ...

    async def write(self, change: "Change", queue_id: QueueId | None) -> None:
        """Write and report it; called when there is an account. The lock is held."""
        ...


@dataclass(slots=True)
class Arrival:
    """A message that waits for the next commit."""

    raw: bytes
    digest: Digest
    sealed: Sealed
    targets: tuple[Target, ...]
    outgoing: Outgoing | None
    received_at: datetime
    enforce_quota: bool
    done: "asyncio.Future[Accepted]" = field(repr=False)
    sender: str | None = None  # reverse-path of what is delivered; None for what is only stored
    companion: Companion | None = None
    also: "tuple[Arrival, ...]" = ()  # what is queued in the same commit


def hashed(raw: bytes) -> tuple[BlobId, bytes]:
    """Return the id of a body and its stored form."""
    return BlobId(hashlib.sha256(raw).digest()), compressor()(raw)


async def accept(
    mail: "Mail",
    raw: bytes,
    targets: Sequence[Target],
    *,
    received_at: datetime,
    outgoing: Outgoing | None = None,
    enforce_quota: bool = False,
    sender: str | None = None,
    companion: Companion | None = None,
    onward: Sequence[Onward] = (),
) -> Accepted:
    """Store a message for all its targets and queue the rest, in one commit: all or nothing.

    A `sender` makes it a delivery, to which vacation responses answer; without one the message is
    only stored. Returns after the commit of PostgreSQL, which is the promise. Several targets of
    one account become one message, in the mailbox of the first. Raises Unavailable, NotFound when
    an account or mailbox is gone, and OverQuota, but that only where `enforce_quota` asks for it:
    mail that RCPT let in is not refused for a race.
    """
    if not targets and outgoing is None:
        if not onward:
            raise Invalid("a message needs a recipient")
        raw, outgoing, onward = onward[0].raw, onward[0].outgoing, onward[1:]
    first: dict[AccountId, Target] = {}
    for target in targets:
        first.setdefault(target.account_id, target)
    with mail.tracing.span("commit", size=len(raw), accounts=len(first)):
        loop = asyncio.get_running_loop()
        await mail.committer.turn()
        found, sealed = await _read(raw)
        also = [
            Arrival(
                each.raw,
                found,
                await _sealed(each.raw),
                (),
                each.outgoing,
                received_at,
                False,
                loop.create_future(),
            )
            for each in onward
        ]
        arrival = Arrival(
            raw,
            found,
            sealed,
            tuple(first.values()),
            outgoing,
            received_at,
            enforce_quota,
            loop.create_future(),
            sender,
            companion,
            tuple(also),
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
            *await _read(message.raw),
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


async def _read(raw: bytes) -> tuple[Digest, Sealed]:
    """Do for a message what needs no database; the loop waits for a small one."""
    if len(raw) > LARGE:
        return await asyncio.to_thread(_read_with, raw, compressor(), compressor(HEADERS))
    return _read_with(raw, compress, compress_header)


def _read_with(raw: bytes, whole: Compress, header: Compress) -> tuple[Digest, Sealed]:
    found = digest(raw)
    return found, _seal(raw, whole, header(found.header))


async def _sealed(raw: bytes) -> Sealed:
    """Hash and compress what is only queued."""
    if len(raw) > LARGE:
        return await asyncio.to_thread(_seal, raw, compressor(), b"")
    return _seal(raw, compress, b"")


def _seal(raw: bytes, whole: Compress, header: bytes) -> Sealed:
    return Sealed(BlobId(hashlib.sha256(raw).digest()), whole(raw), header)
