"""Email/parse (RFC 8621 §4.9): messages that are in no mailbox, shown like emails."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mailserver import errors
from mailserver.jmap.methods import blob, body, email
from mailserver.jmap.methods.body import Bodies
from mailserver.jmap.methods.set import Json
from mailserver.jmap.methods.view import View
from mailserver.jmap.protocol.errors import MethodError
from mailserver.jmap.protocol.ids import BlobName, parse_blob, part_text
from mailserver.jmap.protocol.properties import (
    boolean,
    nullable,
    optional,
    required,
    text,
    texts,
    unique_ids,
    unsigned,
)
from mailserver.jmap.session import Session
from mailserver.mail import uploads
from mailserver.mail.search import Place, Stored
from mailserver.mime import Digest, HeaderBlock, PartRow, digest
from mailserver.model import BlobId

LARGE = 256 * 1024  # octets; a larger message is read in a thread
MAX_OCTETS = 64 * 1024 * 1024  # of all messages of one call, unless there is only one
DEFAULT_PROPERTIES = (
    "messageId", "inReplyTo", "references", "sender", "from", "to", "cc", "bcc", "replyTo",
    "subject", "sentAt", "hasAttachment", "preview", "bodyValues", "textBody", "htmlBody",
    "attachments",
)  # fmt: skip
_OF_EMAILS = frozenset({"id", "threadId", "mailboxIds", "keywords", "receivedAt"})  # null here


@dataclass(frozen=True, slots=True, kw_only=True)
class Parse:
    """The arguments of Email/parse."""

    account_id: str = required("accountId", text)
    blob_ids: tuple[str, ...] = required("blobIds", texts)
    properties: tuple[str, ...] | None = optional("properties", nullable(texts), None)
    body_properties: tuple[str, ...] | None = optional("bodyProperties", nullable(texts), None)
    fetch_text: bool = optional("fetchTextBodyValues", boolean, False)
    fetch_html: bool = optional("fetchHTMLBodyValues", boolean, False)
    fetch_all: bool = optional("fetchAllBodyValues", boolean, False)
    max_bytes: int = optional("maxBodyValueBytes", unsigned, 0)


class ParsedView(View):
    """A message that was read a moment ago."""

    __slots__ = ("_name_part",)

    def __init__(
        self, raw: bytes, found: Digest, blob_id: BlobId, name_part: Callable[[PartRow], str]
    ) -> None:
        nowhere = Place(0, [], received=0, size=len(raw), flags=0, keywords=frozenset())
        super().__init__(0, nowhere, Stored(blob_id, found.env), found.header)
        self._name_part = name_part

    def part_blob(self, part: PartRow) -> str:
        """Return the id of the blob that a body part is, inside of what the message is in."""
        return self._name_part(part)


async def parse(session: Session, asked: Parse) -> Json:
    """Read blobs as messages and show their properties."""
    names = DEFAULT_PROPERTIES if asked.properties is None else asked.properties
    chosen = email.plan(tuple(name for name in names if name not in _OF_EMAILS))
    bodies = Bodies(
        session,
        chosen.body,
        asked.body_properties,
        body.Values(asked.fetch_text, asked.fetch_html, asked.fetch_all, asked.max_bytes),
    )
    parsed: dict[str, Json] = {}
    not_parsable: list[str] = []
    not_found: list[str] = []
    octets = 0
    for blob_id in unique_ids(asked.blob_ids, session.limits.max_objects_in_get):
        raw = await blob.read(session, blob_id)
        if raw is None:
            not_found.append(blob_id)
            continue
        octets += len(raw)
        if octets > MAX_OCTETS and octets > len(raw):
            raise MethodError("requestTooLarge", "these messages are too large for one call")
        found = await asyncio.to_thread(digest, raw) if len(raw) > LARGE else digest(raw)
        if not len(HeaderBlock(found.header)):
            not_parsable.append(blob_id)
            continue
        view = await _view(session, session.resolved(blob_id), raw, found)
        shown: Json = {name: None for name in names if name in _OF_EMAILS}
        shown |= {each: show(view) for each, show in chosen.fixed.items() if each not in _OF_EMAILS}
        if "blobId" in shown:
            shown["blobId"] = session.resolved(blob_id)
        if chosen.body:
            shown |= await _body(bodies, view, raw)
        parsed[blob_id] = shown
    return {
        "accountId": session.account_id,
        "parsed": parsed or None,
        "notParsable": not_parsable or None,
        "notFound": not_found or None,
    }


async def _body(bodies: Bodies, view: View, raw: bytes) -> dict[str, Any]:
    if len(raw) > LARGE:
        return await asyncio.to_thread(bodies.of, view, raw)
    return bodies.of(view, raw)


async def _view(session: Session, blob_id: str, raw: bytes, found: Digest) -> ParsedView:
    """Return what is shown; the ids of its parts name stretches of what the message is in."""
    name = parse_blob(blob_id)
    assert name is not None  # it was read
    if name.part is not None and name.part.encoding != "binary":
        if session.view.share is not None and session.view.share.is_read_only:
            # who may only read leaves nothing in the account of another
            return ParsedView(raw, found, name.blob_id, lambda part: blob_id)
        # a stretch of what is encoded has no name of its own: it is kept like an upload
        try:
            reader = session.principal.account_id
            stored = await uploads.store(session.mail, session.account, raw, reader)
        except errors.OverQuota:
            return ParsedView(raw, found, name.blob_id, lambda part: blob_id)
        name = BlobName(stored, None)
    inside = name.blob_id
    start = 0 if name.part is None else name.part.start

    def name_part(part: PartRow) -> str:
        return part_text(inside, part.encoding, start + part.body_start, start + part.body_end)

    return ParsedView(raw, found, inside, name_part)
