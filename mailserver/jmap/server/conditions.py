"""Conditional requests and ranges (RFC 9110 §13, §14): what of an answer the client needs."""

import re
from collections.abc import Mapping

_TAG = re.compile(rb'(?:W/)?("[^"\x00-\x20\x7f]*")')
_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def is_known(headers: Mapping[bytes, bytes], tag: bytes) -> bool:
    """Tell whether the client says that it has what an entity tag, with its quotes, stands for."""
    known = headers.get(b"if-none-match")
    if known is None:
        return False
    return known.strip() == b"*" or tag in _TAG.findall(known)


def wanted_range(headers: Mapping[bytes, bytes], tag: bytes, size: int) -> range | None:
    """Return the octets of `size` that the client wants, None for all.

    An empty range is one that cannot be satisfied. Several ranges are answered by the whole, as
    are those of another version.
    """
    found = _RANGE.fullmatch(headers.get(b"range", b"").strip())
    if found is None or headers.get(b"if-range", tag).strip() != tag:
        return None
    first, last = found[1], found[2]
    if not first:
        return range(size - min(int(last), size), size) if last else None
    if last and int(last) < int(first):
        return None
    end = size if not last else min(int(last) + 1, size)
    return range(int(first), end) if int(first) < size else range(0)
