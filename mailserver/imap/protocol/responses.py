"""What the server says, as octets (RFC 9051 §7)."""

import functools
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from mailserver.imap.protocol import utf7
from mailserver.imap.protocol.cursor import MONTHS
from mailserver.model import SPECIAL_USES, IdKind, MailboxId, Role, id_text

CRLF = b"\r\n"
DELIMITER = "/"
_QUOTABLE = re.compile(rb"[\x20-\x7e]*\Z")
_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def literal(octets: bytes) -> bytes:
    """Write a literal."""
    return b"{%d}\r\n" % len(octets) + octets  # a long one is not copied twice


def string(octets: bytes) -> bytes:
    """Write a string: quoted when it can be, else a literal."""
    if len(octets) > 1000 or not _QUOTABLE.match(octets):
        return literal(octets)
    return b'"%b"' % octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def nstring(octets: bytes | None) -> bytes:
    """Write a string or NIL."""
    return b"NIL" if octets is None else string(octets)


def astring(octets: bytes) -> bytes:
    """Write an atom when it can be one, else a string."""
    if _ATOM.match(octets) and octets.upper() != b"NIL":
        return octets
    return string(octets)


def mailbox_name(path: str, *, utf8: bool) -> bytes:
    """Write a mailbox name: in UTF-8 when the client has enabled that, else in modified UTF-7."""
    if not utf8 or (path.isascii() and "&" not in path):
        return astring(utf7.encode(path))
    return b'"%b"' % path.replace("\\", "\\\\").replace('"', '\\"').encode()


def status_line(tag: bytes, status: bytes, text: bytes, code: bytes | None = None) -> bytes:
    """Write a tagged or untagged OK, NO, BAD, PREAUTH or BYE."""
    if code is None:
        return b"%b %b %b\r\n" % (tag, status, text)
    return b"%b %b [%b] %b\r\n" % (tag, status, code, text)


def untagged(text: bytes) -> bytes:
    """Write one line of data."""
    return b"* %b\r\n" % text


def date_time(milliseconds: int) -> bytes:
    """Write an instant, milliseconds since 1970, as the text inside INTERNALDATE "..."."""
    days, seconds = divmod(milliseconds // 1000, 86_400)
    return _day(days) + _MINUTES[seconds // 60] + _SECONDS[seconds % 60]


# FETCH writes one for each message of a mailbox: put together of what is there, it takes a quarter
_MINUTES = [b" %02d:%02d" % divmod(minute, 60) for minute in range(24 * 60)]
_SECONDS = [b":%02d +0000" % second for second in range(60)]


@functools.lru_cache(maxsize=4096)
def _day(days: int) -> bytes:
    date = _EPOCH + timedelta(days=days)
    return b"%2d-%b-%04d" % (date.day, MONTHS[date.month - 1], date.year)


def in_progress(tag: bytes, progress: tuple[int, int] | None) -> bytes:
    """Write the response code INPROGRESS: what is done and what there is to do (RFC 9585 §4)."""
    shown = b"NIL" if b"]" in tag else string(tag)  # which would end the code
    if progress is None:
        return b"INPROGRESS (%b NIL NIL)" % shown
    done, goal = progress
    return b"INPROGRESS (%b %d %d)" % (shown, min(done, goal - 1), goal)


def list_line(
    name: bytes,
    attributes: Iterable[str],
    word: bytes = b"LIST",
    *,
    child_info: bool = False,
    old_name: bytes | None = None,
) -> bytes:
    """Write one LIST or LSUB response.

    CHILDINFO: something below is subscribed (RFC 5258); OLDNAME: how the client called it, or how
    it was called before (RFC 9051 §6.3.9.7).
    """
    shown = " ".join(attributes).encode("ascii")
    extended = b' ("CHILDINFO" ("SUBSCRIBED"))' if child_info else b""
    if old_name is not None:
        extended = b' ("OLDNAME" (%b))' % old_name
    return b'* %b (%b) "/" %b%b\r\n' % (word, shown, name, extended)


def mailbox_attributes(role: Role | None, *, has_children: bool) -> list[str]:
    """Return what LIST says about a mailbox (RFC 3348 §3, RFC 6154 §2)."""
    attributes = ["\\HasChildren" if has_children else "\\HasNoChildren"]
    if role in SPECIAL_USES:
        attributes.append(SPECIAL_USES[role])
    return attributes


def mailbox_id(mailbox: MailboxId) -> bytes:
    """Write "MAILBOXID" SP "(" objectid ")": a response code, an item of STATUS (RFC 8474 §4)."""
    return b"MAILBOXID (%b)" % id_text(IdKind.MAILBOX, mailbox).encode("ascii")


def status(name: bytes, items: Sequence[bytes]) -> bytes:
    """Write a STATUS response of items with their values."""
    shown = b" ".join(items)
    return b"* STATUS %b (%b)\r\n" % (name, shown)
