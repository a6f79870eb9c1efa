"""Messages without NUL, which no string of IMAP4rev1 may have (RFC 3501 §4.3.1)."""

import base64
import re

from mailserver.mime.message import Part
from mailserver.mime.scan import parse

_IDENTITY = ("7bit", "8bit", "binary")
_TRANSFER_ENCODING = re.compile(
    rb"(?im)^content-transfer-encoding[ \t]*+:[^\n]*+\n(?:[ \t][^\n]*+\n)*"
)
_MULTIPART = re.compile(rb"(?im)^content-type[ \t]*+:\s*+multipart/")
_MIME_VERSION = re.compile(rb"(?im)^mime-version[ \t]*+:")


def textual(raw: bytes) -> bytes:
    """Put the parts that have NUL into base64, as RFC 3516 §4.4 lets APPEND do.

    NUL stays in header fields and in parts that may not be encoded (RFC 2045 §6.4).
    """
    if b"\0" not in raw:
        return raw
    pieces: list[bytes] = []
    position = 0
    for part in parse(raw).parts:
        if part.children or part.type == "message" or part.encoding not in _IDENTITY:
            continue
        header = raw[part.header_start : part.body_start]
        if raw.find(b"\0", part.body_start, part.body_end) < 0 or _MULTIPART.search(header):
            continue
        pieces.append(raw[position : part.header_start])
        pieces.append(_encoded(raw, part, header))
        position = part.body_end
    pieces.append(raw[position:])
    return b"".join(pieces)


def _encoded(raw: bytes, part: Part, header: bytes) -> bytes:
    end_of_line = b"\r\n" if header.endswith(b"\r\n") else b"\n"
    fields = _TRANSFER_ENCODING.sub(b"", header[: -len(end_of_line)])
    if part.parent < 0 and not _MIME_VERSION.search(fields):
        fields += b"MIME-Version: 1.0" + end_of_line
    fields += b"Content-Transfer-Encoding: base64" + end_of_line
    lines = base64.encodebytes(raw[part.body_start : part.body_end])
    if part.parent >= 0:
        lines = lines[:-1]  # the line end before a delimiter belongs to the delimiter
    return fields + end_of_line + lines.replace(b"\n", end_of_line)
