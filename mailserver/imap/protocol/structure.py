"""Body structures for clients of RFC 3501, whose grammar has no envelope in message/global."""

import re
from collections.abc import Iterable
from itertools import repeat
from operator import contains

_TOKEN = re.compile(rb'\(|\)| |"(?:[^"\\]|\\.)*"|\{(\d+)\}\r\n|[^\s()"{]+')
_GLOBAL = b'"message" "global" '
_BASIC = 7  # values of body-type-basic: media type, subtype, and the five of body-fields


def any_global(texts: Iterable[bytes]) -> bool:
    """Whether there is a message/global in one of many texts."""
    return any(map(contains, texts, repeat(_GLOBAL)))


def without_global(structure: bytes) -> bytes:
    """Write message/global as any other part: without envelope, structure and lines.

    RFC 9051 §7.5.2 has them like those of message/rfc822; RFC 3501 §9 knows only the latter.
    """
    if _GLOBAL not in structure:
        return structure
    written = bytearray()
    open_lists: list[list[int]] = []  # of each, where in `written` its values begin
    position = 0
    while position < len(structure):
        found = _TOKEN.match(structure, position)
        assert found is not None
        position = found.end() + int(found[1] or 0)  # a literal has its octets behind it
        token = structure[found.start() : position]
        if token == b")":
            _shorten(written, open_lists.pop())
        elif token != b" " and open_lists:
            open_lists[-1].append(len(written))
        if token == b"(":
            open_lists.append([])
        written += token
    return bytes(written)


def _shorten(written: bytearray, values: list[int]) -> None:
    """Cut three values out of a message/global that has just been written."""
    if len(values) > _BASIC + 2 and written.startswith(_GLOBAL, values[0]):
        end = values[_BASIC + 3] - 1 if len(values) > _BASIC + 3 else len(written)
        del written[values[_BASIC] - 1 : end]
