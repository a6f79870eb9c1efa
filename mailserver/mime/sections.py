"""Where a section of a message lies (RFC 9051 §6.4.5.1), from the stored table of parts."""

from collections.abc import Sequence
from typing import TypeVar

from mailserver.mime.message import Located

_L = TypeVar("_L", bound=Located)


def find(parts: Sequence[_L], number: str) -> _L | None:
    """Return the part with that number; "1" of a message that is one part is the message's body."""
    for part in parts:
        if part.section == number:
            return part
    return None


def section(raw: bytes, parts: Sequence[Located], specifier: str) -> tuple[int, int] | None:
    """Return the slice of `raw` that BODY[specifier] names; None when there is no such section.

    HEADER.FIELDS is HEADER and then `header_fields`.
    """
    found = section_range(parts, specifier)
    return None if found is None else (min(found[0], len(raw)), min(found[1], len(raw)))


def section_range(parts: Sequence[Located], specifier: str) -> tuple[int, int] | None:
    """Return the same as `section` without the message: for reading a range of a stored object."""
    spec = specifier.upper()
    number, _, keyword = spec.rpartition(".")
    if spec[-1:].isdigit():
        number, keyword = spec, ""
    if not number:
        return _whole(parts, keyword)
    part = find(parts, number)
    if part is None:
        return None
    if keyword == "":
        return part.body_start, part.body_end
    if keyword == "MIME":
        return part.header_start, part.body_start
    return _encapsulated(parts, part, keyword)


def _whole(parts: Sequence[Located], keyword: str) -> tuple[int, int] | None:
    root = parts[0]
    return {
        "": (root.header_start, root.body_end),
        "HEADER": (root.header_start, root.body_start),
        "TEXT": (root.body_start, root.body_end),
    }.get(keyword)


def _encapsulated(parts: Sequence[Located], part: Located, keyword: str) -> tuple[int, int] | None:
    """Return HEADER or TEXT of the message in a part; its root follows the part in the table."""
    if part.type != "message" or keyword not in ("HEADER", "TEXT"):
        return None
    index = next(i for i, each in enumerate(parts) if each is part)
    if index + 1 >= len(parts) or parts[index + 1].parent != index:
        return None
    root = parts[index + 1]
    if keyword == "HEADER":
        return root.header_start, root.body_start
    return root.body_start, root.body_end
