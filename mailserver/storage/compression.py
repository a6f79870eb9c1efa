"""zstd at level 3, the one that pays (docs/architecture.md), for bodies and header blocks."""

from collections.abc import Callable

import zstandard

from mailserver.errors import Corrupt

LEVEL = 3
FAST = -5  # for what is only in memory: read twice as fast, two thirds larger
MAX_SIZE = 1 << 30  # bytes; no stored value is larger, so a frame that says so is damaged

_decompressor = zstandard.ZstdDecompressor()


def compressor(level: int = LEVEL) -> Callable[[bytes], bytes]:
    """Return a function that compresses; each thread needs one of its own."""
    return zstandard.ZstdCompressor(level=level).compress


def decompress(data: bytes) -> bytes:
    """Decompress; on the thread of the event loop."""
    try:
        return _decompressor.decompress(data, max_output_size=MAX_SIZE)
    except zstandard.ZstdError as error:
        raise Corrupt("stored data is not a zstd frame") from error


def decompress_in_thread(data: bytes) -> bytes:
    """Decompress with a context of its own, for large data in a worker thread."""
    try:
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_SIZE)
    except zstandard.ZstdError as error:
        raise Corrupt("stored data is not a zstd frame") from error
