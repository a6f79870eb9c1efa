"""Sequence sets (RFC 9051 §4.1.1): read, resolved to positions in a mailbox, written compactly.

A position is an index into the mailbox's arrays; sequence number = position + 1.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mailserver.imap.protocol.errors import ProtocolError

STAR = 0  # "*", the largest number in use; 0 is no sequence number and no UID


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """Ranges as the client gave them, in its order unless they are many; an end may be STAR."""

    ranges: tuple[tuple[int, int], ...]

    def render(self) -> bytes:
        """Write the set as the client would."""
        if not self.ranges:
            return b"$"
        return b",".join(
            _end(first) if first == last else b"%b:%b" % (_end(first), _end(last))
            for first, last in self.ranges
        )

    def by_sequence(self, count: int) -> list[range]:
        """Resolve sequence numbers in a mailbox of `count` messages; ascending, not overlapping.

        Raise ProtocolError for a number beyond the last (RFC 9051 §9, seq-number).
        """
        found = []
        for first, last in self.ranges:
            low, high = sorted((first or count, last or count))
            if low < 1 or high > count:
                raise ProtocolError("No message has that sequence number")
            found.append((low - 1, high))
        return _merge(found)

    def within(self, count: int) -> list[range]:
        """Resolve sequence numbers as `by_sequence`, but skip those beyond the last (RFC 7377 §2).

        Searches do: to look at the first hundred messages of fewer is no mistake.
        """
        found = []
        for first, last in self.ranges:
            low, high = sorted((first or count, last or count))
            if 0 < low <= count:
                found.append((low - 1, min(high, count)))
        return _merge(found)

    def by_uid(self, uids: "array[int]", count: int) -> list[range]:
        """Resolve UIDs among the first `count` of `uids`; UIDs of no message are skipped."""
        if not count:
            return []
        largest = uids[count - 1]
        found = []
        for first, last in self.ranges:
            # "n:*" with n beyond the end is the last message (RFC 9051 §6.4.8)
            low, high = first or largest, last or largest
            if low > high:
                low, high = high, low
            start = bisect_left(uids, low, 0, count)
            end = bisect_right(uids, high, start, min(count, start + high - low + 1))
            if start < end:
                found.append((start, end))
        return _merge(found)


# "$", what the last SEARCH saved (RFC 5182 §3); only the view of a session knows what that is
SAVED = SequenceSet(())


def _end(number: int) -> bytes:
    return b"%d" % number if number else b"*"


def _merge(spans: list[tuple[int, int]]) -> list[range]:
    spans.sort()
    merged: list[range] = []
    for start, end in spans:
        if merged and start <= merged[-1].stop:
            if end > merged[-1].stop:
                merged[-1] = range(merged[-1].start, end)
        else:
            merged.append(range(start, end))
    return merged


def spans(positions: Iterable[int]) -> list[range]:
    """Return ascending positions as ranges."""
    return _merge([(position, position + 1) for position in positions])


def last(ranges: Sequence[range], count: int) -> Sequence[range]:
    """Return the last positions of ascending ranges, no more than `count` of them."""
    kept: list[range] = []
    for one in reversed(ranges):
        if count <= 0:
            break
        kept.append(one[-count:])
        count -= len(kept[-1])
    return kept[::-1]


def flatten(ranges: Iterable[range]) -> list[int]:
    """Return the positions in a list of ranges."""
    return [position for one in ranges for position in one]


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return ascending numbers as the first and the last of those that follow each other."""
    if not numbers:
        return []
    pairs = enumerate(pairwise(numbers), 1)
    starts = [at for at, (this, following) in pairs if following != this + 1]
    firsts = (numbers[0], *(numbers[at] for at in starts))
    lasts = (*(numbers[at - 1] for at in starts), numbers[-1])
    return list(zip(firsts, lasts, strict=True))


def compact(numbers: Sequence[int]) -> bytes:
    """Write ascending numbers as the shortest sequence set: `1:3,5`."""
    return b",".join(
        b"%d" % first if first == last else b"%d:%d" % (first, last)
        for first, last in runs(numbers)
    )
