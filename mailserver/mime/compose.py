"""Messages put together: a tree of parts becomes octets (RFC 2045, RFC 2046).

A part brings its own header fields; Content-Type, its boundary, and Content-Transfer-Encoding are
made here, so that every line is short and every relay takes the message.
"""

import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailserver.mime import fields

MAX_LINE = 990  # octets of a line that is sent as it is; 998 are allowed
_MESSAGE = frozenset({"message/rfc822", "message/global", "message/news"})
_LINE_END = re.compile(rb"\r\n|\r|\n")
_LONE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_UNSAFE_LINE = re.compile(rb"(?m)^From ")


@dataclass(frozen=True, slots=True)
class HeaderField:
    """A field whose value is written already."""

    name: str
    value: bytes  # from behind the colon, folds included


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part that has no parts."""

    type: str  # type/subtype, lower case
    source: str  # which of the contents it is
    is_text: bool  # the content is text, whose line ends do not matter
    parameters: tuple[tuple[str, str], ...] = ()  # of Content-Type
    fields: tuple[HeaderField, ...] = ()
    typed: bool = True  # False: Content-Type is among the fields


@dataclass(frozen=True, slots=True)
class Multipart:
    """A part made of parts."""

    subtype: str
    parts: "tuple[Leaf | Multipart, ...]"
    parameters: tuple[tuple[str, str], ...] = ()
    fields: tuple[HeaderField, ...] = ()


Part = Leaf | Multipart


def message(
    header: Sequence[HeaderField], root: Part, contents: Mapping[str, bytes], token: str
) -> bytes:
    """Return a message; `token` is random and makes the boundaries."""
    composer = _Composer(contents, token)
    part, _ = composer.part(root)
    top = [b"%b:%b\r\n" % (each.name.encode(), each.value) for each in header]
    return b"".join((*top, b"MIME-Version: 1.0\r\n", *part))


class _Composer:
    def __init__(self, contents: Mapping[str, bytes], token: str) -> None:
        self._contents = contents
        self._token = token
        self._count = 0

    def part(self, part: Part) -> tuple[list[bytes], str]:
        """Return the octets of a part with its header, and its transfer encoding."""
        return self._multipart(part) if isinstance(part, Multipart) else self._leaf(part)

    def _multipart(self, part: Multipart) -> tuple[list[bytes], str]:
        self._count += 1
        # "=_" is in no base64 and no quoted-printable (RFC 2045 §6.7)
        boundary = f"=_{self._token}_{self._count}"
        body: list[bytes] = []
        encoding = "7bit"
        for child in part.parts:
            octets, inner = self.part(child)
            encoding = max(encoding, inner, key=_RANK.__getitem__)
            body += [b"--", boundary.encode(), b"\r\n", *octets, b"\r\n"]
        body += [b"--", boundary.encode(), b"--\r\n"]
        parameters = (*part.parameters, ("boundary", boundary))
        head = _head(part.fields, f"multipart/{part.subtype}", parameters, encoding)
        return [head, *body], encoding

    def _leaf(self, part: Leaf) -> tuple[list[bytes], str]:
        content = self._contents[part.source]
        octets, encoding = encoded(part.type, content, is_text=part.is_text)
        media_type = part.type if part.typed else None
        parameters = part.parameters
        if part.type.startswith("text/") and not any(name == "charset" for name, _ in parameters):
            parameters = (*_charset(content), *parameters)
        head = _head(part.fields, media_type, parameters, encoding)
        return [head, octets], _CARRIED.get(encoding, "7bit")


def _charset(content: bytes) -> tuple[tuple[str, str], ...]:
    """Return the charset of a text that came without; without one it would be ASCII."""
    if content.isascii():
        return ()
    try:
        content.decode()
    except UnicodeDecodeError:
        return ()
    return (("charset", "utf-8"),)


# what a multipart must say of its parts: encodings of octets leave ASCII behind
_CARRIED = {"8bit": "8bit", "binary": "binary"}
_RANK = {"7bit": 0, "8bit": 1, "binary": 2}


def _head(
    found: Sequence[HeaderField],
    media_type: str | None,
    parameters: Sequence[tuple[str, str]],
    encoding: str,
) -> bytes:
    lines = []
    if media_type is not None:
        value = fields.parameterized("Content-Type", media_type, parameters)
        lines.append(b"Content-Type:%b\r\n" % value)
    if encoding != "7bit":
        lines.append(b"Content-Transfer-Encoding: %b\r\n" % encoding.encode())
    lines += [b"%b:%b\r\n" % (each.name.encode(), each.value) for each in found]
    return b"".join((*lines, b"\r\n"))


def encoded(media_type: str, octets: bytes, *, is_text: bool) -> tuple[bytes, str]:
    """Return content as it is sent, and the name of the encoding.

    Of text only the characters count, so its lines get the line end of mail; other content comes
    out as it went in, and so do messages, but for line ends that no relay would take.
    """
    if is_text:
        octets = _LINE_END.sub(b"\r\n", octets)
    if media_type in _MESSAGE:  # RFC 2046 §5.2.1: never encoded
        octets = _LONE_END.sub(b"\r\n", octets)
        return octets, _plain_encoding(octets)
    textual = is_text or (media_type.startswith("text/") and not _LONE_END.search(octets))
    if textual:
        if _plain_encoding(octets) == "7bit" and not _UNSAFE_LINE.search(octets):
            return octets, "7bit"
        quoted, base64 = _quoted_printable(octets), _base64(octets)
        # what is mostly ASCII can be read as it is
        if len(quoted) * 4 <= len(base64) * 5:
            return quoted, "quoted-printable"
        return base64, "base64"
    return _base64(octets), "base64"


def _plain_encoding(octets: bytes) -> str:
    if b"\0" in octets or any(len(line) > MAX_LINE for line in octets.split(b"\r\n")):
        return "binary"
    return "7bit" if octets.isascii() else "8bit"


def _quoted_printable(octets: bytes) -> bytes:
    shown = _LONE_END.sub(b"\r\n", binascii.b2a_qp(octets))
    # a soft line break keeps the line short
    return _UNSAFE_LINE.sub(b"=46rom =\r\n", shown)


def _base64(octets: bytes) -> bytes:
    step = 57  # octets, 76 characters
    lines = [
        binascii.b2a_base64(octets[at : at + step], newline=False)
        for at in range(0, len(octets), step)
    ]
    return b"\r\n".join(lines)
