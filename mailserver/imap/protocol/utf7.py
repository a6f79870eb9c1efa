"""Modified UTF-7, the encoding of mailbox names in IMAP4rev1 (RFC 3501 §5.1.3)."""

import base64
import binascii
import re

from mailserver.imap.protocol.errors import BadName

_RUN = re.compile(r"[^\x20-\x7e]+")
_SHIFT = re.compile(rb"&([^-]*)-")
_PRINTABLE = re.compile(rb"[\x20-\x7e]*\Z")


def encode(name: str) -> bytes:
    """Encode a mailbox name; the opposite of `decode`."""
    return _RUN.sub(_encode_run, name.replace("&", "&-")).encode("ascii")


def _encode_run(run: re.Match[str]) -> str:
    octets = base64.b64encode(run[0].encode("utf-16-be", "surrogatepass"), b"+,")
    return "&" + octets.rstrip(b"=").decode("ascii") + "-"


def decode(octets: bytes) -> str:
    """Decode a mailbox name; raise BadName for anything that `encode` never makes."""
    if not _PRINTABLE.match(octets):
        raise BadName("Mailbox name has a character that must be encoded")
    try:
        name = "".join(_pieces(octets))
    except (binascii.Error, UnicodeDecodeError):
        raise BadName("Mailbox name is not valid modified UTF-7") from None
    if encode(name) != octets:  # several spellings of one name would be several mailboxes
        raise BadName("Mailbox name is not valid modified UTF-7")
    return name


def _pieces(octets: bytes) -> list[str]:
    pieces = []
    position = 0
    for shift in _SHIFT.finditer(octets):
        pieces.append(octets[position : shift.start()].decode("ascii"))
        coded = shift[1]
        if not coded:
            pieces.append("&")
        else:
            padded = coded.replace(b",", b"/") + b"=" * (-len(coded) % 4)
            pieces.append(base64.b64decode(padded, validate=True).decode("utf-16-be"))
        position = shift.end()
    pieces.append(octets[position:].decode("ascii"))
    return pieces
