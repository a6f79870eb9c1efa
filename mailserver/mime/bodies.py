"""Bodies without their transfer encoding (RFC 2045 §6), tolerant and of known size."""

import binascii
import re

from mailserver.mime.charsets import decode_charset

_BASE64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64_ALPHABET))
_CHUNK = 1 << 16
# White space at the end of an encoded line was added on the way (RFC 2045 §6.7 rule 3). It is
# looked for from its first octet only: a long run that ends no line costs its length once.
_PADDING = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
_TABS_AND_CRS = bytes.maketrans(b"\t\r", b" \n")  # become blanks and line ends
_UU_BEGIN = re.compile(rb"(?m:^)begin [0-7]{3,4} [^\n]*+\n")
_UU_NAMES = ("x-uuencode", "uuencode", "x-uue", "uue")
_KNOWN = ("7bit", "8bit", "binary", "base64", "quoted-printable", *_UU_NAMES)


def is_known(encoding: str) -> bool:
    """Tell whether `decode_body` removes that encoding; if not, BINARY answers UNKNOWN-CTE."""
    return encoding in _KNOWN


def decode_body(octets: bytes, encoding: str) -> bytes:
    """Remove a transfer encoding; an unknown one is taken for none (RFC 8621 §4.1.4)."""
    if encoding == "base64":
        return _base64(octets)
    if encoding == "quoted-printable":
        return binascii.a2b_qp(_PADDING.sub(b"", octets) if _may_have_padding(octets) else octets)
    if encoding in _UU_NAMES:
        return _uu(octets)
    return octets


def _may_have_padding(octets: bytes) -> bool:
    """Look for white space before a line end without looking at every blank."""
    return octets.endswith((b" ", b"\t")) or b" \n" in octets.translate(_TABS_AND_CRS)


def decoded_size(raw: bytes, start: int, end: int, encoding: str) -> int:
    """Return len(decode_body(raw[start:end])); base64 is counted in small pieces."""
    if encoding == "base64":
        stop = raw.find(b"=", start, end)
        stop = end if stop < 0 else stop
        count = 0
        for position in range(start, stop, _CHUNK):
            chunk = raw[position : min(position + _CHUNK, stop)]
            count += len(chunk.translate(None, _NOT_BASE64))
        return count * 3 // 4 if count % 4 != 1 else count // 4 * 3
    if encoding == "quoted-printable" or encoding in _UU_NAMES:
        return len(decode_body(raw[start:end], encoding))
    return end - start


def _base64(octets: bytes) -> bytes:
    """Decode up to the padding; foreign octets are passed over (RFC 2045 §6.8)."""
    data = octets.partition(b"=")[0].translate(None, _NOT_BASE64)
    if len(data) % 4 == 1:  # six bits are no octet
        data = data[:-1]
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4))


def _uu(octets: bytes) -> bytes:
    """Decode the first uuencoded file of a body."""
    begin = _UU_BEGIN.search(octets)
    if begin is None:
        return b""
    lines = []
    for line in octets[begin.end() :].split(b"\n"):
        text = line.rstrip(b"\r")
        if text == b"end":
            break
        lines.append(_uu_line(text))
    return b"".join(lines)


def _uu_line(line: bytes) -> bytes:
    if not line:
        return b""
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:
        # QUIRK(encoders): trailing junk; the first octet says how much of the line is data
        try:
            return binascii.a2b_uu(line[: (((line[0] - 32) & 63) * 4 + 5) // 3])
        except binascii.Error:
            return b""


def decode_text(octets: bytes, charset: str | None, encoding: str) -> tuple[str, bool]:
    """Return the text of a body for `bodyValues`, and whether there was an encoding problem.

    Line ends become LF, NUL is dropped (RFC 8621 §4.1.4).
    """
    text, problem = decode_charset(decode_body(octets, encoding), charset)
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return text.replace("\0", ""), problem or not is_known(encoding)
