"""An Email as a client writes it, made into header fields and a tree of parts (RFC 8621 §4.6).

Nothing is looked up here: parts name their contents, `text:<partId>` or `blob:<blobId>`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mailserver.jmap.protocol.dates import parse_utc, parse_zoned
from mailserver.jmap.protocol.errors import MethodError, invalid_properties
from mailserver.jmap.protocol.headers import PREFIX, RAW, split_header_property
from mailserver.jmap.protocol.keywords import keywords, mailbox_ids
from mailserver.jmap.protocol.properties import WrongType, mapping, mappings, text, texts
from mailserver.jmap.protocol.records import Resolve
from mailserver.mime import fields
from mailserver.mime.compose import HeaderField, Leaf, Multipart, Part
from mailserver.mime.fields import Address, Group
from mailserver.model import Flags, MailboxId

MAX_DEPTH = 20  # of parts in parts
MAX_PARTS = 1000
TEXT = "text:"
BLOB = "blob:"

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~]{1,100}")
_SERVER_SET = ("id", "blobId", "threadId", "size", "hasAttachment", "preview", "headers")

# property -> the field and form that it stands for (RFC 8621 §4.1.3)
_CONVENIENT: dict[str, tuple[str, str]] = {
    "sentAt": ("Date", "asDate"),
    "from": ("From", "asAddresses"),
    "sender": ("Sender", "asAddresses"),
    "replyTo": ("Reply-To", "asAddresses"),
    "to": ("To", "asAddresses"),
    "cc": ("Cc", "asAddresses"),
    "bcc": ("Bcc", "asAddresses"),
    "subject": ("Subject", "asText"),
    "messageId": ("Message-ID", "asMessageIds"),
    "inReplyTo": ("In-Reply-To", "asMessageIds"),
    "references": ("References", "asMessageIds"),
}
_ORDER = {name.lower(): place for place, (name, _) in enumerate(_CONVENIENT.values())}
_BODY = ("bodyStructure", "textBody", "htmlBody", "attachments", "bodyValues")


_NO_TEXT = TEXT
_EMPTY = Leaf("text/plain", _NO_TEXT, is_text=True)


@dataclass(slots=True)
class Draft:
    """A message that is to be made."""

    mailboxes: frozenset[MailboxId]
    flags: Flags
    received_at: datetime | None
    fields: list[HeaderField] = field(default_factory=list)
    root: Part = _EMPTY
    texts: dict[str, bytes] = field(default_factory=lambda: {_NO_TEXT: b""})  # by source
    blobs: list[str] = field(default_factory=list)  # ids, once for each part that is one

    def has(self, name: str) -> bool:
        """Tell whether a field of that lower-case name is there."""
        return any(each.name.lower() == name for each in self.fields)


def read_draft(given: Mapping[str, object], resolve: Resolve) -> Draft:
    """Read an Email that is to be created; raise `invalidProperties` with all that is wrong."""
    reader = _Reader(given, resolve)
    draft = reader.read()
    if reader.wrong:
        name, why = next(iter(reader.wrong.items()))
        raise invalid_properties(list(reader.wrong), f"{name[:80]} {why}")
    return draft


# Forms -------------------------------------------------------------------------------------------


def _address(value: object) -> Address:
    given = mapping(value)
    name = given.get("name")
    if given.keys() - {"name", "email"} or not isinstance(name, str | None):
        raise WrongType("EmailAddress objects")
    return Address(name, text(given.get("email")))


def _group(value: object) -> Group:
    given = mapping(value)
    name = given.get("name")
    if given.keys() - {"name", "addresses"} or not isinstance(name, str | None):
        raise WrongType("EmailAddressGroup objects")
    return Group(name, tuple(map(_address, mappings(given.get("addresses")))))


def _date(name: str, value: object) -> bytes:
    found = parse_zoned(text(value))
    if found is None:
        raise WrongType("a Date")
    return fields.date(found)


def _ids(name: str, value: object) -> bytes:
    return _written(fields.message_ids(name, texts(value)), "message ids without angle brackets")


def _urls(name: str, value: object) -> bytes:
    return _written(fields.urls(name, texts(value)), "URLs without angle brackets")


def _raw(name: str, value: object) -> bytes:
    return _written(fields.raw(name, text(value)), "the value of a header field, folded rightly")


def _written(value: bytes | None, expected: str) -> bytes:
    if value is None:
        raise WrongType(expected)
    return value


_FORMS: dict[str, Callable[[str, object], bytes]] = {
    RAW: _raw,
    "asText": lambda name, value: fields.text(name, text(value)),
    "asAddresses": lambda name, value: fields.addresses(
        name, [_address(each) for each in mappings(value)]
    ),
    "asGroupedAddresses": lambda name, value: fields.groups(
        name, [_group(each) for each in mappings(value)]
    ),
    "asMessageIds": _ids,
    "asDate": _date,
    "asURLs": _urls,
}


# Reading -----------------------------------------------------------------------------------------


class _Wrong(Exception):
    """Something in a body is wrong; the text completes "<property> …"."""


class _Reader:
    """Reads one Email and notes which of its properties are wrong."""

    def __init__(self, given: Mapping[str, object], resolve: Resolve) -> None:
        self.given = given
        self.resolve = resolve
        self.wrong: dict[str, str] = {}
        self.parts = 0

    def read(self) -> Draft:
        """Return what could be read."""
        given = self.given
        draft = Draft(self._mailboxes(), Flags(), None)
        if given.get("keywords") is not None:
            draft.flags = self._try("keywords", keywords) or Flags()
        if given.get("receivedAt") is not None:
            draft.received_at = self._try("receivedAt", _utc)
        for name in given:
            if name in _SERVER_SET:
                self.wrong[name] = "is not for the client to set"
            elif not (
                name in _CONVENIENT
                or name in _BODY
                or name in ("mailboxIds", "keywords", "receivedAt")
                or name.startswith(PREFIX)
            ):
                self.wrong[name] = "is not a property"
        draft.fields = self._fields(given, self.wrong, of_part=False)
        draft.fields.sort(key=lambda each: _ORDER.get(each.name.lower(), len(_ORDER)))
        try:
            self._body(draft)
        except _Wrong as error:
            name, _, why = str(error).partition(" ")
            self.wrong[name] = why
        return draft

    def _try(self, name: str, read: Callable[[object], Any]) -> Any:
        try:
            return read(self.given[name])
        except WrongType as error:
            self.wrong[name] = f"must be {error}"
            return None

    def _mailboxes(self) -> frozenset[MailboxId]:
        value = self.given.get("mailboxIds")
        if isinstance(value, dict):
            known = {self.resolve(each): there for each, there in value.items()}
            if None in known:
                self.wrong["mailboxIds"] = "names a mailbox that was not created"
                return frozenset()
            value = known
        try:
            return mailbox_ids(value)
        except WrongType as error:
            self.wrong["mailboxIds"] = f"must be {error}"
            return frozenset()

    def _fields(
        self, given: Mapping[str, object], wrong: dict[str, str], *, of_part: bool
    ) -> list[HeaderField]:
        """Write the header fields that properties stand for; no field may have two of them."""
        found: list[HeaderField] = []
        sources: dict[str, str] = {}
        for name, value in given.items():
            try:
                known = _field_of(name, of_part=of_part)
            except MethodError:
                wrong[name] = "is not a property"
                continue
            if known is None or value is None:
                continue
            header, form, every = known
            lower = header.lower()
            if not of_part and lower.startswith("content-"):
                wrong[name] = "belongs to a body part"
            elif lower == "content-transfer-encoding" or lower == "mime-version":
                wrong[name] = "is chosen by the server"
            elif lower in sources:
                wrong[name] = f"stands for the same field as {sources[lower]}"
            else:
                sources[lower] = name
                try:
                    found += _values(header, form, value, every=every)
                except WrongType as error:
                    wrong[name] = f"must be {error}"
        return found

    # Bodies ------------------------------------------------------------------------------------

    def _body(self, draft: Draft) -> None:
        given = {name: self.given[name] for name in _BODY if self.given.get(name) is not None}
        values = self._values(given)
        if "bodyStructure" in given:
            clash = next((name for name in _BODY[1:4] if name in given), None)
            if clash is not None:
                raise _Wrong(f"{clash} is given beside bodyStructure")
            draft.root = self._part(given["bodyStructure"], "bodyStructure", draft, values, 0)
            there = {each.name.lower() for each in draft.fields}
            if any(each.name.lower() in there for each in draft.root.fields):
                raise _Wrong("bodyStructure has a header field that the Email has too")
            return
        shown = [
            self._shown(given, name, media_type, draft, values)
            for name, media_type in (("textBody", "text/plain"), ("htmlBody", "text/html"))
            if name in given
        ]
        files = self._files(given, draft, values)
        draft.root = _arranged([each for each in shown if each is not None], files)

    def _values(self, given: Mapping[str, object]) -> dict[str, bytes]:
        values = given.get("bodyValues", {})
        if not isinstance(values, dict):
            raise _Wrong("bodyValues must be an object")
        found: dict[str, bytes] = {}
        for part_id, value in values.items():
            if not isinstance(value, dict) or not isinstance(value.get("value"), str):
                raise _Wrong("bodyValues must be EmailBodyValue objects")
            for name, flag in value.items():
                if name != "value" and (
                    name not in ("isEncodingProblem", "isTruncated") or flag is not False
                ):
                    raise _Wrong("bodyValues must be whole and without problems")
            found[part_id] = value["value"].encode()
        return found

    def _shown(
        self,
        given: Mapping[str, object],
        name: str,
        media_type: str,
        draft: Draft,
        values: Mapping[str, bytes],
    ) -> Leaf | None:
        parts = given[name]
        if not isinstance(parts, list) or len(parts) != 1 or not isinstance(parts[0], dict):
            raise _Wrong(f"{name} must be an array of one part")
        part = self._part({"type": media_type, **parts[0]}, name, draft, values, 0)
        if not isinstance(part, Leaf) or part.type != media_type:
            raise _Wrong(f"{name} must be {media_type}")
        return part

    def _files(
        self, given: Mapping[str, object], draft: Draft, values: Mapping[str, bytes]
    ) -> list[tuple[Leaf, bool]]:
        """Return the attachments, and whether the HTML shows them in its text."""
        parts = given.get("attachments", [])
        if not isinstance(parts, list):
            raise _Wrong("attachments must be an array of parts")
        files = []
        for part in parts:
            whole = part
            if isinstance(part, dict) and part.get("disposition") is None:
                whole = {**part, "disposition": "inline" if part.get("cid") else "attachment"}
            leaf = self._part(whole, "attachments", draft, values, 0)
            if not isinstance(leaf, Leaf):
                raise _Wrong("attachments have no parts of their own")
            inline = whole.get("cid") is not None and whole["disposition"] == "inline"
            files.append((leaf, inline))
        return files

    def _part(
        self, value: object, name: str, draft: Draft, values: Mapping[str, bytes], depth: int
    ) -> Part:
        self.parts += 1
        if self.parts > MAX_PARTS or depth > MAX_DEPTH:
            raise _Wrong(f"{name} has too many parts")
        if not isinstance(value, dict):
            raise _Wrong(f"{name} must be made of parts")
        part = {key: each for key, each in value.items() if each is not None}
        wrong: dict[str, str] = {}
        found = self._fields(part, wrong, of_part=True)
        unknown = next((key for key in part if key not in _OF_PART and key[:7] != PREFIX), None)
        if unknown is not None or wrong:
            key, why = next(iter(wrong.items())) if wrong else (unknown, "is not a property")
            raise _Wrong(f"{name} has {str(key)[:80]!r}, which {why}")
        described = _Described(name, part, found)
        if "subParts" in part:
            parts = part["subParts"]
            if not isinstance(parts, list) or not parts:
                raise _Wrong(f"{name} has subParts that are none")
            return described.multipart(
                [self._part(each, name, draft, values, depth + 1) for each in parts]
            )
        return described.leaf(draft, values)


_OF_PART = frozenset((
    "partId", "blobId", "size", "name", "type", "charset", "disposition", "cid", "language",
    "location", "subParts",
))  # fmt: skip
_MIME_FIELDS = {
    "type": "content-type", "charset": "content-type", "name": "content-disposition",
    "disposition": "content-disposition", "cid": "content-id", "language": "content-language",
    "location": "content-location",
}  # fmt: skip


class _Described:
    """What the properties of one part say of it."""

    def __init__(self, name: str, part: Mapping[str, Any], found: list[HeaderField]) -> None:
        self.name = name
        self.part = part
        self.fields = found
        given = {each.name.lower() for each in found}
        for key, header in _MIME_FIELDS.items():
            if key in part and header in given:
                raise _Wrong(f"{name} says {header} twice")
        for key in ("type", "charset", "name", "disposition", "cid", "location"):
            if key in part and not isinstance(part[key], str):
                raise _Wrong(f"{name} has a {key} that is no string")
        self.typed = "content-type" not in given
        self._add_mime_fields()

    def _add_mime_fields(self) -> None:
        part = self.part
        if "disposition" in part:
            disposition = part["disposition"].lower()
            if not _TOKEN.fullmatch(disposition):
                raise _Wrong(f"{self.name} has a disposition that cannot be one")
            parameters = [("filename", part["name"])] if part.get("name") else []
            header = "Content-Disposition"
            written = fields.parameterized(header, disposition, parameters)
            self.fields.append(HeaderField(header, written))
        if "cid" in part:
            self._add("Content-ID", fields.message_ids("Content-ID", [part["cid"]]), "cid")
        if "language" in part:
            languages = part["language"]
            good = isinstance(languages, list) and all(
                isinstance(each, str) and _TOKEN.fullmatch(each) for each in languages
            )
            shown = fields.text("Content-Language", ", ".join(languages)) if good else None
            self._add("Content-Language", shown, "language")
        if "location" in part:
            location = part["location"]
            good = location.isascii() and location.isprintable() and 0 < len(location) < 900
            shown = fields.folded("Content-Location", [f" {location}"]) if good else None
            self._add("Content-Location", shown, "location")

    def _add(self, header: str, written: bytes | None, key: str) -> None:
        if written is None:
            raise _Wrong(f"{self.name} has a {key} that cannot be one")
        self.fields.append(HeaderField(header, written))

    def _type(self, default: str) -> str:
        if not self.typed:
            value = next(each.value for each in self.fields if each.name.lower() == "content-type")
            default = value.decode("ascii", "replace").partition(";")[0].strip().lower()
        media_type: str = self.part.get("type", default).lower()
        if not _TYPE.fullmatch(media_type):
            raise _Wrong(f"{self.name} has a type that cannot be one")
        return media_type

    def multipart(self, parts: Sequence[Part]) -> Multipart:
        """Return a part made of parts."""
        maintype, _, subtype = self._type("multipart/mixed").partition("/")
        if maintype != "multipart" or not self.typed:
            raise _Wrong(f"{self.name} has parts in what is no multipart")
        if any(key in self.part for key in ("partId", "blobId", "charset")):
            raise _Wrong(f"{self.name} has parts and a content")
        parameters: tuple[tuple[str, str], ...] = ()
        if subtype == "related":  # RFC 2387 §3.1
            first = parts[0]
            media_type = first.type if isinstance(first, Leaf) else f"multipart/{first.subtype}"
            parameters = (("type", media_type),)
        return Multipart(subtype, tuple(parts), parameters, tuple(self.fields))

    def leaf(self, draft: Draft, values: Mapping[str, bytes]) -> Leaf:
        """Return a part with a content, which the draft notes."""
        part, name = self.part, self.name
        part_id, blob_id = part.get("partId"), part.get("blobId")
        if (part_id is None) == (blob_id is None):
            raise _Wrong(f"{name} needs a partId or a blobId, and not both")
        is_text = part_id is not None
        media_type = self._type("text/plain" if is_text else "application/octet-stream")
        if media_type.startswith("multipart/"):
            raise _Wrong(f"{name} has a multipart without subParts")
        parameters: list[tuple[str, str]] = []
        if is_text:
            if "charset" in part or "size" in part:
                raise _Wrong(f"{name} has a charset or size beside a partId")
            if not isinstance(part_id, str) or part_id not in values:
                raise _Wrong("bodyValues does not have all parts")
            source = TEXT + part_id
            draft.texts[source] = values[part_id]
            if media_type.startswith("text/"):
                parameters.append(("charset", "utf-8"))
        else:
            if not isinstance(blob_id, str):
                raise _Wrong(f"{name} has a blobId that is no string")
            source = BLOB + blob_id
            draft.blobs.append(blob_id)
            if "charset" in part:
                parameters.append(("charset", part["charset"]))
        if part.get("name") and "disposition" not in part:
            parameters.append(("name", part["name"]))
        return Leaf(media_type, source, is_text, tuple(parameters), tuple(self.fields), self.typed)


def _utc(value: object) -> datetime:
    found = parse_utc(text(value))
    if found is None:
        raise WrongType("a UTCDate")
    return found


def _field_of(name: str, *, of_part: bool) -> tuple[str, str, bool] | None:
    """Return the field, form and number that a property stands for, None for another property."""
    if name.startswith(PREFIX):
        return split_header_property(name)
    if of_part or name not in _CONVENIENT:
        return None
    return (*_CONVENIENT[name], False)


def _values(header: str, form: str, value: object, *, every: bool) -> list[HeaderField]:
    write = _FORMS[form]
    if not every:
        if value == [] and form != RAW:
            return []
        return [HeaderField(header, write(header, value))]
    if not isinstance(value, list):
        raise WrongType("an array")
    return [HeaderField(header, write(header, each)) for each in value]


def _arranged(shown: Sequence[Leaf], files: Sequence[tuple[Leaf, bool]]) -> Part:
    """Arrange a body as mail programs do: what the HTML shows beside it, files behind it."""
    embedded = [leaf for leaf, inline in files if inline]
    attached = [leaf for leaf, inline in files if not inline]
    bodies: list[Part] = list(shown)
    if embedded and bodies:
        last = bodies[-1]
        assert isinstance(last, Leaf)
        parameters = (("type", last.type),)
        bodies[-1] = Multipart("related", (last, *embedded), parameters)
    else:
        attached = [*embedded, *attached]
    if len(bodies) > 1:
        bodies = [Multipart("alternative", tuple(bodies))]
    if attached:
        return Multipart("mixed", (*bodies, *attached))
    return bodies[0] if bodies else _EMPTY
