"""zstd at the levels that pay (docs/architecture.md): 3 for bodies, -1 for header blocks."""

import threading
from collections.abc import Callable, Iterable

import zstandard

from mailserver.errors import Corrupt

LEVEL = 3
HEADERS = -1  # lists read thousands at once: four times as fast as at level 3, a fifth larger
FAST = -5  # for what is only in memory: read twice as fast, two thirds larger
MAX_SIZE = 1 << 30  # bytes; no stored value is larger, so a frame that says so is damaged

_compressor = zstandard.ZstdCompressor(level=LEVEL)
_header_compressor = zstandard.ZstdCompressor(level=HEADERS)
_decompressor = zstandard.ZstdDecompressor()


def compress(data: bytes) -> bytes:
    """Compress; on the thread of the event loop."""
    return _compressor.compress(data)


def compress_header(data: bytes) -> bytes:
    """Compress a header block; on the thread of the event loop."""
    return _header_compressor.compress(data)


def compressor(level: int = LEVEL) -> Callable[[bytes], bytes]:
    """Return a function that compresses; each thread needs one of its own."""
    return zstandard.ZstdCompressor(level=level).compress


def decompress(data: bytes) -> bytes:
    """Decompress; on the thread of the event loop."""
    try:
        return _decompressor.decompress(data, max_output_size=MAX_SIZE)
    except zstandard.ZstdError as error:
        raise Corrupt("stored data is not a zstd frame") from error


def decompress_all(data: Iterable[bytes]) -> list[bytes]:
    """Decompress many small values; on the thread of the event loop."""
    decompressed = _decompressor.decompress
    try:
        return [decompressed(each, max_output_size=MAX_SIZE) for each in data]
    except zstandard.ZstdError as error:
        raise Corrupt("stored data is not a zstd frame") from error


class _OfThread(threading.local):
    """A context for each thread: to make one takes longer than most of what it decompresses."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()


_of_thread = _OfThread()


def decompress_in_thread(data: bytes) -> bytes:
    """Decompress with the context of the thread that asks."""
    try:
        return _of_thread.decompressor.decompress(data, max_output_size=MAX_SIZE)
    except zstandard.ZstdError as error:
        raise Corrupt("stored data is not a zstd frame") from error
