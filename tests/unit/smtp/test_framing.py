"""Lines and data are the same however the bytes are cut."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.mail.originals import repair_line_ends
from mailserver.smtp.protocol.framing import (
    MAX_AUTH_LINE,
    MAX_LINE,
    MAX_SKIP,
    DataReader,
    Fault,
    LineBuffer,
    LineEnds,
    Overflow,
)

PIECES = [b"\r\n", b"\r", b"\n", b".", b"\r\n.\r\n", b"\n.\n", b"\r\n..", b"text", b"\0", b"\xff"]
hostile = st.lists(st.sampled_from(PIECES) | st.binary(max_size=5), max_size=40).map(b"".join)
cuts = st.lists(st.integers(0, 200), max_size=8)


def pieces_of(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def lines_of(pieces: list[bytes], limit: int) -> list[bytes | Fault]:
    buffer = LineBuffer()
    found: list[bytes | Fault] = []
    for piece in pieces:
        buffer.feed(piece)
        while (line := buffer.next_line(limit)) is not None:
            found.append(line)
    return found


@settings(max_examples=200)
@given(hostile, cuts, st.integers(2, 12))
def test_lines_do_not_depend_on_the_cuts(data: bytes, places: list[int], limit: int) -> None:
    assert lines_of(pieces_of(data, places), limit) == lines_of([data], limit)


def test_lines_end_with_cr_lf_only() -> None:
    assert lines_of([b"NOOP\r\nNOOP\nA\rB\r\n"], MAX_LINE) == [
        b"NOOP",
        Fault.BARE_LINE_FEED,
        b"A\rB",
    ]


@pytest.mark.parametrize(("length", "whole"), [(MAX_LINE, True), (MAX_LINE + 1, False)])
def test_a_line_may_have_its_limit_with_cr_lf(length: int, whole: bool) -> None:
    line = b"x" * (length - 2)
    assert lines_of([line + b"\r\n"], MAX_LINE) == [line if whole else Fault.TOO_LONG]


def test_a_line_without_end_is_skipped_and_then_given_up() -> None:
    buffer = LineBuffer()

    def flood() -> None:
        for _ in range(MAX_SKIP // 1000 + 20):
            buffer.feed(b"x" * 1000)
            assert buffer.next_line() is None

    with pytest.raises(Overflow):
        flood()


def data_of(pieces: list[bytes]) -> tuple[object, ...]:
    reader, line_ends = DataReader(), LineEnds()
    content = b""
    for index, piece in enumerate(pieces):
        found, rest = reader.feed(piece)
        content += found
        line_ends.feed(found)
        if rest is not None:
            return (content, line_ends.end(), rest + b"".join(pieces[index + 1 :]))
    return ("unfinished",)


@settings(max_examples=300)
@given(hostile, cuts)
def test_data_does_not_depend_on_the_cuts(data: bytes, places: list[int]) -> None:
    ended = data + b"\r\n.\r\n"
    assert data_of(pieces_of(ended, places)) == data_of([ended])


@settings(max_examples=300)
@given(hostile, cuts)
def test_bare_line_ends_do_not_depend_on_the_cuts(data: bytes, places: list[int]) -> None:
    line_ends = LineEnds()
    for piece in pieces_of(data, places):
        line_ends.feed(piece)
    assert line_ends.end() == (re.search(rb"\r(?!\n)|(?<!\r)\n", data) is not None)


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n"]
)
def test_nothing_else_is_the_end(end: bytes) -> None:
    assert data_of([b"a" + end + b"b"]) == ("unfinished",)


@settings(max_examples=200)
@given(hostile)
def test_stuffed_data_comes_back(content: bytes) -> None:
    content = repair_line_ends(content) + b"\r\n"
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    assert data_of([stuffed + b".\r\nQUIT\r\n"]) == (content, False, b"QUIT\r\n")


@settings(max_examples=200)
@given(hostile)
def test_the_end_is_the_first_lone_dot_line(data: bytes) -> None:
    whole = b"\r\n" + data + b"\r\n.\r\n"
    content = whole[2 : whole.index(b"\r\n.\r\n") + 2]
    unstuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n")[2:]
    assert data_of([data + b"\r\n.\r\n"])[0] == unstuffed


@pytest.mark.parametrize(
    ("content", "bare"),
    [
        (b"a\r\nb\r\n", False),
        (b"", False),
        (b"a\nb\r\n", True),
        (b"a\rb\r\n", True),
        (b"a\n\rb\r\n", True),
        (b"\r\r\n", True),
        (b"\n\r\n", True),
    ],
)
def test_bare_line_ends_are_noticed(content: bytes, bare: bool) -> None:
    assert data_of([content + b".\r\n"])[:2] == (content, bare)


@settings(max_examples=200)
@given(hostile)
def test_repaired_line_ends_have_nothing_bare(data: bytes) -> None:
    repaired = repair_line_ends(data)
    line_ends = repaired.count(b"\r\n")
    assert repaired.count(b"\r") == repaired.count(b"\n") == line_ends
    assert repair_line_ends(repaired) == repaired


def test_what_follows_the_data_is_read_first() -> None:
    buffer = LineBuffer()
    buffer.feed(b"DATA\r\nabc")
    assert buffer.next_line() == b"DATA"
    assert buffer.take() == b"abc"
    buffer.feed(b"NOOP\r\n")
    buffer.put_back(b"QUIT\r\n")
    assert (buffer.next_line(), buffer.next_line()) == (b"QUIT", b"NOOP")


def test_limits_are_what_the_rfcs_ask_for() -> None:
    assert MAX_LINE >= 512  # RFC 5321 §4.5.3.1.4
    assert MAX_AUTH_LINE >= 12288  # RFC 4954 §4
