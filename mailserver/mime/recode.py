"""Messages made into 7 bits or into lines, for who takes no other (RFC 6152 §3, RFC 3030 §3).

Only leaves of the MIME tree are encoded anew, their headers say so, and nothing else changes.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

from mailserver.mime.headers import HeaderBlock
from mailserver.mime.message import Part
from mailserver.mime.scan import parse

MAX_LINE = 998  # octets without CR LF, RFC 5322 §2.1.1
_IDENTITY = ("7bit", "8bit", "binary")
_HIGH = re.compile(rb"[\x80-\xff]")
_UNFIT = re.compile(rb"[\x00\x80-\xff]|\r(?!\n)|(?<!\r)\n")
_Edit = tuple[int, int, bytes]


def has_long_lines(raw: bytes) -> bool:
    """Tell whether a line is longer than servers must take (RFC 5321 §4.5.3.1.6)."""
    start = 0
    while start + MAX_LINE + 2 <= len(raw):
        end = raw.rfind(b"\n", start, start + MAX_LINE + 2)
        if end < 0:
            return True
        start = end + 1
    return False


def is_lines(raw: bytes) -> bool:
    """Tell whether octets are lines of text: no NUL, and CR and LF in pairs only."""
    pairs = raw.count(b"\r\n")
    return pairs == raw.count(b"\n") == raw.count(b"\r") and b"\0" not in raw


def to_lines(raw: bytes) -> bytes | None:
    """Return a message with binary parts as lines, those parts in base64 (RFC 3030 §3).

    None when that would change what it says: binary header fields, and what is signed.
    """
    if is_lines(raw):
        return raw
    result = _recoded(raw, Fit(is_lines, b"8bit"))
    return result if result is not None and is_lines(result) else None


def to_seven_bit(raw: bytes) -> bytes | None:
    """Return the message in 7 bits and short lines; None when that would change what it says.

    That is so for headers that are not ASCII, and for what is signed.
    """
    result = _recoded(raw, Fit(_is_seven_bit, b"7bit"))
    return result if result is not None and _is_seven_bit(result) else None


def _is_seven_bit(raw: bytes) -> bool:
    return raw.isascii() and not has_long_lines(raw)


@dataclass(frozen=True, slots=True)
class Fit:
    """What bodies have to be, and the label of those that are."""

    test: Callable[[bytes], bool]
    label: bytes


def _recoded(raw: bytes, fit: Fit) -> bytes | None:
    """Return the message with the parts that do not fit encoded; None when one may not be."""
    message = parse(raw)
    edits: list[_Edit] = []
    for part in message.parts:
        if not _plan(raw, part, edits, fit):
            return None
    pieces: list[bytes] = []
    position = 0
    for start, end, new in sorted(edits, key=lambda edit: edit[:2]):
        pieces += (raw[position:start], new)
        position = end
    pieces.append(raw[position:])
    return b"".join(pieces)


def _plan(raw: bytes, part: Part, edits: list[_Edit], fit: Fit) -> bool:
    """Add what has to change of one part; False when it may not change."""
    body = raw[part.body_start : part.body_end]
    if fit.test(body):
        return True
    if part.type == "multipart" or part.message is not None:
        if part.subtype == "signed":
            return False  # any change breaks the signature (RFC 1847 §2.1)
        if part.encoding in ("8bit", "binary"):
            edits.append(_relabelled(raw, part, fit.label))
        edits.extend(_cleaned(raw, part, fit))
        return True
    if part.encoding not in _IDENTITY:
        return True  # encoded already; octets that do not belong there are left to the check
    high = len(_HIGH.findall(body))
    if part.type == "text" and high * 6 < len(body) and is_lines(body):
        label, new = b"quoted-printable", _quoted(body)
    else:
        label, new = b"base64", _base64(body)
    edits.append(_relabelled(raw, part, label))
    edits.append((part.body_start, part.body_end, new))
    return True


def _cleaned(raw: bytes, part: Part, fit: Fit) -> list[_Edit]:
    """Replace the octets that do not fit in what nobody reads: before and after the parts."""
    if not part.children:
        return []
    spans = (
        (part.body_start, part.children[0].header_start),
        (part.children[-1].body_end, part.body_end),
    )
    return [
        (start, end, _UNFIT.sub(b"?", raw[start:end]))
        for start, end in spans
        if not fit.test(raw[start:end])
    ]


def _relabelled(raw: bytes, part: Part, label: bytes) -> _Edit:
    """Return the edit that gives a part another Content-Transfer-Encoding."""
    block = HeaderBlock(raw, part.header_start, part.body_start)
    field = b"Content-Transfer-Encoding: " + label + b"\r\n"
    names = {each.name.lower() for each in block}
    for each in block:
        if each.name.lower() == "content-transfer-encoding":
            return each.start, each.end, field
    if part.parent < 0 and "mime-version" not in names:
        field = b"MIME-Version: 1.0\r\n" + field
        if "content-type" not in names:
            field = b"Content-Type: text/plain; charset=unknown-8bit\r\n" + field
    return block.end, block.end, field


def _quoted(body: bytes) -> bytes:
    encoded = binascii.b2a_qp(body.replace(b"\r\n", b"\n"), istext=True)
    return encoded.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _base64(body: bytes) -> bytes:
    return base64.encodebytes(body).replace(b"\n", b"\r\n").removesuffix(b"\r\n")
