"""PARTIAL: a stretch of results (RFC 9394 §3)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mailserver.imap.protocol.cursor import Cursor

_PARTIAL = re.compile(rb"(-?)([1-9]\d{0,9}):(-?)([1-9]\d{0,9})(?=[ )])")


@dataclass(frozen=True, slots=True)
class Partial:
    """A stretch of results: the first is 1, or, `from_end`, the last is 1 (RFC 9394 §3.1)."""

    low: int
    high: int
    from_end: bool

    @property
    def text(self) -> bytes:
        """The range, its smaller number first: 4:2 is the same as 2:4 (RFC 5267 §5)."""
        return (b"-%d:-%d" if self.from_end else b"%d:%d") % (self.low, self.high)

    def of(self, found: Sequence[int]) -> Sequence[int]:
        """Return the part of the results that is in the stretch, in their order."""
        if self.from_end:
            return found[max(0, len(found) - self.high) : max(0, len(found) - self.low + 1)]
        return found[self.low - 1 : self.high]


def partial_range(args: Cursor) -> Partial:
    """partial-range = partial-range-first / partial-range-last (RFC 9394 §4)."""
    text = args.match(_PARTIAL, "a range of results")
    first, last = text.split(b":")
    if first.startswith(b"-") != last.startswith(b"-"):
        args.fail("A range of results cannot begin at one end and end at the other")
    low, high = sorted((abs(int(first)), abs(int(last))))
    return Partial(low, high, first.startswith(b"-"))
