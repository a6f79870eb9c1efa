"""Domain names as text and as octets (RFC 1035 §3.1, §4.1.4, §5.1)."""

import re

MAX_NAME = 255  # octets with the lengths of the labels
MAX_LABEL = 63
POINTER = 0xC0
# characters that need no escape, by label; names of hosts and services have no others
_PLAIN = re.compile(rb"[A-Za-z0-9_*/+=:-]+(?:\.[A-Za-z0-9_*/+=:-]+)*")
_PART = re.compile(rb"\\(?:([0-9]{3})|([^0-9]))|([^\\])", re.DOTALL)
_SPECIAL = frozenset(b'"().;\\@$')


class Malformed(Exception):
    """Octets are no DNS message, or a text is no name; stays inside the package."""


def read_name(message: bytes, start: int) -> tuple[str, int]:
    """Return a name in lower case without the last dot, and where it ends; Malformed.

    A pointer leads to a place before the labels that it follows, so there is no loop.
    """
    labels = []
    position, segment, after, length = start, start, 0, 1
    try:
        while size := message[position]:
            if size >= POINTER:
                after = after or position + 2
                target = (size & 0x3F) << 8 | message[position + 1]
                if target >= segment:
                    raise Malformed("a pointer leads forward")
                position = segment = target
                continue
            length += size + 1
            if size > MAX_LABEL or length > MAX_NAME:
                raise Malformed("a label or name is too long")
            position += 1
            label = message[position : position + size]
            position += size
            labels.append(label)
    except IndexError:
        raise Malformed("a name is cut") from None
    return _text(labels), after or position + 1


def _text(labels: list[bytes]) -> str:
    joined = b".".join(labels)
    if _PLAIN.fullmatch(joined) and joined.count(b".") == len(labels) - 1:
        return joined.decode("ascii").lower()
    return ".".join("".join(map(_escaped, label.lower())) for label in labels)


def _escaped(octet: int) -> str:
    if octet in _SPECIAL:
        return f"\\{chr(octet)}"
    return chr(octet) if 0x20 < octet < 0x7F else f"\\{octet:03d}"


def write_name(text: str) -> bytes:
    """Return the octets of a name in lower case; Malformed when there can be no such name."""
    try:
        octets = text.encode("ascii" if text.isascii() else "idna").lower()
    except UnicodeError:
        raise Malformed("a label cannot be written as an A-label") from None
    octets = octets.removesuffix(b".") if not octets.endswith(b"\\.") else octets
    labels = octets.split(b".") if b"\\" not in octets else _unescaped(octets)
    if labels == [b""]:
        return b"\0"
    if not all(0 < len(label) <= MAX_LABEL for label in labels):
        raise Malformed("a label is empty or too long")
    written = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(written) > MAX_NAME:
        raise Malformed("the name is too long")
    return written


def _unescaped(octets: bytes) -> list[bytes]:
    """Split a name at its dots, those of the escapes not counted."""
    labels = [bytearray()]
    at = 0
    for match in _PART.finditer(octets):
        if match.start() != at:
            break
        at = match.end()
        if match[0] == b".":
            labels.append(bytearray())
        else:
            digits, escaped, plain = match.groups()
            number = int(digits) if digits else (escaped or plain)[0]
            if number > 255:
                break
            labels[-1].append(number)
    if at != len(octets):
        raise Malformed("an escape has no meaning")
    return [bytes(label).lower() for label in labels]
