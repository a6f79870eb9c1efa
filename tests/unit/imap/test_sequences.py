"""Sequence sets against a plain model."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.protocol.cursor import MANY, Cursor
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.sequences import STAR, SequenceSet, compact, flatten, last, spans

NUMBERS = st.integers(0, 40)  # 0 is "*"
SETS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6).map(
    lambda ranges: SequenceSet(tuple(ranges))
)


@given(st.sets(st.integers(0, 30)), st.integers(0, 12))
def test_the_last_positions(positions: set[int], count: int) -> None:
    ordered = sorted(positions)
    assert flatten(last(spans(ordered), count)) == ordered[max(0, len(ordered) - count) :]


@given(SETS)
def test_render_and_read(messages: SequenceSet) -> None:
    assert Cursor((messages.render(),)).sequence_set() == messages


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30), st.integers(0, 50))
def test_a_large_set_means_what_it_says(ranges: list[tuple[int, int]], count: int) -> None:
    singles = [(2 * number + 1, 2 * number + 1) for number in range(MANY)]
    large = SequenceSet((*singles, *ranges, *singles))
    uids = array("q", range(1, count + 1))
    read = Cursor((large.render(),)).sequence_set()
    assert len(read.ranges) <= MANY + len(ranges)
    assert read.by_uid(uids, count) == large.by_uid(uids, count)


@pytest.mark.parametrize(
    "item", [b"0", b"4294967296", b"", b"1:", b"1:2:3", b"9" * 14, b"1" * 5000]
)
def test_a_large_set_with_a_mistake(item: bytes) -> None:
    text = b"7," * MANY + item
    with pytest.raises(ProtocolError):
        Cursor((text,)).sequence_set()


@given(SETS, st.sets(st.integers(1, 50)), st.integers(0, 60))
def test_by_uid(messages: SequenceSet, present: set[int], announced: int) -> None:
    uids = array("q", sorted(present))
    count = min(announced, len(uids))
    wanted = set()
    if count:
        last = uids[count - 1]
        for first, end in messages.ranges:
            low, high = sorted((first or last, end or last))
            wanted |= {index for index in range(count) if low <= uids[index] <= high}
    assert flatten(messages.by_uid(uids, count)) == sorted(wanted)


@given(SETS, st.integers(0, 50))
def test_by_sequence(messages: SequenceSet, count: int) -> None:
    numbers = [number for span in messages.ranges for number in span]
    if count == 0 or max(numbers) > count:
        with pytest.raises(ProtocolError):
            messages.by_sequence(count)
        return
    wanted = set()
    for first, end in messages.ranges:
        low, high = sorted((first or count, end or count))
        wanted |= set(range(low - 1, high))
    assert flatten(messages.by_sequence(count)) == sorted(wanted)


@given(SETS, st.integers(0, 50))
def test_within_skips_what_is_beyond_the_last(messages: SequenceSet, count: int) -> None:
    wanted = set()
    for first, end in messages.ranges:
        low, high = sorted((first or count, end or count))
        wanted |= {number - 1 for number in range(low, high + 1) if 1 <= number <= count}
    assert flatten(messages.within(count)) == sorted(wanted)


@given(st.sets(st.integers(1, 60), min_size=1))
def test_compact(numbers: set[int]) -> None:
    text = compact(sorted(numbers))
    uids = array("q", range(1, 61))
    positions = flatten(Cursor((text,)).sequence_set().by_uid(uids, 60))
    assert {position + 1 for position in positions} == numbers


def test_compact_is_short() -> None:
    assert compact([1, 2, 3, 5, 7, 8]) == b"1:3,5,7:8"
    assert compact([]) == b""


@pytest.mark.parametrize("text", [b"0", b"1:", b"1::2", b",1", b"1,,2", b"4294967296", b"*0", b""])
def test_malformed(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        _read(text)


def _read(text: bytes) -> SequenceSet:
    cursor = Cursor((text,))
    found = cursor.sequence_set()
    cursor.end()
    return found


def test_star_is_the_last_message() -> None:
    assert flatten(SequenceSet(((STAR, STAR),)).by_sequence(5)) == [4]
    assert flatten(SequenceSet(((9, STAR),)).by_uid(array("q", [2, 5]), 2)) == [1]
    assert SequenceSet(((1, STAR),)).by_uid(array("q"), 0) == []
