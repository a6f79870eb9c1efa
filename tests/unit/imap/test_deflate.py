"""COMPRESS=DEFLATE: what comes out is what went in, in bounded steps."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.protocol.deflate import Deflaters, Inflater
from mailserver.imap.protocol.errors import Garbled

LINES = st.lists(st.sampled_from([b"* 1 EXISTS\r\n", b"a OK done\r\n", b"x" * 5000, b""]))


def _sent(*pieces: bytes, end: bool = False) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    sent = b"".join(stream.compress(piece) + stream.flush(zlib.Z_SYNC_FLUSH) for piece in pieces)
    return sent + (stream.flush(zlib.Z_FINISH) if end else b"")


@given(LINES, st.integers(1, 50), st.integers(1, 300))
def test_any_cut_and_any_step_give_what_was_sent(pieces: list[bytes], cut: int, step: int) -> None:
    sent = _sent(*pieces)
    inflater = Inflater()
    found = b""
    for start in range(0, len(sent), cut):
        inflater.feed(memoryview(sent)[start : start + cut])
        while inflater.waiting:
            octets = inflater.take(step)
            assert len(octets) <= step
            found += octets
    assert found == b"".join(pieces)
    assert inflater.rest() == b""


def test_a_bomb_is_inflated_no_further_than_asked() -> None:
    bomb = _sent(bytes(10_000_000))
    inflater = Inflater()
    inflater.feed(bomb)
    assert len(inflater.take(1000)) == 1000
    assert 0 < inflater.waiting <= len(bomb)


def test_what_is_no_deflate_is_refused() -> None:
    inflater = Inflater()
    inflater.feed(b"\xff\xff\xff")
    with pytest.raises(Garbled):
        inflater.take(100)


def test_the_end_of_a_stream() -> None:
    inflater = Inflater()
    inflater.feed(_sent(b"a NOOP\r\n", end=True))
    assert inflater.take(100) == b"a NOOP\r\n"
    assert inflater.take(100) == b""
    assert inflater.rest() == b""
    inflater.feed(b"plain")
    assert inflater.rest() == b"plain"
    with pytest.raises(Garbled):
        inflater.take(100)


@given(st.lists(st.tuples(st.integers(0, 4), st.binary(max_size=200))))
def test_streams_stay_whole_when_their_compressors_are_dropped(
    said: list[tuple[int, bytes]],
) -> None:
    deflaters = Deflaters(2)
    clients = {stream: zlib.decompressobj(-15) for stream in range(5)}
    for stream, octets in said:  # each piece can be read at once
        assert clients[stream].decompress(deflaters.deflate(stream, octets)) == octets
    for stream, client in clients.items():
        assert client.decompress(deflaters.end(stream)) == b""
        assert client.eof


def test_a_stream_that_was_cut_is_forgotten() -> None:
    deflaters = Deflaters(2)
    first = deflaters.deflate("a", b"hello hello hello")
    deflaters.forget("a")
    deflaters.forget("b")
    assert deflaters.deflate("a", b"hello hello hello") == first
