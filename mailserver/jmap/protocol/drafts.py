"""An Email as a client writes it, made into header fields and a tree of parts (RFC 8621 §4.6).

Nothing is looked up here: the parts name their contents.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mailserver import mime
from mailserver.jmap.protocol.dates import parse_utc, parse_zoned
from mailserver.jmap.protocol.draft_parts import (
    EMPTY,
    OF_PART,
    Contents,
    Described,
    Wrong,
    arranged,
)
from mailserver.jmap.protocol.errors import MethodError, invalid_properties
from mailserver.jmap.protocol.headers import (
    PREFIX,
    RAW,
    has_addresses,
    split_header_property,
)
from mailserver.jmap.protocol.keywords import keywords, mailbox_ids
from mailserver.jmap.protocol.properties import WrongType, mapping, mappings, text, texts
from mailserver.jmap.protocol.records import Resolve
from mailserver.mime import fields
from mailserver.mime.compose import HeaderField, Leaf, Part
from mailserver.mime.fields import Address, Group
from mailserver.model import Flags, MailboxId

MAX_DEPTH = 20  # of parts in parts
MAX_PARTS = 1000
MAX_HEADER = 100_000  # characters that clients give for the header fields of one message
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


@dataclass(slots=True)
class Draft:
    """A message that is to be made."""

    mailboxes: frozenset[MailboxId]
    flags: Flags
    received_at: datetime | None
    fields: list[HeaderField] = field(default_factory=list)
    root: Part = EMPTY
    contents: Contents = field(default_factory=Contents)

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
    given = text(value)
    if not given.isascii() and has_addresses(name):
        # names are encoded one by one: a quoted string is no encoded word (RFC 2047 §5)
        found = mime.as_grouped_addresses(fields.clean(given).encode())
        return _FORMS["asGroupedAddresses"](name, found)
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


class _Reader:
    """Reads one Email and notes which of its properties are wrong."""

    def __init__(self, given: Mapping[str, object], resolve: Resolve) -> None:
        self.given = given
        self.resolve = resolve
        self.wrong: dict[str, str] = {}
        self.parts = 0
        self.room = MAX_HEADER

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
        except Wrong as error:
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
            elif not self._has_room(value):
                wrong[name] = "is too long"
            else:
                sources[lower] = name
                try:
                    found += _values(header, form, value, every=every)
                except WrongType as error:
                    wrong[name] = f"must be {error}"
        return found

    def _has_room(self, value: object) -> bool:
        """Take the room of a value out of what is left for the header."""
        waiting = [value]
        while waiting and self.room >= 0:
            each = waiting.pop()
            self.room -= 1 + len(each) if isinstance(each, str | list | dict) else 1
            if isinstance(each, dict):
                waiting.extend(each.values())
            elif isinstance(each, list):
                waiting.extend(each)
        return self.room >= 0

    # Bodies ------------------------------------------------------------------------------------

    def _body(self, draft: Draft) -> None:
        given = {name: self.given[name] for name in _BODY if self.given.get(name) is not None}
        values = self._values(given)
        if "bodyStructure" in given:
            clash = next((name for name in _BODY[1:4] if name in given), None)
            if clash is not None:
                raise Wrong(f"{clash} is given beside bodyStructure")
            draft.root = self._part(given["bodyStructure"], "bodyStructure", draft, values, 0)
            there = {each.name.lower() for each in draft.fields}
            if any(each.name.lower() in there for each in draft.root.fields):
                raise Wrong("bodyStructure has a header field that the Email has too")
            return
        shown = [
            self._shown(given, name, media_type, draft, values)
            for name, media_type in (("textBody", "text/plain"), ("htmlBody", "text/html"))
            if name in given
        ]
        files = self._files(given, draft, values)
        draft.root = arranged([each for each in shown if each is not None], files)

    def _values(self, given: Mapping[str, object]) -> dict[str, bytes]:
        values = given.get("bodyValues", {})
        if not isinstance(values, dict):
            raise Wrong("bodyValues must be an object")
        found: dict[str, bytes] = {}
        for part_id, value in values.items():
            if not isinstance(value, dict) or not isinstance(value.get("value"), str):
                raise Wrong("bodyValues must be EmailBodyValue objects")
            for name, flag in value.items():
                if name != "value" and (
                    name not in ("isEncodingProblem", "isTruncated") or flag is not False
                ):
                    raise Wrong("bodyValues must be whole and without problems")
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
            raise Wrong(f"{name} must be an array of one part")
        part = self._part({"type": media_type, **parts[0]}, name, draft, values, 0)
        if not isinstance(part, Leaf) or part.type != media_type:
            raise Wrong(f"{name} must be {media_type}")
        return part

    def _files(
        self, given: Mapping[str, object], draft: Draft, values: Mapping[str, bytes]
    ) -> list[tuple[Leaf, bool]]:
        """Return the attachments, and whether the HTML shows them in its text."""
        parts = given.get("attachments", [])
        if not isinstance(parts, list):
            raise Wrong("attachments must be an array of parts")
        files = []
        for part in parts:
            whole = part
            if isinstance(part, dict) and part.get("disposition") is None:
                whole = {**part, "disposition": "inline" if part.get("cid") else "attachment"}
            leaf = self._part(whole, "attachments", draft, values, 0)
            if not isinstance(leaf, Leaf):
                raise Wrong("attachments have no parts of their own")
            inline = whole.get("cid") is not None and whole["disposition"] == "inline"
            files.append((leaf, inline))
        return files

    def _part(
        self, value: object, name: str, draft: Draft, values: Mapping[str, bytes], depth: int
    ) -> Part:
        self.parts += 1
        if self.parts > MAX_PARTS or depth > MAX_DEPTH:
            raise Wrong(f"{name} has too many parts")
        if not isinstance(value, dict):
            raise Wrong(f"{name} must be made of parts")
        part = {key: each for key, each in value.items() if each is not None}
        if not self._has_room({key: each for key, each in part.items() if key != "subParts"}):
            raise Wrong(f"{name} has too long properties")
        wrong: dict[str, str] = {}
        found = self._fields(part, wrong, of_part=True)
        unknown = next((key for key in part if key not in OF_PART and key[:7] != PREFIX), None)
        if unknown is not None or wrong:
            key, why = next(iter(wrong.items())) if wrong else (unknown, "is not a property")
            raise Wrong(f"{name} has {str(key)[:80]!r}, which {why}")
        described = Described(name, part, found)
        if "subParts" in part:
            parts = part["subParts"]
            if not isinstance(parts, list) or not parts:
                raise Wrong(f"{name} has subParts that are none")
            return described.multipart(
                [self._part(each, name, draft, values, depth + 1) for each in parts]
            )
        return described.leaf(draft.contents, values)


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
