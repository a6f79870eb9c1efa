"""Body parts and their text in Email/get (RFC 8621 §4.1.4)."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mailserver.jmap.methods.view import View
from mailserver.jmap.protocol.errors import MethodError, invalid_arguments
from mailserver.jmap.protocol.headers import PREFIX, check_count, parse_header_property
from mailserver.jmap.session import Session
from mailserver.mail import content
from mailserver.mime import Env, HeaderBlock, PartRow, all_headers, body_lists, decode_text
from mailserver.model import BlobId

DEFAULT_PROPERTIES = (
    "partId", "blobId", "size", "name", "type", "charset", "disposition", "cid", "language",
    "location",
)  # fmt: skip
BATCH = 50
BATCH_OCTETS = 16 * 1024 * 1024
LARGE = 256 * 1024  # octets; more than that is decoded in a thread

Show = Callable[[View, PartRow], object]
ShowHeader = Callable[[HeaderBlock], object]


def _leaf(show: Show) -> Show:
    return lambda email, part: None if part.type == "multipart" else show(email, part)


_SHOWN: dict[str, Show] = {
    "partId": _leaf(lambda email, part: part.section),
    "blobId": _leaf(lambda email, part: email.part_blob(part)),
    "size": lambda email, part: part.size,
    "name": lambda email, part: part.name,
    "type": lambda email, part: f"{part.type}/{part.subtype}",
    "charset": lambda email, part: part.charset,
    "disposition": lambda email, part: part.disposition,
    "cid": lambda email, part: part.cid,
    "language": lambda email, part: list(part.language) or None,
    "location": lambda email, part: part.location,
}


@dataclass(frozen=True, slots=True)
class Values:
    """Which parts `bodyValues` holds, and how much of each."""

    text: bool
    html: bool
    everything: bool
    max_octets: int  # of UTF-8 in one value; 0 is no limit

    def any(self) -> bool:
        """Tell whether any part is wanted."""
        return self.text or self.html or self.everything


class Bodies:
    """Adds the body properties to emails."""

    def __init__(
        self,
        session: Session,
        names: Sequence[str],
        properties: Iterable[str] | None,
        values: Values,
    ) -> None:
        self._session = session
        self._names = names
        self._values = values
        self._shown: dict[str, Show] = {}
        self._headers: dict[str, ShowHeader] = {}
        self._sub_parts = False
        chosen = DEFAULT_PROPERTIES if properties is None else tuple(properties)
        check_count(chosen)
        for name in chosen:
            self._choose(name)
        self._left = session.limits.max_body_values

    def _choose(self, name: str) -> None:
        if name in _SHOWN:
            self._shown[name] = _SHOWN[name]
        elif name == "subParts":
            self._sub_parts = True
        elif name == "headers":
            self._headers[name] = all_headers
        elif name.startswith(PREFIX):
            self._headers[name] = parse_header_property(name).value
        else:
            raise invalid_arguments(f"there is no body property {name[:50]!r}")

    async def add(self, found: Mapping[int, Any], emails: Mapping[int, View]) -> None:
        """Add the properties to each email's object, reading messages only where that is needed."""
        reads_values = "bodyValues" in self._names and self._values.any()
        reads_headers = bool(self._headers) and any(name != "bodyValues" for name in self._names)
        if not reads_values and not reads_headers:
            for each, email in emails.items():
                found[each].update(self.of(email, b""))
            return
        for batch in batches(emails):
            raws = await content.contents(
                self._session.mail, self._session.account, [email.blob_id for _, email in batch]
            )
            emails_of = [email for _, email in batch]
            if sum(map(len, raws.values())) > LARGE:  # other sessions go on meanwhile
                added = await asyncio.to_thread(self._all_properties, emails_of, raws)
            else:
                added = self._all_properties(emails_of, raws)
            for (each, _), properties in zip(batch, added, strict=True):
                found[each].update(properties)

    def _all_properties(
        self, emails: Sequence[View], raws: Mapping[BlobId, bytes]
    ) -> list[dict[str, object]]:
        return [self.of(email, raws[email.blob_id]) for email in emails]

    def of(self, email: View, raw: bytes) -> dict[str, object]:
        """Return the properties of one email, whose message is at hand."""
        parts = Env.unpack(email.env).parts
        lists = body_lists(parts)
        by_name = {
            "textBody": lists.text,
            "htmlBody": lists.html,
            "attachments": lists.attachments,
        }
        result: dict[str, object] = {}
        for name in self._names:
            if name == "bodyValues":
                result[name] = self._body_values(parts, by_name, raw)
            elif name == "bodyStructure":
                result[name] = self._structure(email, parts, raw)
            else:
                result[name] = [self._part(email, part, raw) for part in by_name[name]]
        return result

    def _part(self, email: View, part: PartRow, raw: bytes) -> dict[str, object]:
        shown = {name: show(email, part) for name, show in self._shown.items()}
        if self._headers:
            block = HeaderBlock(raw, part.header_start, part.body_start)
            shown.update((name, show(block)) for name, show in self._headers.items())
        if self._sub_parts:
            shown["subParts"] = None
        return shown

    def _structure(self, email: View, parts: Sequence[PartRow], raw: bytes) -> dict[str, object]:
        """Return the tree; a multipart always shows its parts, or there would be no tree.

        Parents come before children in the table, so no recursion is needed.
        """
        shown: list[dict[str, object]] = []
        for part in parts:
            each = self._part(email, part, raw)
            if part.type == "multipart":
                each["subParts"] = []
            shown.append(each)
            above = parts[part.parent] if part.parent >= 0 else None
            if above is not None and above.type == "multipart":
                inner = shown[part.parent]["subParts"]
                assert isinstance(inner, list)
                inner.append(each)
        return shown[0]

    def _body_values(
        self, parts: Sequence[PartRow], lists: Mapping[str, list[PartRow]], raw: bytes
    ) -> dict[str, object]:
        chosen: list[PartRow] = []
        if self._values.everything:
            chosen += _own_parts(parts)
        if self._values.text:
            chosen += lists["textBody"]
        if self._values.html:
            chosen += lists["htmlBody"]
        texts = {part.section: part for part in chosen if part.type == "text"}
        return {section: self._value(part, raw) for section, part in texts.items()}

    def _value(self, part: PartRow, raw: bytes) -> dict[str, object]:
        text, problem = decode_text(
            raw[part.body_start : part.body_end], part.charset, part.encoding
        )
        text, truncated = truncated_text(text, self._values.max_octets, part.subtype == "html")
        if self._left <= 0:  # the last value may go beyond, so that any single one can be had
            raise MethodError("requestTooLarge", "too much text; ask for fewer, or set a maximum")
        self._left -= len(text)
        return {"value": text, "isEncodingProblem": problem, "isTruncated": truncated}


def _own_parts(parts: Sequence[PartRow]) -> list[PartRow]:
    """Return the parts that are not inside an attached message (RFC 8621 §4.1.4)."""
    own: list[PartRow] = []
    inside = set[int]()
    for index, part in enumerate(parts):
        if part.parent >= 0 and (part.parent in inside or parts[part.parent].type != "multipart"):
            inside.add(index)
        else:
            own.append(part)
    return own


def truncated_text(text: str, max_octets: int, html: bool) -> tuple[str, bool]:
    """Cut a text to at most `max_octets` of UTF-8, not inside a character or an HTML tag."""
    if not max_octets or len(text) * 4 <= max_octets:
        return text, False
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= max_octets:
        return text, False
    cut = encoded[:max_octets].decode("utf-8", "ignore")
    opened = cut.rfind("<")
    if html and opened > cut.rfind(">"):
        cut = cut[:opened]
    return cut, True


def batches(emails: Mapping[int, View]) -> list[list[tuple[int, View]]]:
    """Split into groups whose messages fit into memory together."""
    batches: list[list[tuple[int, View]]] = []
    room = 0
    for each, email in emails.items():
        if not batches or len(batches[-1]) >= BATCH or email.size > room:
            batches.append([])
            room = BATCH_OCTETS
        batches[-1].append((each, email))
        room -= email.size
    return batches
