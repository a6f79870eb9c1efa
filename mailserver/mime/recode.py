"""Messages with 8-bit bodies made into 7 bits, for servers that take no other (RFC 6152 §3).

Only leaves of the MIME tree are encoded anew, their headers say so, and nothing else changes.
"""

import base64
import binascii
import re

from mailserver.mime.headers import HeaderBlock
from mailserver.mime.message import Part
from mailserver.mime.scan import parse

MAX_LINE = 998  # octets without CR LF, RFC 5322 §2.1.1
_IDENTITY = ("7bit", "8bit", "binary")
_HIGH = re.compile(rb"[\x80-\xff]")
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


def to_seven_bit(raw: bytes) -> bytes | None:
    """Return the message in 7 bits and short lines; None when that would change what it says.

    That is so for headers that are not ASCII, and for what is signed.
    """
    message = parse(raw)
    edits: list[_Edit] = []
    for part in message.parts:
        if not _plan(raw, part, edits):
            return None
    pieces: list[bytes] = []
    position = 0
    for start, end, new in sorted(edits, key=lambda edit: edit[:2]):
        pieces += (raw[position:start], new)
        position = end
    pieces.append(raw[position:])
    result = b"".join(pieces)
    return result if result.isascii() and not has_long_lines(result) else None


def _plan(raw: bytes, part: Part, edits: list[_Edit]) -> bool:
    """Add what has to change of one part; False when it may not change."""
    body = raw[part.body_start : part.body_end]
    if body.isascii() and not has_long_lines(body):
        return True
    if part.type == "multipart" or part.message is not None:
        if part.subtype == "signed":
            return False  # any change breaks the signature (RFC 1847 §2.1)
        if part.encoding in ("8bit", "binary"):
            edits.append(_relabelled(raw, part, b"7bit"))
        edits.extend(_cleaned(raw, part))
        return True
    if part.encoding not in _IDENTITY:
        return True  # encoded already; octets that do not belong there are left to the check
    high = len(_HIGH.findall(body))
    if part.type == "text" and high * 6 < len(body):
        label, new = b"quoted-printable", _quoted(body)
    else:
        label, new = b"base64", _base64(body)
    edits.append(_relabelled(raw, part, label))
    edits.append((part.body_start, part.body_end, new))
    return True


def _cleaned(raw: bytes, part: Part) -> list[_Edit]:
    """Replace 8-bit octets of what nobody reads: the text before and after the parts."""
    if not part.children:
        return []
    spans = (
        (part.body_start, part.children[0].header_start),
        (part.children[-1].body_end, part.body_end),
    )
    return [
        (start, end, _HIGH.sub(b"?", raw[start:end]))
        for start, end in spans
        if not raw[start:end].isascii()
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
