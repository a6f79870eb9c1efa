"""All that is kept of a message besides its octets, made once at delivery."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgpack  # type: ignore[import-untyped]
import orjson

from mailserver.mime import bodies, dates, forms, jmap, structure, subject, text
from mailserver.mime.addresses import Mailbox
from mailserver.mime.forms import EmailAddress
from mailserver.mime.headers import HEADER_LIMIT, HeaderBlock, one_line
from mailserver.mime.message import Message, Part, PartRow
from mailserver.mime.scan import parse

ENV_VERSION = 1
_BIN_8, _BIN_16 = 0xC4, 0xC5  # octets of msgpack, with 8 and 16 bits of length
_SHORT = (_BIN_16, _BIN_8)  # longer than 64 KiB are others
REFERENCE_LIMIT = 100
_MESSAGE_ID_LENGTH = 998  # a msg-id is no longer than a line, RFC 5322 §2.1.1
# Octets of a body that are decoded for the preview: at first, and at most.
_PREVIEW_SOURCE = {"plain": (2 * 1024, 128 * 1024), "html": (12 * 1024, 128 * 1024)}
_NULL = b"null"
_LANGUAGE = PartRow._fields.index("language")

_ADDRESS_PROPERTIES = (
    ("sender", b"sender"), ("from", b"from"), ("to", b"to"), ("cc", b"cc"), ("bcc", b"bcc"),
    ("replyTo", b"reply-to"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Digest:
    """What delivery stores beside the message itself."""

    env: bytes  # read with `Env.unpack`
    header: (
        bytes  # with the blank line; cut at HEADER_LIMIT, the true length is parts[0].body_start
    )
    message_id: str | None  # without angle brackets
    references: tuple[str, ...]  # References, then In-Reply-To; oldest first, at most 100
    subject_base: str  # RFC 5256 §2.1
    sent_at: datetime | None  # UTC
    size: int
    preview: str  # at most 256 characters
    has_attachment: bool


def structures(envs: Iterable[bytes]) -> list[tuple[bytes, bytes] | None]:
    """Return ENVELOPE and BODYSTRUCTURE of stored envs that may be cut; None where cut too early.

    ValueError for a version that this program does not know.
    """
    # a quarter of what it costs to unpack all: this runs for each message of a mailbox, and so does
    # not call anything
    found: list[tuple[bytes, bytes] | None] = []
    for env in envs:
        if not env or env[0] != ENV_VERSION:
            raise ValueError("unknown version of a stored env")
        try:
            start, size = 4, env[3]
            if env[2] == _BIN_16:
                start, size = 5, size << 8 | env[4]
            end = start + size
            next_start, size = end + 2, env[end + 1]
            if env[end] == _BIN_16:
                next_start, size = end + 3, size << 8 | env[end + 2]
        except IndexError:
            found.append(None)
            continue
        next_end = next_start + size
        if next_end > len(env) or env[2] not in _SHORT or env[end] not in _SHORT:
            found.append(None)
        else:
            found.append((env[start:end], env[next_start:next_end]))
    return found


class Env:
    """The stored `env`: a version octet, then msgpack of what lists and fetches need.

    ENVELOPE and BODYSTRUCTURE are at hand after `unpack`; the table of parts and the JMAP
    properties stay packed until they are asked for. `properties` maps each JMAP property to its
    JSON, so that a caller picks what it needs and never parses it:

        orjson.dumps({name: orjson.Fragment(env.properties[name]) for name in wanted})
    """

    __slots__ = ("_jmap", "_parts", "body", "bodystructure", "envelope", "preview")

    def __init__(self, fields: Sequence[Any]) -> None:
        self.envelope: bytes = fields[0]
        self.bodystructure: bytes = fields[1]
        self.body: bytes = fields[2]
        self._parts: bytes = fields[3]
        self._jmap: bytes = fields[4]
        self.preview: str = fields[5]

    @classmethod
    def unpack(cls, env: bytes) -> Env:
        """Read a stored env; ValueError for a version that this program does not know."""
        if not env or env[0] != ENV_VERSION:
            raise ValueError("unknown version of a stored env")
        return cls(msgpack.unpackb(memoryview(env)[1:]))

    @property
    def parts(self) -> list[PartRow]:
        """The table of parts, depth-first."""
        rows = msgpack.unpackb(self._parts)
        for row in rows:
            row[_LANGUAGE] = tuple(row[_LANGUAGE])
        return [PartRow._make(row) for row in rows]

    @property
    def properties(self) -> dict[str, bytes]:
        """JSON of messageId inReplyTo references sender from to cc bcc replyTo subject sentAt
        hasAttachment preview, by name."""
        found: dict[str, bytes] = msgpack.unpackb(self._jmap)
        return found

    @property
    def jmap(self) -> bytes:
        """All the properties as one JSON object."""
        members = [b'"%b":%b' % (k.encode(), v) for k, v in self.properties.items()]
        return b"{" + b",".join(members) + b"}"


def digest(raw: bytes) -> Digest:
    """Read a message and return all that is stored of it; never raises."""
    message = parse(raw)
    header = message.header
    mailboxes = structure.header_addresses(header)
    rows = part_rows(raw, message)
    lists = jmap.body_lists(rows)
    attached = jmap.has_attachment(rows, lists)
    preview = _preview(raw, lists)
    subject_value = header.get_last(b"subject")
    subject_text = None if subject_value is None else forms.as_text(subject_value)
    date_value = header.get_last(b"date")
    sent = None if date_value is None else forms.read_date(date_value)
    ids = {name: _ids(header, name) for name in (b"message-id", b"in-reply-to", b"references")}
    properties = {
        "messageId": _json(ids[b"message-id"]),
        "inReplyTo": _json(ids[b"in-reply-to"]),
        "references": _json(ids[b"references"]),
        **_address_properties(mailboxes),
        "subject": _json(subject_text),
        "sentAt": _NULL if sent is None else b'"%b"' % dates.json_text(sent).encode(),
        "hasAttachment": b"true" if attached else b"false",
        "preview": orjson.dumps(preview),
    }
    extended, plain = structure.both(message.root)
    fields = (
        structure.header_envelope(header, mailboxes), extended, plain,
        msgpack.packb(rows), msgpack.packb(properties), preview,
    )  # fmt: skip
    return Digest(
        env=bytes((ENV_VERSION,)) + msgpack.packb(fields),
        header=raw[: min(header.body_start, HEADER_LIMIT)],
        message_id=_message_id(header, ids[b"message-id"]),
        references=_references(ids[b"references"], ids[b"in-reply-to"]),
        subject_base=subject.base(subject_text) if subject_text else "",
        sent_at=dates.utc(sent),
        size=len(raw),
        preview=preview,
        has_attachment=attached,
    )


def part_rows(raw: bytes, message: Message) -> list[PartRow]:
    """Return the table of parts, with the names decoded and the bodies measured."""
    return [_row(raw, part) for part in message.parts]


def _row(raw: bytes, part: Part) -> PartRow:
    cid = part.content_id
    size = part.body_end - part.body_start
    if part.type != "multipart":
        size = bodies.decoded_size(raw, part.body_start, part.body_end, part.encoding)
    return PartRow(
        part.section, part.parent, part.type, part.subtype, part.charset, part.encoding,
        part.disposition, part.name,
        (cid.strip(b" <>").decode("utf-8", "replace") or None) if cid is not None else None,
        part.language, part.location, part.header_start, part.body_start, part.body_end,
        part.lines, size,
    )  # fmt: skip


def _json(value: str | list[str] | None) -> bytes:
    return _NULL if value is None else orjson.dumps(value)


def _address_properties(mailboxes: dict[bytes, list[Mailbox]]) -> dict[str, bytes]:
    properties = {}
    for name, field in _ADDRESS_PROPERTIES:
        found = mailboxes.get(field)
        addresses: list[EmailAddress] | None = None
        if found is not None:
            addresses = forms.email_addresses(found)
        properties[name] = _NULL if addresses is None else orjson.dumps(addresses)
    return properties


def _ids(header: HeaderBlock, name: bytes) -> list[str] | None:
    value = header.get_last(name)
    return None if value is None else forms.as_message_ids(value)


def _message_id(header: HeaderBlock, ids: list[str] | None) -> str | None:
    """Return the id that threads are made by; QUIRK(mailers): angle brackets may be missing."""
    if ids:
        return ids[0][:_MESSAGE_ID_LENGTH]
    value = header.get_last(b"message-id")
    text = one_line(value).strip(b"<> ") if value is not None else b""
    return text.decode("utf-8", "replace")[:_MESSAGE_ID_LENGTH] or None


def _references(references: list[str] | None, in_reply_to: list[str] | None) -> tuple[str, ...]:
    """Join both fields without doubles; of very many keep the first and the nearest."""
    ids = dict.fromkeys((*(references or ()), *(in_reply_to or ())))
    found = tuple(each[:_MESSAGE_ID_LENGTH] for each in ids)
    if len(found) > REFERENCE_LIMIT:
        found = (found[0], *found[1 - REFERENCE_LIMIT :])
    return found


def _preview(raw: bytes, lists: jmap.BodyLists) -> str:
    """Return the preview of the first text part to display, "" when there is none."""
    for part in (*lists.text, *lists.html):
        if part.type != "text":
            continue
        show = text.html_preview if part.subtype == "html" else text.plain_preview
        found = ""
        for limit in _PREVIEW_SOURCE[part.subtype]:
            end = min(part.body_end, part.body_start + limit)
            octets = raw[part.body_start : end]
            found = show(bodies.decode_text(octets, part.charset, part.encoding)[0])
            if end == part.body_end or len(found) >= text.PREVIEW_LIMIT - 16:
                break
        if found:
            return found
    return ""
