"""Headers of megabytes in pieces: a search of all at once would hold up everybody for long.

What looks at one piece after the other in a thread lets others go on in between.
"""

import re
from collections.abc import Iterator

_END_OF_FIELD = re.compile(rb"\n(?![ \t])")
STRETCH = 64 * 1024  # octets, and the rest of the field in which they end


def stretches(raw: bytes, end: int, size: int = STRETCH) -> Iterator[tuple[int, int]]:
    """Divide the first octets of a message, up to `end`, into pieces that end where fields do."""
    start = 0
    while start < end:
        stop = _field_end(raw, start + size, end)
        yield start, stop
        start = stop


def _field_end(raw: bytes, at: int, end: int) -> int:
    """Return where the field ends that an octet is in; a line that begins with a blank goes on."""
    found = _END_OF_FIELD.search(raw, at, end)
    return found.end() if found else end


def header_size(raw: bytes) -> int:
    """Return about how many octets the header has: up to the first empty line."""
    found = raw.find(b"\n\r\n")
    return found + 1 if found >= 0 else len(raw)
