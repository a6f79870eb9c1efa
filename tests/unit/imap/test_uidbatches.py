"""Batches of UIDs."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.uidbatches import UidBatches, parse_uidbatches, uidbatches


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (b" 2000", UidBatches(2000)),
        (b" 2000 10:20", UidBatches(2000, 10, 20)),
        (b" 1 3:3", UidBatches(1, 3, 3)),
    ],
)
def test_good(text: bytes, command: UidBatches) -> None:
    assert parse_uidbatches(Cursor((text,))) == command


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", None),
        (b" x", None),
        (b" 10 1", None),
        (b" 10 1:", None),
        (b" 10 1:2 3", None),
        (b" 10 1:*", None),
        (b" 0", b"CLIENTBUG"),
        (b" 10 0:1", b"CLIENTBUG"),
        (b" 10 1:0", b"CLIENTBUG"),
        (b" 10 3:2", b"CLIENTBUG"),
    ],
)
def test_bad(text: bytes, code: bytes | None) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_uidbatches(Cursor((text,)))
    assert caught.value.code == code


def _ranges(uids: list[int], command: UidBatches) -> list[tuple[int, int]]:
    """Return the ranges of a response."""
    start = b'UIDBATCHES (TAG "A1")'
    response = uidbatches(b"A1", uids, command)
    assert response.startswith(start)
    pairs = response[len(start) :].decode().strip().split(",")
    return [(int(high), int(low)) for high, _, low in (p.partition(":") for p in pairs if p)]


@given(st.sets(st.integers(1, 60)), st.integers(1, 12), st.integers(1, 6), st.integers(0, 6))
def test_batches_leave_nothing_out_and_are_equally_full(
    present: set[int], size: int, first: int, more: int
) -> None:
    uids = sorted(present)
    everything = _ranges(uids, UidBatches(size))
    counts = [sum(low <= uid <= high for uid in uids) for high, low in everything]
    assert sum(counts) == len(uids)
    assert all(count == size for count in counts[:-1])
    assert not uids or (everything[0][0] == uids[-1] and everything[-1][1] == 1)
    assert all(low == high + 1 for (_, low), (high, _) in itertools.pairwise(everything))
    assert (
        _ranges(uids, UidBatches(size, first, first + more)) == everything[first - 1 : first + more]
    )
