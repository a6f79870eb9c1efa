"""From octets to the tree of parts, in one pass of `bytes.find` and few regular expressions.

Everything is bounded: depth, number of parts, octets looked at. Where a limit is reached the rest
stays one opaque leaf, so that a message is never lost and its offsets stay true.
"""

import re

from mailserver.mime import parameters
from mailserver.mime.headers import HEADER_LIMIT, HeaderBlock, one_line
from mailserver.mime.message import Message, Part
from mailserver.mime.parameters import Parameters

DEPTH_LIMIT = 100  # entities around an entity; real mail stays below 10
# Digests of busy lists have some hundred messages of a few parts. 2,000 parts keep the work under
# 40 ms and the stored structure under 400 kB, whatever a peer sends.
PART_LIMIT = 2000
_BOUNDARY_LIMIT = 1000  # RFC 2046 §5.1.1 allows 70
# Octets that may be searched for delimiters, in multiples of the message, and what a line that only
# looks like a delimiter costs: nesting cannot make the time grow with depth times size.
_SEARCH_FACTOR = 16
_SEARCH_FLOOR = 1 << 25
_FALSE_DELIMITER = 256

_TOKEN = rb"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]++"
_MEDIA_TYPE = re.compile(rb"\s*+(" + _TOKEN + rb")\s*+/\s*+(" + _TOKEN + rb")")
_DELIMITER_TAIL = re.compile(rb"(--)?[ \t]*+(?:\r?\n|\Z)")
_LANGUAGE = re.compile(rb"[A-Za-z0-9-]++")
_IDENTITY = ("7bit", "8bit", "binary")
_MESSAGES = ("rfc822", "global")

_Media = tuple[str, str, Parameters]
TEXT: _Media = ("text", "plain", ())
RFC822: _Media = ("message", "rfc822", ())


def parse(raw: bytes) -> Message:
    """Describe a message; total: any octets are a message, none raise."""
    return _Scan(raw).message(0, len(raw), "", -1, 0)


class _Scan:
    """One run over one message: its parts so far and what is left of the limits."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.parts: list[Part | None] = []
        self.promised = 1  # parts that are read or whose place is found
        self.search_left = _SEARCH_FACTOR * len(raw) + _SEARCH_FLOOR
        self.header_left = 4 * HEADER_LIMIT

    def message(self, start: int, end: int, prefix: str, parent: int, depth: int) -> Message:
        """Read a message whose parts are numbered below `prefix` ("" or "n.")."""
        first = len(self.parts)
        header = HeaderBlock(self.raw, start, end)
        root = self.entity(header, end, None, prefix, parent, depth, TEXT)
        parts = tuple(part for part in self.parts[first:] if part is not None)
        return Message(header, root, parts)

    def entity(
        self,
        header: HeaderBlock,
        end: int,
        section: str | None,
        prefix: str,
        parent: int,
        depth: int,
        default: _Media,
    ) -> Part:
        """Read one entity; `section` None means that it is the root of a message."""
        index = len(self.parts)
        self.parts.append(None)
        self.header_left -= min(header.end - header.start, HEADER_LIMIT)
        first = header.get_first
        content_type = first(b"content-type")
        media, subtype, params = default if content_type is None else media_type(content_type)
        cte = first(b"content-transfer-encoding")
        encoding = (parameters.token(cte) or "7bit") if cte is not None else "7bit"
        start = header.body_start
        children: tuple[Part, ...] = ()
        nested: Message | None = None
        lines = 0
        if media == "multipart":
            spans = self._delimited(start, end, params) if depth < DEPTH_LIMIT else []
            if spans:
                inner = RFC822 if subtype == "digest" else TEXT
                children = self._children(spans, prefix, index, depth, inner)
            else:
                # A multipart without a single part is text to whoever reads it, and keeps
                # BODYSTRUCTURE within its grammar (RFC 9051 §9: 1*body).
                media, subtype, params = TEXT
        section = self._section(section, prefix, media)
        if media == "message":
            lines, nested = self._encapsulated(subtype, encoding, start, end, section, index, depth)
        elif media == "text":
            lines = self.raw.count(b"\n", start, end)
        charset = parameters.get(params, "charset") if params else None
        if media == "text" and not charset:
            charset = "us-ascii"
        disposition, disposition_params = _disposition(first(b"content-disposition"))
        content_id, description, language, location, md5 = _described(header)
        part = Part(
            section, parent, media, subtype, params,
            charset if media == "text" or content_type is not None else None,
            encoding, disposition, disposition_params,
            content_id, description, language, location, md5,
            header.start, start, end, lines, children, nested,
        )  # fmt: skip
        self.parts[index] = part
        return part

    @staticmethod
    def _section(section: str | None, prefix: str, media: str) -> str:
        if section is not None:
            return section
        if media != "multipart":
            return prefix + "1"
        return prefix + "TEXT" if prefix else ""

    def _children(
        self, spans: list[tuple[int, int]], prefix: str, index: int, depth: int, default: _Media
    ) -> tuple[Part, ...]:
        children = []
        for number, (start, end) in enumerate(spans, 1):
            section = f"{prefix}{number}"
            header = HeaderBlock(self.raw, start, end)
            children.append(
                self.entity(header, end, section, section + ".", index, depth + 1, default)
            )
        return tuple(children)

    def _encapsulated(
        self,
        subtype: str,
        encoding: str,
        start: int,
        end: int,
        section: str,
        index: int,
        depth: int,
    ) -> tuple[int, Message | None]:
        """Count the lines of a message/* part, and read the message in it when it is not encoded.

        RFC 2046 §5.2.1 forbids to encode message/rfc822; where it is, the part stays opaque.
        """
        if end - start > self.search_left:
            return 0, None
        self.search_left -= end - start
        lines = self.raw.count(b"\n", start, end)
        readable = subtype in _MESSAGES and encoding in _IDENTITY and depth < DEPTH_LIMIT
        if not readable or self._full():
            return lines, None
        self.promised += 1
        return lines, self.message(start, end, section + ".", index, depth + 1)

    def _full(self) -> bool:
        return self.promised >= PART_LIMIT or self.header_left <= 0

    def _delimited(self, start: int, end: int, params: Parameters) -> list[tuple[int, int]]:
        """Return the spans between the delimiter lines of a multipart (RFC 2046 §5.1.1).

        The line end before a delimiter belongs to the delimiter. A missing close-delimiter ends
        the last part with the multipart.
        """
        boundary = _boundary(params)
        if boundary is None or self._full() or end - start > self.search_left:
            return []
        self.search_left -= end - start
        raw, spans = self.raw, []
        opened, room = -1, PART_LIMIT - self.promised
        needle = b"\n--" + boundary
        # the first delimiter may be the first line of the body, right behind the header's line end
        position = max(start - 1, 0)
        at = 0 if start == 0 and raw.startswith(needle[1:]) else raw.find(needle, position, end)
        while at >= 0:
            after = at + len(needle) - (at == 0 and raw[0] != 0x0A)
            tail = _DELIMITER_TAIL.match(raw, after, end)
            if tail is None:
                self.search_left -= _FALSE_DELIMITER
                if self.search_left <= 0:
                    break
            else:
                if opened >= 0:
                    before = at - (at > opened and raw[at - 1] == 0x0D)
                    spans.append((opened, max(before, opened)))
                opened = -1 if tail[1] else tail.end()
                if opened < 0 or len(spans) + 1 >= room:
                    break
                after = tail.end() - 1  # its line end may start the next delimiter
            at = raw.find(needle, after, end)
        if opened >= 0:
            spans.append((opened, end))
        self.promised += len(spans)
        return spans


def _boundary(params: Parameters) -> bytes | None:
    text = parameters.get(params, "boundary")
    if not text or len(text) > _BOUNDARY_LIMIT:
        return None
    # RFC 2046 §5.1.1: no boundary ends with white space; 8-bit ones are as they were on the wire
    return text.encode("utf-8", "replace").rstrip() or None


def media_type(value: bytes) -> _Media:
    """Read a Content-Type; what cannot be read is text/plain (RFC 2045 §5.2)."""
    found = _MEDIA_TYPE.match(value)
    if found is None:
        return TEXT
    rest = value[found.end() :]
    media, subtype = found[1].lower().decode("ascii"), found[2].lower().decode("ascii")
    return media, subtype, parameters.parse(rest) if rest else ()


def _disposition(value: bytes | None) -> tuple[str | None, Parameters]:
    """Read a Content-Disposition (RFC 2183)."""
    if value is None:
        return None, ()
    kind, _, rest = value.partition(b";")
    return parameters.token(kind) or None, parameters.parse(rest) if rest else ()


def _described(
    header: HeaderBlock,
) -> tuple[bytes | None, bytes | None, tuple[str, ...], str | None, bytes | None]:
    """Return Content-ID, -Description, -Language, -Location and -MD5."""
    first = header.get_first
    content_id, description = first(b"content-id"), first(b"content-description")
    language, location = first(b"content-language"), first(b"content-location")
    md5 = first(b"content-md5")
    return (
        one_line(content_id) if content_id is not None else None,
        one_line(description) if description is not None else None,
        tuple(tag.decode("ascii") for tag in _LANGUAGE.findall(language)) if language else (),
        # RFC 2557 §4.4.2: a URI that was folded is put together without the white space
        b"".join(location.split()).decode("utf-8", "replace") if location else None,
        one_line(md5) if md5 is not None else None,
    )
