"""Emails that come into being over JMAP: by Email/set, Email/import and Email/copy."""

import asyncio
import logging
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from mailserver import errors
from mailserver.jmap.methods import blob
from mailserver.jmap.methods.mailbox import visible_mailboxes
from mailserver.jmap.methods.set import Json, set_error
from mailserver.jmap.protocol.draft_parts import BLOB
from mailserver.jmap.protocol.drafts import Draft
from mailserver.jmap.protocol.errors import MethodError, SetError, invalid_properties
from mailserver.jmap.protocol.ids import blob_text, email_text, thread_text
from mailserver.jmap.session import Session
from mailserver.mail import delivery, uploads
from mailserver.mail.delivery import Delivered, Target
from mailserver.mail.rights import limited
from mailserver.mime import compose, fields
from mailserver.mime.compose import HeaderField, Leaf, Part
from mailserver.model import BlobId, Flags, MailboxId, Right

log = logging.getLogger(__name__)

BATCH_OCTETS = 16 * 1024 * 1024  # of messages that wait to be stored
LARGE = 256 * 1024  # octets; a larger message is put together in a thread
MAX_KEYWORDS = 200


@dataclass(frozen=True, slots=True)
class Arriving:
    """A message that is to be stored."""

    raw: bytes
    mailboxes: Collection[MailboxId]
    flags: Flags
    received_at: datetime
    upload: BlobId | None = None  # what it was until now


class Places:
    """The mailboxes of an account, and whether emails may be put there."""

    def __init__(self, rights: Mapping[MailboxId, Right]) -> None:
        self._rights = rights

    @classmethod
    async def of(cls, session: Session) -> "Places":
        """Read the mailboxes of the account of a call."""
        found = await visible_mailboxes(session)
        return cls({each.id: each.owner_rights for each in found})

    def check(self, mailboxes: Collection[MailboxId], flags: Flags) -> None:
        """Raise the SetError for what cannot be stored like that."""
        if any(each not in self._rights for each in mailboxes):
            raise invalid_properties(["mailboxIds"], "there is no such mailbox")
        if any(Right.INSERT not in self._rights[each] for each in mailboxes):
            raise SetError("forbidden")
        if self.allowed(mailboxes, flags) != flags:
            raise SetError("forbidden")  # RFC 4314 §4: flags need rights of their own
        if len(flags.keywords) > MAX_KEYWORDS:
            raise SetError("tooManyKeywords")

    def allowed(self, mailboxes: Collection[MailboxId], flags: Flags) -> Flags:
        """Return those of the flags that may be set in each of the mailboxes."""
        for each in mailboxes:
            flags = limited(Flags(), flags, self._rights[each])
        return flags


async def store(session: Session, arriving: Arriving, modseqs: set[int]) -> Json | SetError:
    """Store a message within the quota; return what RFC 8621 §4.6 says of a created Email."""
    if len(arriving.raw) > session.limits.max_size_message:
        return SetError("tooLarge")
    first, *others = sorted(arriving.mailboxes)
    spent = None
    if arriving.upload is not None:
        spent = uploads.Spent(session.account, arriving.upload)
    target = Target(session.account, first, arriving.flags, tuple(others))
    try:
        accepted = await delivery.accept(
            session.mail,
            arriving.raw,
            [target],
            received_at=arriving.received_at,
            enforce_quota=True,
            companion=spent,
        )
    except errors.NotFound:
        return invalid_properties(["mailboxIds"], "a mailbox has gone")
    except errors.MailError as error:
        return set_error(error)
    made = accepted.delivered[0]
    modseqs.add(made.modseq)
    return created(made, len(arriving.raw))


def created(made: Delivered, size: int) -> Json:
    """Return the properties of an Email that its creator cannot know."""
    return {
        "id": email_text(made.email_id),
        "blobId": blob_text(made.blob_id),
        "threadId": thread_text(made.thread_id),
        "size": size,
    }


class Stores:
    """Messages on their way into the account: those at hand together share commits.

    A context: at its end all are stored, and a failure after something was stored says so.
    """

    def __init__(self, session: Session, modseqs: set[int]) -> None:
        self._session = session
        self._modseqs = modseqs
        self._waiting: dict[str, Arriving] = {}
        self._octets = 0
        self.results: dict[str, Json | SetError] = {}

    async def add(self, creation_id: str, arriving: Arriving) -> None:
        """Take a message; store what waits when that is enough."""
        self._waiting[creation_id] = arriving
        self._octets += len(arriving.raw)
        if self._octets > BATCH_OCTETS:
            await self._finish()

    async def __aenter__(self) -> "Stores":
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                await self._finish()
                return
            raise error
        except MethodError:
            raise
        except Exception:
            if not self._modseqs:
                raise
            log.exception("a part of the emails was not stored")
            raise MethodError("serverPartialFail") from None

    async def _finish(self) -> None:
        """Store what waits."""
        waiting, self._waiting, self._octets = self._waiting, {}, 0
        stores = [store(self._session, each, self._modseqs) for each in waiting.values()]
        for creation_id, result in zip(
            waiting, await asyncio.gather(*stores, return_exceptions=True), strict=True
        ):
            if isinstance(result, BaseException) and not isinstance(result, SetError):
                raise result
            self.results[creation_id] = result


# Composing ---------------------------------------------------------------------------------------


async def composed(session: Session, draft: Draft, now: datetime) -> bytes:
    """Put a message together; raise the SetError for what cannot be."""
    found = dict(draft.contents.texts)
    missing: list[str] = []
    attached = 0
    for blob_id in dict.fromkeys(draft.contents.blobs):
        octets = await blob.read_for_record(session, blob_id)
        if octets is None:
            missing.append(blob_id)
            continue
        found[BLOB + blob_id] = octets
        attached += len(octets) * draft.contents.blobs.count(blob_id)
        if attached > session.limits.max_size_attachments:
            raise SetError("tooLarge")
    if missing:
        raise SetError("blobNotFound", notFound=missing)
    total = _size(draft.root, found)
    if total > session.limits.max_size_message:
        raise SetError("tooLarge")
    header = [*_added(draft, session.mail.config.server.hostname, now), *draft.fields]
    token = secrets.token_hex(12)
    if total > LARGE:
        return await asyncio.to_thread(compose.message, header, draft.root, found, token)
    return compose.message(header, draft.root, found, token)


def _size(part: Part, found: Mapping[str, bytes]) -> int:
    if isinstance(part, Leaf):
        return len(found[part.source])
    return sum(_size(each, found) for each in part.parts)


def _added(draft: Draft, hostname: str, now: datetime) -> list[HeaderField]:
    """Return the fields that every message has (RFC 8621 §4.6)."""
    added = []
    if not draft.has("date"):
        added.append(HeaderField("Date", fields.date(now)))
    if not draft.has("message-id"):
        message_id = f"{secrets.token_hex(16)}@{hostname}"
        written = fields.message_ids("Message-ID", [message_id])
        assert written is not None
        added.append(HeaderField("Message-ID", written))
    return added
