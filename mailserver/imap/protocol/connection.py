"""Commands about the connection: CAPABILITY NOOP LOGOUT ID STARTTLS COMPRESS ENABLE and more."""

from collections.abc import Iterable
from dataclasses import dataclass

from mailserver.imap.protocol.cursor import Cursor

MAX_ID_FIELDS = 30  # RFC 2971 §3.3
MAX_LANGUAGES = 100
# by what asks for them; "default" is what the administrator prefers (RFC 5255 §3.2)
LANGUAGES = {b"EN": b"EN", b"I-DEFAULT": b"i-default", b"DEFAULT": b"EN"}


@dataclass(frozen=True, slots=True)
class Bare:
    """A command without arguments."""


@dataclass(frozen=True, slots=True)
class Id:
    """ID: what the client says about itself."""

    fields: tuple[tuple[bytes, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Language:
    """LANGUAGE: the languages a client wants to be spoken to in; without any, which there are."""

    ranges: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE: extensions that the client is ready for."""

    capabilities: tuple[bytes, ...]


def parse_bare(args: Cursor) -> Bare:
    """Demand that there are no arguments."""
    args.end()
    return Bare()


def parse_id(args: Cursor) -> Id:
    """Read id = "ID" SP id-params-list (RFC 2971 §4)."""
    args.space()
    fields: list[tuple[bytes, bytes | None]] = []
    if not args.take(b"NIL"):

        def field() -> tuple[bytes, bytes | None]:
            name = args.string()
            args.space()
            return name, args.nstring()

        fields = args.parenthesized(field, allow_empty=True)
    args.end()
    if len(fields) > MAX_ID_FIELDS:
        args.fail("Too many fields")
    return Id(tuple(fields))


def parse_compress(args: Cursor) -> Bare:
    """Read compress = "COMPRESS" SP algorithm, of which there is one (RFC 4978 §5)."""
    args.space()
    if args.word() != b"DEFLATE":
        args.fail("Unknown compression")
    args.end()
    return Bare()


def parse_language(args: Cursor) -> Language:
    """Read language-cmd = "LANGUAGE" *(SP lang-range-quoted) (RFC 5255 §3.5)."""
    ranges = []
    while args.take(b" ") and not args.at_end():
        ranges.append(args.astring())
        if len(ranges) > MAX_LANGUAGES:
            args.fail("Too many languages")
    args.end()
    return Language(tuple(ranges))


def chosen_language(ranges: Iterable[bytes]) -> bytes | None:
    """Return the language that the first matching range is about (RFC 4647 §3.4)."""
    for wanted in ranges:
        name = wanted.upper()
        while name:
            if name in LANGUAGES:
                return LANGUAGES[name]
            name = name.rpartition(b"-")[0]
    return None


def parse_enable(args: Cursor) -> Enable:
    """Read enable = "ENABLE" 1*(SP capability) (RFC 5161 §5)."""
    capabilities = []
    while args.take(b" "):
        capabilities.append(args.word())
    args.end()
    if not capabilities:
        args.fail("Expected a capability")
    return Enable(tuple(capabilities))
