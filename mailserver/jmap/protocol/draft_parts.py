"""The parts of an Email that a client writes (RFC 8621 §4.6).

A part names its content: `text:<partId>` or `blob:<blobId>`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mailserver.mime import fields
from mailserver.mime.compose import HeaderField, Leaf, Multipart, Part

TEXT = "text:"
BLOB = "blob:"

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~]{1,100}")
_NO_TEXT = TEXT
EMPTY = Leaf("text/plain", _NO_TEXT, is_text=True)


@dataclass(slots=True)
class Contents:
    """What the parts of a message are made of."""

    texts: dict[str, bytes] = field(default_factory=lambda: {_NO_TEXT: b""})  # by source
    blobs: list[str] = field(default_factory=list)  # ids, once for each part that is one


class Wrong(Exception):
    """Something in a body is wrong; the text completes "<property> …"."""


OF_PART = frozenset((
    "partId", "blobId", "size", "name", "type", "charset", "disposition", "cid", "language",
    "location", "subParts",
))  # fmt: skip
_MIME_FIELDS = {
    "type": "content-type", "charset": "content-type", "name": "content-disposition",
    "disposition": "content-disposition", "cid": "content-id", "language": "content-language",
    "location": "content-location",
}  # fmt: skip


class Described:
    """What the properties of one part say of it."""

    def __init__(self, name: str, part: Mapping[str, Any], found: list[HeaderField]) -> None:
        self.name = name
        self.part = part
        self.fields = found
        given = {each.name.lower() for each in found}
        for key, header in _MIME_FIELDS.items():
            if key in part and header in given:
                raise Wrong(f"{name} says {header} twice")
        for key in ("type", "charset", "name", "disposition", "cid", "location"):
            if key in part and not isinstance(part[key], str):
                raise Wrong(f"{name} has a {key} that is no string")
        self.typed = "content-type" not in given
        self._add_mime_fields()

    def _add_mime_fields(self) -> None:
        part = self.part
        if "disposition" in part:
            disposition = part["disposition"].lower()
            if not _TOKEN.fullmatch(disposition):
                raise Wrong(f"{self.name} has a disposition that cannot be one")
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
            raise Wrong(f"{self.name} has a {key} that cannot be one")
        self.fields.append(HeaderField(header, written))

    def _type(self, default: str) -> str:
        if not self.typed:
            value = next(each.value for each in self.fields if each.name.lower() == "content-type")
            default = value.decode("ascii", "replace").partition(";")[0].strip().lower()
        media_type: str = self.part.get("type", default).lower()
        if not _TYPE.fullmatch(media_type):
            raise Wrong(f"{self.name} has a type that cannot be one")
        return media_type

    def multipart(self, parts: Sequence[Part]) -> Multipart:
        """Return a part made of parts."""
        maintype, _, subtype = self._type("multipart/mixed").partition("/")
        if maintype != "multipart" or not self.typed:
            raise Wrong(f"{self.name} has parts in what is no multipart")
        if any(key in self.part for key in ("partId", "blobId", "charset")):
            raise Wrong(f"{self.name} has parts and a content")
        parameters: tuple[tuple[str, str], ...] = ()
        if subtype == "related":  # RFC 2387 §3.1
            first = parts[0]
            media_type = first.type if isinstance(first, Leaf) else f"multipart/{first.subtype}"
            parameters = (("type", media_type),)
        return Multipart(subtype, tuple(parts), parameters, tuple(self.fields))

    def leaf(self, contents: Contents, values: Mapping[str, bytes]) -> Leaf:
        """Return a part with a content, which is noted."""
        part, name = self.part, self.name
        part_id, blob_id = part.get("partId"), part.get("blobId")
        if (part_id is None) == (blob_id is None):
            raise Wrong(f"{name} needs a partId or a blobId, and not both")
        is_text = part_id is not None
        media_type = self._type("text/plain" if is_text else "application/octet-stream")
        if media_type.startswith("multipart/"):
            raise Wrong(f"{name} has a multipart without subParts")
        parameters: list[tuple[str, str]] = []
        if is_text:
            if "charset" in part or "size" in part:
                raise Wrong(f"{name} has a charset or size beside a partId")
            if not isinstance(part_id, str) or part_id not in values:
                raise Wrong("bodyValues does not have all parts")
            source = TEXT + part_id
            contents.texts[source] = values[part_id]
            if media_type.startswith("text/"):
                parameters.append(("charset", "utf-8"))
        else:
            if not isinstance(blob_id, str):
                raise Wrong(f"{name} has a blobId that is no string")
            source = BLOB + blob_id
            contents.blobs.append(blob_id)
            if "charset" in part:
                parameters.append(("charset", part["charset"]))
        if part.get("name") and "disposition" not in part:
            parameters.append(("name", part["name"]))
        return Leaf(media_type, source, is_text, tuple(parameters), tuple(self.fields), self.typed)


def arranged(shown: Sequence[Leaf], files: Sequence[tuple[Leaf, bool]]) -> Part:
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
    return bodies[0] if bodies else EMPTY
