"""FETCH: which messages and which of their data."""

import re
from dataclasses import dataclass
from enum import Enum

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.modseq import mod_sequence
from mailserver.imap.protocol.partial import Partial, partial_range
from mailserver.imap.protocol.responses import astring
from mailserver.imap.protocol.sequences import SequenceSet

MAX_ITEMS = 200  # data items in one FETCH
MAX_FIELDS = 500  # field names in one HEADER.FIELDS


class Attribute(Enum):
    """Data items that are not sections; the value is the label."""

    UID = b"UID"
    FLAGS = b"FLAGS"
    INTERNALDATE = b"INTERNALDATE"
    SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    MODSEQ = b"MODSEQ"
    PREVIEW = b"PREVIEW"  # RFC 8970
    EMAILID = b"EMAILID"  # RFC 8474 §5.3
    THREADID = b"THREADID"
    SAVEDATE = b"SAVEDATE"  # RFC 8514 §4.2


@dataclass(frozen=True, slots=True)
class Section:
    """Octets of the message: BODY[...], RFC822 and their like (RFC 9051 §6.4.5.1)."""

    label: bytes  # what the response repeats
    part: str  # "1.2"; "" is the message itself
    text: str  # "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME
    fields: tuple[bytes, ...]
    offset: int | None  # of a partial fetch; None: all
    length: int  # at most, when there is an offset
    sets_seen: bool

    @property
    def in_header(self) -> bool:
        """Whether the stored header of the message is enough."""
        return not self.part and self.text.startswith("HEADER")

    @property
    def needs_octets(self) -> bool:
        """Whether the message must be opened."""
        return not self.in_header

    @property
    def specifier(self) -> str:
        """The section as text without field names: "1.2.MIME"."""
        text = "HEADER" if self.text.startswith("HEADER") else self.text
        return f"{self.part}.{text}" if self.part and text else self.part or text


@dataclass(frozen=True, slots=True)
class Binary:
    """Octets of a part without their transfer encoding, or how many they are (RFC 3516 §4.2)."""

    label: bytes
    part: str  # "1.2"; "" is the message itself
    offset: int | None  # of a partial fetch; None: all
    length: int
    sets_seen: bool
    size_only: bool

    @property
    def needs_octets(self) -> bool:
        """Whether the message must be opened; sizes were counted at delivery."""
        return not self.size_only


Item = Attribute | Section | Binary


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH: messages and data items, in the order in which they were asked for."""

    messages: SequenceSet
    by_uid: bool
    items: tuple[Item, ...]
    changed_since: int | None = None  # only messages above a mod-sequence (RFC 7162 §3.1.4.1)
    vanished: bool = False  # tell also what has left since then (RFC 7162 §3.2.6)
    partial: Partial | None = None  # only a stretch of the messages (RFC 9394 §3.3)

    @property
    def sets_seen(self) -> bool:
        r"""Whether the fetch sets \\Seen."""
        return any(not isinstance(item, Attribute) and item.sets_seen for item in self.items)


_FAST = (Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.SIZE)
MACROS = {
    b"FAST": _FAST,
    b"ALL": (*_FAST, Attribute.ENVELOPE),
    b"FULL": (*_FAST, Attribute.ENVELOPE, Attribute.BODY),
}
_ATTRIBUTES = {item.value: item for item in Attribute}


def _old(label: bytes, text: str, *, sets_seen: bool) -> Section:
    return Section(label, "", text, (), None, 0, sets_seen)


OLD_SECTIONS = {
    b"RFC822": _old(b"RFC822", "", sets_seen=True),
    b"RFC822.HEADER": _old(b"RFC822.HEADER", "HEADER", sets_seen=False),
    b"RFC822.TEXT": _old(b"RFC822.TEXT", "TEXT", sets_seen=True),
    # QUIRK(Outlook): asks for RFC822.PEEK, which RFC 1730 had
    b"RFC822.PEEK": _old(b"RFC822", "", sets_seen=False),
    b"RFC822.TEXT.PEEK": _old(b"RFC822.TEXT", "TEXT", sets_seen=False),
}
_NAME = re.compile(rb"[A-Za-z0-9.]+")
_PART = re.compile(rb"[1-9]\d{0,4}(?:\.[1-9]\d{0,4}){0,200}")
_TEXT = re.compile(rb"HEADER\.FIELDS\.NOT|HEADER\.FIELDS|HEADER|TEXT|MIME", re.IGNORECASE)
_PARTIAL = re.compile(rb"<(\d{1,19})\.(\d{1,19})>")


def parse_fetch(args: Cursor) -> Fetch:
    """Read fetch = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att / "(" ...)."""
    return _fetch(args, by_uid=False)


def parse_uid_fetch(args: Cursor) -> Fetch:
    """Read "UID" SP fetch."""
    return _fetch(args, by_uid=True)


def _fetch(args: Cursor, *, by_uid: bool) -> Fetch:
    args.space()
    messages = args.sequence_set()
    args.space()
    items = list(fetch_items(args) if args.peek(b"(") else _items(args))
    changed_since, vanished, partial = _modifiers(args, by_uid=by_uid)
    args.end()
    if changed_since is not None:
        items.append(Attribute.MODSEQ)
    unique = tuple(dict.fromkeys(items))
    return Fetch(messages, by_uid, unique, changed_since, vanished, partial)


def _modifiers(args: Cursor, *, by_uid: bool) -> tuple[int | None, bool, Partial | None]:
    """Read [SP "(" fetch-modifier *(SP fetch-modifier) ")"]: CHANGEDSINCE, VANISHED, PARTIAL."""
    changed_since: int | None = None
    vanished, partial = False, None
    if not args.take(b" ("):
        return changed_since, vanished, partial
    while True:
        if args.take(b"CHANGEDSINCE "):
            changed_since = mod_sequence(args)
        elif by_uid and args.take(b"VANISHED"):
            vanished = True
        elif by_uid and args.take(b"PARTIAL "):
            partial = partial_range(args)
        else:
            args.fail("Unknown modifier")
        if args.take(b")"):
            break
        args.space()
    if vanished and changed_since is None:
        args.fail("VANISHED needs CHANGEDSINCE")
    return changed_since, vanished, partial


def fetch_items(args: Cursor) -> tuple[Item, ...]:
    """Read "(" fetch-att *(SP fetch-att) ")", each once."""
    found = [item for items in args.parenthesized(lambda: _items(args)) for item in items]
    unique = tuple(dict.fromkeys(found))
    return unique if len(unique) <= MAX_ITEMS else args.fail("Too many data items")


def _items(args: Cursor) -> tuple[Item, ...]:
    """Read one fetch-att; a macro is several."""
    name = args.match(_NAME, "a data item").upper()
    if name in MACROS:
        return MACROS[name]
    if name in (b"BODY", b"BODY.PEEK") and args.take(b"["):
        return (_section(args, sets_seen=name == b"BODY"),)
    if name in (b"BINARY", b"BINARY.PEEK", b"BINARY.SIZE"):
        return (_binary(args, name),)
    if name == b"PREVIEW":
        _preview_modifiers(args)
    if name in _ATTRIBUTES:
        return (_ATTRIBUTES[name],)
    if name not in OLD_SECTIONS:
        args.fail("Unknown data item")
    return (OLD_SECTIONS[name],)


def _section(args: Cursor, *, sets_seen: bool) -> Section:
    """section = "[" [section-spec] "]", after its "[", and the partial that may follow."""
    part = args.maybe(_PART)
    text = b""
    if not part or args.take(b"."):
        text = args.maybe(_TEXT).upper()
        if (part or not args.peek(b"]")) and not text:
            args.fail("Unknown section")
    if text == b"MIME" and not part:
        args.fail("MIME needs a part number")
    fields: tuple[bytes, ...] = ()
    if text.startswith(b"HEADER.FIELDS"):
        args.space()
        fields = tuple(args.parenthesized(args.astring))
        if len(fields) > MAX_FIELDS:
            args.fail("Too many header fields")
    args.expect(b"]")
    label = _label(part, text, fields)
    partial = args.maybe(_PARTIAL)
    if not partial:
        return Section(label, part.decode(), text.decode(), fields, None, 0, sets_seen)
    offset, length = (int(number) for number in partial[1:-1].split(b"."))
    if not length:
        args.fail("A partial fetch needs a length")
    label += b"<%d>" % offset
    return Section(label, part.decode(), text.decode(), fields, offset, length, sets_seen)


def _binary(args: Cursor, name: bytes) -> Binary:
    """Read section-binary = "[" [section-part] "]" and its partial (RFC 3516 §7)."""
    args.expect(b"[")
    part = args.maybe(_PART)
    args.expect(b"]")
    size_only = name == b"BINARY.SIZE"
    label = b"%b[%b]" % (name if size_only else b"BINARY", part)
    offset, length = None, 0
    partial = b"" if size_only else args.maybe(_PARTIAL)
    if partial:
        offset, length = (int(number) for number in partial[1:-1].split(b"."))
        if not length:
            args.fail("A partial fetch needs a length")
        label += b"<%d>" % offset
    return Binary(label, part.decode(), offset, length, name == b"BINARY", size_only)


def _preview_modifiers(args: Cursor) -> None:
    """Read [SP "(" preview-mod *(SP preview-mod) ")"]; previews are at hand, so LAZY is nothing."""
    if not args.peek(b" ("):
        return
    args.space()
    for modifier in args.parenthesized(args.word):
        if modifier != b"LAZY":
            args.fail("Unknown modifier of PREVIEW")


def _label(part: bytes, text: bytes, fields: tuple[bytes, ...]) -> bytes:
    spec = b".".join(piece for piece in (part, text) if piece)
    if fields:
        spec += b" (%b)" % b" ".join(astring(field) for field in fields)
    return b"BODY[%b]" % spec


def render(command: Fetch) -> bytes:
    """Write the arguments as a client would; `parse_fetch` reads them back."""
    items = b" ".join(_item(item) for item in command.items)
    text = b" %b (%b)" % (command.messages.render(), items)
    modifiers = []
    if command.changed_since is not None:
        modifiers.append(b"CHANGEDSINCE %d" % command.changed_since)
    if command.vanished:
        modifiers.append(b"VANISHED")
    if command.partial is not None:
        modifiers.append(b"PARTIAL %b" % command.partial.text)
    return text + b" (%b)" % b" ".join(modifiers) if modifiers else text


def _item(item: Item) -> bytes:
    if isinstance(item, Attribute):
        return item.value
    label = item.label
    if item.offset is not None:
        label = label.rpartition(b"<")[0] + b"<%d.%d>" % (item.offset, item.length)
    if isinstance(item, Binary) and (item.sets_seen or item.size_only):
        return label
    if isinstance(item, Binary):
        return b"BINARY.PEEK" + label[6:]
    if label.startswith(b"BODY[") and not item.sets_seen:
        return b"BODY.PEEK" + label[4:]
    if label in (b"RFC822", b"RFC822.TEXT") and not item.sets_seen:
        return label + b".PEEK"
    return label
