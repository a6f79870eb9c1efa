"""APPEND and REPLACE."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import unquote_to_bytes

from mailserver.imap.protocol import flags
from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.framing import Spooled
from mailserver.imap.protocol.sequences import SequenceSet
from mailserver.model import Flags

MAX_PARTS = 1000  # that one command may put together


@dataclass(frozen=True, slots=True)
class Url:
    """A message or a part of one, named by a relative IMAP URL (RFC 4469 §3)."""

    text: bytes  # as the client wrote it
    mailbox: str | None  # None: the selected one
    uidvalidity: int | None
    uid: int
    section: str
    offset: int
    length: int | None


@dataclass(frozen=True, slots=True)
class BadUrl:
    """A URL that names no message here."""

    text: bytes


Part = bytes | Spooled | Url | BadUrl


@dataclass(frozen=True, slots=True)
class NewMessage:
    """One append-message: what makes up its octets, one after the other."""

    flags: Flags
    received_at: datetime | None  # None: now
    parts: tuple[Part, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND: messages for a mailbox, all of them or none (RFC 3502)."""

    mailbox: str
    messages: tuple[NewMessage, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """REPLACE: a message for a mailbox, in place of one of the selected mailbox (RFC 8508)."""

    replaced: SequenceSet
    by_uid: bool
    mailbox: str
    message: NewMessage


_URL = re.compile(
    rb"(?![a-z][a-z0-9+.-]*:|//)"  # nothing absolute
    rb"(?:/?(?P<mailbox>[^;/?#][^;?#]*?)(?:;UIDVALIDITY=(?P<validity>[1-9]\d{0,9}))?)?"
    rb"(?:^|/);UID=(?P<uid>[1-9]\d{0,9})"
    rb"(?:/;SECTION=(?P<section>[^;?#/]+))?"
    rb"(?:/;PARTIAL=(?P<offset>\d{1,10})(?:\.(?P<length>[1-9]\d{0,9}))?)?",
    re.IGNORECASE,
)
_SECTION = re.compile(
    r"(?:[1-9]\d{0,4}(?:\.[1-9]\d{0,4}){0,200}(?:\.(?:HEADER|TEXT|MIME))?|HEADER|TEXT)",
    re.IGNORECASE,
)


def parse_append(args: Cursor) -> Append:
    """Read append = "APPEND" SP mailbox 1*append-message (RFC 3502 §6)."""
    args.space()
    mailbox = args.mailbox()
    args.space()
    messages = [_message(args)]
    parts = len(messages[0].parts)
    while args.take(b" ") and not args.at_end():  # QUIRK(several): a space at the end
        args.take(b" ")  # QUIRK(IMAPClient): two spaces between the messages of one APPEND
        messages.append(_message(args))
        parts += len(messages[-1].parts)
        if parts > MAX_PARTS:
            args.fail("Too many messages or parts")
    args.end()
    return Append(mailbox, tuple(messages))


def parse_replace(args: Cursor) -> Replace:
    """Read replace = "REPLACE" SP seq-number SP mailbox append-message (RFC 8508 §5)."""
    return _replace(args, by_uid=False)


def parse_uid_replace(args: Cursor) -> Replace:
    """Read "UID" SP replace, whose number is a UID."""
    return _replace(args, by_uid=True)


def _replace(args: Cursor, *, by_uid: bool) -> Replace:
    args.space()
    message = args.sequence_set()
    if len(message.ranges) != 1 or message.ranges[0][0] != message.ranges[0][1]:
        args.fail("Expected the number of one message")
    args.space()
    mailbox = args.mailbox()
    args.space()
    replacement = _message(args)
    args.end()
    return Replace(message, by_uid, mailbox, replacement)


def _message(args: Cursor) -> NewMessage:
    """Read append-message = [SP flag-list] [SP date-time] SP append-data, after its first SP."""
    names: list[str] = []
    if args.peek(b"("):
        names = args.flag_list()
        args.space()
    received_at = None
    if args.peek(b'"'):
        received_at = args.date_time()
        args.space()
    parts: tuple[Part, ...]
    if args.take(b"CATENATE "):
        parts = tuple(args.parenthesized(lambda: _part(args)))
        if len(parts) > MAX_PARTS:
            args.fail("Too many parts")
    elif args.take(b"UTF8 "):
        parts = (_utf8(args),)
    else:
        parts = (args.message(),)
    # QUIRK(several): \Recent among the flags of a copied message is dropped, not refused
    kept = flags.read([name for name in names if name.lower() != "\\recent"])
    return NewMessage(kept, received_at, parts)


def _part(args: Cursor) -> Part:
    """Read cat-part = "TEXT" SP literal / "URL" SP astring / utf8-literal."""
    kind = args.word()
    args.space()
    if kind == b"TEXT":
        return args.message()
    if kind == b"UTF8":
        return _utf8(args)
    if kind != b"URL":
        args.fail("Expected TEXT or URL")
    return parse_url(args.astring())


def _utf8(args: Cursor) -> bytes | Spooled:
    """Read what is in utf8-literal = "UTF8" SP "(" literal8 ")" (RFC 6855 §4)."""
    args.expect(b"(")
    octets = args.message()
    args.expect(b")")
    return octets


def parse_url(text: bytes) -> Url | BadUrl:
    """Read [mailbox [";UIDVALIDITY="n]] "/;UID="n ["/;SECTION="s] ["/;PARTIAL="o["."n]]."""
    found = _URL.fullmatch(text)
    if found is None:
        return BadUrl(text)
    try:
        mailbox = None
        if found["mailbox"] is not None:
            mailbox = unquote_to_bytes(found["mailbox"].rstrip(b"/")).decode()
        section = unquote_to_bytes(found["section"] or b"").decode("ascii")
    except UnicodeDecodeError:
        return BadUrl(text)
    if section and not _SECTION.fullmatch(section):
        return BadUrl(text)
    return Url(
        text,
        mailbox,
        int(found["validity"]) if found["validity"] else None,
        int(found["uid"]),
        section.upper(),
        int(found["offset"] or 0),
        int(found["length"]) if found["length"] else None,
    )
