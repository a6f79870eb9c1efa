"""Parameters of Content-Type and Content-Disposition (RFC 2045 §5.1, RFC 2231)."""

import re
from urllib.parse import unquote_to_bytes

from mailserver.mime.charsets import decode_charset, decode_header_text
from mailserver.mime.headers import one_line

PARAMETER_LIMIT = 100  # more are not interpreted; real mail has up to ten

Parameters = tuple[tuple[str, str], ...]

# name "=" (quoted-string / anything up to ";"); whatever does not fit is passed over up to ";".
# Every position is consumed, so that a search never starts again inside what it has seen.
_PARAMETER = re.compile(
    rb"[;\s]*+(?:"
    rb"([^\s=;\"()]++)\s*+=\s*+(?:\"((?>(?:[^\"\\]++|\\.)*))\"?+|([^;\"]*+))"
    rb"|[^;]++|\Z)",
    re.DOTALL,
)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT = re.compile(rb"\s*+\([^()]*+\)")
_TOKEN = re.compile(rb"[^\s;()\"]++")
_PIECE = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?\Z")


def parse(text: bytes) -> Parameters:
    """Read what follows the type; names are lower-case, the first of two equal names counts.

    A value that came with a charset (RFC 2231) has a name that ends with "*", as IMAP shows it
    (RFC 9051 §7.5.2); it is decoded here, and so are continuations.
    """
    found: dict[str, bytes] = {}
    split = False
    if b"(" in text and b'"' not in text:
        text = _COMMENT.sub(b" ", text)
    for raw_name, quoted, bare in _PARAMETER.findall(text):
        if not raw_name:
            continue
        name = raw_name.lower().decode("ascii", "replace")
        if name in found:
            continue
        split = split or "*" in name
        found[name] = _bare(bare) if bare else _quoted(quoted)
        if len(found) == PARAMETER_LIMIT:
            break
    if split:
        return _join(found)
    return tuple((name, decode_header_text(value)) for name, value in found.items())


def _quoted(text: bytes) -> bytes:
    return one_line(_QUOTED_PAIR.sub(rb"\1", text) if b"\\" in text else text)


def _bare(text: bytes) -> bytes:
    return one_line(_COMMENT.sub(b"", text) if b"(" in text else text)


def _join(found: dict[str, bytes]) -> Parameters:
    """Put continuations together and decode charsets (RFC 2231 §3, §4)."""
    plain: dict[str, bytes] = {}
    pieces: dict[str, dict[int, tuple[bytes, bool]]] = {}
    for name, value in found.items():
        match = _PIECE.match(name)
        if match is None or (match[2] is None and match[3] is None):
            plain[name] = value
        else:
            number = int(match[2] or 0)
            pieces.setdefault(match[1], {}).setdefault(number, (value, bool(match[3])))
    result = [(n, decode_header_text(v)) for n, v in plain.items() if n not in pieces]
    for name, numbered in pieces.items():
        text, extended = _assemble(numbered)
        result.append((name + "*" if extended else name, text))
    return tuple(result)


def _assemble(numbered: dict[int, tuple[bytes, bool]]) -> tuple[str, bool]:
    """Join the pieces from the lowest number up to the first gap."""
    charset, octets, extended = "", bytearray(), False
    number = min(numbered)
    first = True
    while number in numbered:
        value, percent = numbered[number]
        if percent:
            extended = True
            if first and value.count(b"'") >= 2:
                name, _, value = value.split(b"'", 2)
                charset = name.decode("ascii", "replace")
            value = unquote_to_bytes(value)
        octets += value
        number, first = number + 1, False
    data = bytes(octets)
    return (decode_charset(data, charset)[0] if charset else decode_header_text(data)), extended


def get(parameters: Parameters, name: str) -> str | None:
    """Return a decoded value; the RFC 2231 form wins over the plain one."""
    plain = None
    for found, value in parameters:
        if found == name and plain is None:
            plain = value
        elif found == name + "*":
            return value
    return plain


def token(value: bytes) -> str:
    """Return the leading token of a field in lower case, without comments; "" without one."""
    found = _TOKEN.search(_COMMENT.sub(b"", value) if b"(" in value else value)
    return found[0].lower().decode("ascii", "replace") if found else ""
