"""What rules and the classifier look at: the texts of one message, made once, each bounded.

All texts are octets in UTF-8, as the regular expressions of rule files expect them.
"""

import html
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from mailserver import mime
from mailserver.address import Address
from mailserver.antispam.authors import authors
from mailserver.antispam.content.relays import Relay, read_relays
from mailserver.antispam.evidence import Inquiry
from mailserver.mime import addresses, text, words
from mailserver.mime.headers import one_line, unfold
from mailserver.mime.message import Message, Part

RAW_LIMIT = 512 * 1024  # octets of a message that are looked at
TEXT_LIMIT = 64 * 1024  # characters of its decoded text
HEADER_LIMIT = 32 * 1024  # octets of its header
URI_LIMIT = 200
PART_LIMIT = 100

_URI = re.compile(
    r"""(?:https?|ftp)://[^\s<>"'`{}|\\^\[\]]{1,2000}|\bwww\.[^\s<>"'`]{3,2000}""", re.I
)
# Taken apart by `_links`: as one expression it takes seconds for tags without an end.
_TAG_OR_LINK = re.compile(
    r"<(?:a|area|form|iframe|frame|img|link|base|body|td|table|input|source)\b|(>)"
    r"|\b(href|src|action|background)\s*+=\s*+",
    re.IGNORECASE,
)
_LINK = re.compile(r"""(?:"([^"]{1,2000})"|'([^']{1,2000})'|([^\s>"']{1,2000}))""")
TAG_LIMIT = 4000  # characters of a tag in which its link is looked for
_MAILTO = re.compile(r"\bmailto:[^\s<>\"']{3,300}", re.IGNORECASE)
_SCHEMES = ("https", "http", "ftp")
_LOWER = {ord(letter): letter.lower() for letter in string.ascii_uppercase}
_TRAILING = ".,;:!?)]}'\""
_TAG = re.compile(r"<([a-zA-Z][a-zA-Z0-9]{0,15})\b")
_BLANK_LINES = re.compile(r"\n\s*\n")
_TITLE = re.compile(r"<title\b[^>]{0,200}>([^<]{0,500})", re.IGNORECASE)


class TextPart(NamedTuple):
    """A part with readable text."""

    subtype: str
    charset: str
    source: str  # decoded, with its markup
    shown: str  # what a reader sees


@dataclass(slots=True)
class HtmlFacts:
    """What rules ask about markup."""

    source: str = ""
    shown_length: int = 0
    tags: dict[str, int] = field(default_factory=dict)
    title: str = ""


class Views:
    """The texts of one message; each is made when it is first asked for."""

    def __init__(self, inquiry: Inquiry) -> None:
        self.inquiry = inquiry
        self.raw = inquiry.raw[:RAW_LIMIT]
        self.message: Message = mime.parse(self.raw)
        self.header = self.message.header
        self._fields: dict[bytes, list[bytes]] = {}
        for name, value in self.header.pairs():
            self._fields.setdefault(name.lower(), []).append(value)
        self._selected: dict[str, bytes | None] = {}

    # Header ------------------------------------------------------------------------------------

    def raw_values(self, name: str) -> list[bytes]:
        """Return the values of a field as they are in the message."""
        return self._fields.get(name.lower().encode("ascii", "replace"), [])

    def text_of(self, name: str) -> str:
        """Return the decoded text of the first field of a name, empty without one."""
        values = self.raw_values(name)
        return words.decode(one_line(values[0][:HEADER_LIMIT])) if values else ""

    def addresses_of(self, name: str) -> list[tuple[str, str]]:
        """Return (name, address) of everyone in fields of a name; addresses in lower case."""
        found = []
        for value in self.raw_values(name)[:20]:
            for each in addresses.parse(value[:HEADER_LIMIT]):
                if each.domain is None or each.local is None:
                    continue
                address = each.local + b"@" + each.domain if each.domain else each.local
                label = words.decode(each.name) if each.name else ""
                found.append((label, address.decode("utf-8", "replace").lower()))
        return found

    @cached_property
    def author(self) -> Address | None:
        """The first author, as DMARC reads From: whole, for cut a quoted name may be an address."""
        return next(iter(authors(self.inquiry.raw)), None)

    def selected(self, selector: str) -> bytes | None:
        """Return what a header rule looks at, None when the message has no such field."""
        if selector not in self._selected:
            self._selected[selector] = self._select(selector)
        return self._selected[selector]

    def _select(self, selector: str) -> bytes | None:
        name, *modifiers = selector.split(":")
        special = _SPECIAL.get(name.lower())
        if special is not None:
            return special(self, modifiers)
        if name.lower() == "tocc":
            both = [self._field(each, modifiers) for each in ("To", "Cc")]
            there = [each for each in both if each is not None]
            return b"\n".join(there) if there else None
        return self._field(name, modifiers)

    def _field(self, name: str, modifiers: Sequence[str]) -> bytes | None:
        values = self.raw_values(name)
        if not values:
            return None
        if "addr" in modifiers or "name" in modifiers:
            label, address = next(iter(self.addresses_of(name)), ("", ""))
            return (address if "addr" in modifiers else label).encode("utf-8", "replace")
        if "raw" in modifiers:
            return b"\n".join(value[:HEADER_LIMIT].lstrip(b" ") for value in values[:20]) + b"\n"
        lines = [words.decode(one_line(value[:HEADER_LIMIT])) for value in values[:20]]
        return "\n".join(lines).encode("utf-8", "replace")

    def all_fields(self, modifiers: Sequence[str]) -> bytes:
        """Return the whole header, decoded or raw."""
        if "raw" in modifiers:
            return self.raw[self.header.start : min(self.header.end, HEADER_LIMIT)]
        lines = [
            name + b": " + words.decode(unfold(value).strip()).encode("utf-8", "replace") + b"\n"
            for name, value in self.header.pairs()[:500]
        ]
        return b"".join(lines)[:HEADER_LIMIT]

    @cached_property
    def relays(self) -> list[Relay]:
        """Servers that the message came through, the one that connected to us first."""
        return read_relays(self.inquiry, [each[:4000] for each in self.raw_values("received")[:30]])

    def relay_text(self, modifiers: Sequence[str]) -> bytes:
        """Return the relays in the form that rules expect (X-Spam-Relays-Untrusted)."""
        return b" ".join(each.text() for each in self.relays)

    # Body --------------------------------------------------------------------------------------

    @cached_property
    def parts(self) -> list[Part]:
        """Leaves, those of attached messages included."""
        leaves = [part for part in self.message.parts if not part.children and not part.message]
        return leaves[:PART_LIMIT]

    @cached_property
    def texts(self) -> list[TextPart]:
        """Decoded text parts, together at most TEXT_LIMIT characters."""
        found: list[TextPart] = []
        left = TEXT_LIMIT
        for part in self.parts:
            if part.type != "text" or left <= 0:
                continue
            if part.disposition == "attachment" and part.subtype not in ("plain", "html"):
                continue
            end = min(part.body_end, part.body_start + 4 * left)
            octets = self.raw[part.body_start : end]
            source = mime.decode_text(octets, part.charset, part.encoding)[0][: 2 * left]
            shown = text.html_text(source) if part.subtype == "html" else source[:left]
            shown = shown[:left]
            left -= len(shown) + 1
            found.append(TextPart(part.subtype, part.charset or "", source, shown))
        return found

    @cached_property
    def subject(self) -> str:
        """The decoded Subject."""
        return self.text_of("Subject")

    @cached_property
    def body(self) -> bytes:
        """The subject and what a reader sees, a line for each paragraph."""
        lines = [self.subject]
        for part in self.texts:
            paragraphs = _BLANK_LINES.split(part.shown) if part.subtype != "html" else [part.shown]
            lines += (text.collapse(each) for each in paragraphs)
        return "\n".join(lines).encode("utf-8", "replace")

    @cached_property
    def rawbody(self) -> list[bytes]:
        """Text parts with their markup."""
        return [part.source.encode("utf-8", "replace") for part in self.texts]

    @cached_property
    def html(self) -> HtmlFacts:
        """What the HTML parts have in them."""
        parts = [part for part in self.texts if part.subtype == "html"]
        if not parts:
            return HtmlFacts()
        source = "\n".join(part.source for part in parts)
        tags: dict[str, int] = {}
        for tag in _TAG.findall(source):
            lowered = tag.lower()
            tags[lowered] = tags.get(lowered, 0) + 1
        title = _TITLE.search(source)
        shown = sum(len(text.collapse(part.shown)) for part in parts)
        return HtmlFacts(source, shown, tags, html.unescape(title[1]).strip() if title else "")

    @cached_property
    def uris(self) -> list[bytes]:
        """Links, as written and without their escapes."""
        found: dict[str, None] = {}
        for part in self.texts:
            if part.subtype == "html":
                for link in _links(part.source):
                    found.setdefault(html.unescape(link).strip())
                    if len(found) >= URI_LIMIT:
                        break
            for uri in _written(part.shown):
                if len(found) >= URI_LIMIT:
                    break
                uri = uri.rstrip(_TRAILING)
                found.setdefault(
                    uri if "://" in uri or uri[:7].lower() == "mailto:" else f"http://{uri}"
                )
        result = []
        for uri in found:
            if ":" not in uri[:12]:
                continue  # relative, cid of a picture without a scheme
            octets = uri.encode("utf-8", "replace")
            result.append(octets)
            if b"%" in octets:
                result.append(unquote_to_bytes(octets))
        return result

    @cached_property
    def hosts(self) -> set[str]:
        """Hosts of web links, in lower case."""
        found = set()
        for uri in self.uris:
            try:
                parsed = urlsplit(uri.decode("utf-8", "replace"))
                host = parsed.hostname
            except ValueError:
                continue
            if host and parsed.scheme.lower() in ("http", "https", "ftp"):
                found.add(host[:255])
        return found

    @cached_property
    def part_headers(self) -> list[bytes]:
        """The header of each part, a field a line."""
        blocks = []
        for part in self.message.parts[:PART_LIMIT]:
            if part.parent < 0 and len(self.message.parts) > 1:
                continue
            block = unfold(
                self.raw[part.header_start : min(part.body_start, part.header_start + 8192)]
            )
            blocks.append(words.decode(block[:8192]).encode("utf-8", "replace"))
        return blocks


def _written(shown: str) -> Iterator[str]:
    """Find the links in a text: those to the web, then addresses.

    Expressions that ignore case look at each character; `str.find` takes one hundredth of the time.
    """
    lowered = shown.lower()
    if len(lowered) != len(shown):  # a few letters are two in lower case
        lowered = shown.translate(_LOWER)
    starts = [at - length for at in _places(shown, "://") if (length := _scheme(lowered, at))]
    yield from _matches(_URI, shown, sorted(starts + _places(lowered, "www.")))
    yield from _matches(_MAILTO, shown, _places(lowered, "mailto:"))


def _places(text: str, wanted: str) -> list[int]:
    places, at = [], text.find(wanted)
    while at >= 0:
        places.append(at)
        at = text.find(wanted, at + 1)
    return places


def _scheme(lowered: str, end: int) -> int:
    """Return the length of the scheme that ends somewhere, 0 without one."""
    return next((len(each) for each in _SCHEMES if lowered.endswith(each, 0, end)), 0)


def _matches(expression: re.Pattern[str], text: str, starts: Sequence[int]) -> Iterator[str]:
    """Match at each place that is not in the match before."""
    end = 0
    for start in starts:
        if start >= end and (found := expression.match(text, start)) is not None:
            end = found.end()
            yield found[0]


def _links(markup: str) -> Iterator[str]:
    """Find the first link of each tag that can have one, in one pass over the markup."""
    position, opened = 0, -1  # where the name of the tag ended; -1: outside of one
    while found := _TAG_OR_LINK.search(markup, position):
        position = found.end()
        if found[1]:
            opened = -1
        elif not found[2]:
            opened = position
        elif opened >= 0 and found.start() - opened <= TAG_LIMIT:
            link = _LINK.match(markup, position)
            if link is not None:
                yield next(filter(None, link.groups()))
                position, opened = link.end(), -1


def _message_ids(views: Views, modifiers: Sequence[str]) -> bytes | None:
    values = [
        views._field(name, modifiers)
        for name in ("Message-ID", "Resent-Message-ID", "X-Message-ID")
    ]
    there = [each for each in values if each is not None]
    return b"\n".join(there) if there else None


def _envelope_from(views: Views, modifiers: Sequence[str]) -> bytes | None:
    sender = views.inquiry.sender
    return str(sender).encode("utf-8", "replace") if sender is not None else None


# Selectors that are no field of the message.
_SPECIAL: dict[str, Callable[[Views, Sequence[str]], bytes | None]] = {
    "all": Views.all_fields,
    "all-external": Views.all_fields,
    "all-untrusted": Views.all_fields,
    "all-trusted": lambda views, modifiers: None,
    "messageid": _message_ids,
    "envelopefrom": _envelope_from,
    "x-spam-relays-external": Views.relay_text,
    "x-spam-relays-untrusted": Views.relay_text,
    "x-spam-relays-trusted": lambda views, modifiers: None,
    "x-spam-relays-internal": lambda views, modifiers: None,
}
