"""GETMETADATA and SETMETADATA (RFC 5464)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.responses import astring, literal, string

MAX_NAME = 255  # octets of the name of an entry
MAX_ENTRIES = 100  # in one command
INFINITY = MAX_NAME  # levels; no name has more
_DEPTHS = {b"0": 0, b"1": 1, b"INFINITY": INFINITY}
_SCOPE = re.compile(r"/(private|shared)(/|\Z)")
_FORBIDDEN = re.compile(rb"[^\x1a-\x7e]|[*%]|//|/\Z")


@dataclass(frozen=True, slots=True)
class GetMetadata:
    """GETMETADATA: entries of a mailbox, or of the server when the mailbox is empty."""

    mailbox: str
    entries: tuple[str, ...]  # as the client wrote them
    max_size: int | None = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """SETMETADATA: values by the name of the entry in lower case; None removes."""

    mailbox: str
    values: Mapping[str, bytes | None]


def entry(args: Cursor) -> str:
    """Read entry = astring, the name of an entry or of what is above entries (RFC 5464 §3.2)."""
    octets = args.astring()
    if len(octets) > MAX_NAME or _FORBIDDEN.search(octets):
        args.fail("Invalid entry name")
    name = octets.decode("ascii")
    if not _SCOPE.match(name.lower()):
        args.fail("Entry names begin with /private or /shared")
    return name


def entries(args: Cursor) -> tuple[str, ...]:
    """Read "(" entry *(SP entry) ")"."""
    found = args.parenthesized(lambda: entry(args))
    if len(found) > MAX_ENTRIES:
        args.fail("Too many entries")
    return tuple(dict.fromkeys(found))


def parse_getmetadata(args: Cursor) -> GetMetadata:
    """Read getmetadata = "GETMETADATA" [SP getmetadata-options] SP mailbox SP entries.

    The examples of RFC 5464 have the options after the mailbox and clients follow them, and one has
    several entries without parentheses: all is read.
    """
    args.space()
    options: dict[bytes, int] = {}
    if args.peek(b"("):
        options = _options(args)
        args.space()
    mailbox = args.mailbox()
    args.space()
    if args.peek(b"(MAXSIZE ") or args.peek(b"(DEPTH "):
        options |= _options(args)
        args.space()
    if args.peek(b"("):
        wanted = entries(args)
    else:
        found = [entry(args)]
        while args.peek(b" /") and len(found) < MAX_ENTRIES:
            args.space()
            found.append(entry(args))
        wanted = tuple(dict.fromkeys(found))
    args.end()
    return GetMetadata(mailbox, wanted, options.get(b"MAXSIZE"), options.get(b"DEPTH", 0))


def _options(args: Cursor) -> dict[bytes, int]:
    def option() -> tuple[bytes, int]:
        name = args.word()
        args.space()
        if name == b"MAXSIZE":
            return name, args.number()
        depth = _DEPTHS.get(args.word()) if name == b"DEPTH" else None
        return (name, depth) if depth is not None else args.fail("Unknown option")

    return dict(args.parenthesized(option))


def parse_setmetadata(args: Cursor) -> SetMetadata:
    """Read setmetadata = "SETMETADATA" SP mailbox SP entry-values."""

    def entry_value() -> tuple[str, bytes | None]:
        name = entry(args).lower()
        parts = name.split("/")
        if len(parts) < (5 if parts[2:3] == ["vendor"] else 3):  # RFC 5464 §3.2
            args.fail("Entry name is too short")
        args.space()
        return name, args.nstring()

    args.space()
    mailbox = args.mailbox()
    args.space()
    values = args.parenthesized(entry_value)
    args.end()
    if len(values) > MAX_ENTRIES:
        args.fail("Too many entries")
    return SetMetadata(mailbox, dict(values))


def chosen(command: GetMetadata, values: Mapping[str, bytes]) -> list[tuple[str, bytes | None]]:
    """Return what GETMETADATA is about: an entry that is named and not there has no value."""
    found: dict[str, tuple[str, bytes | None]] = {}
    for wanted in command.entries:
        name = wanted.lower()
        if name in values or not command.depth:
            found[name] = (wanted, values.get(name))
        below = name + "/"
        for other, value in values.items() if command.depth else ():
            if other.startswith(below) and other.count("/", len(below)) < command.depth:
                found.setdefault(other, (other, value))
    return list(found.values())


def metadata(name: bytes, values: Iterable[tuple[str, bytes | None]]) -> bytes:
    """Write a METADATA response for a mailbox; the empty name is the server."""
    shown = b" ".join(
        b"%b %b" % (astring(entry.encode("ascii")), _value(value)) for entry, value in values
    )
    return b"* METADATA %b (%b)\r\n" % (name, shown)


def _value(value: bytes | None) -> bytes:
    if value is None:
        return b"NIL"
    return b"~" + literal(value) if b"\0" in value else string(value)
