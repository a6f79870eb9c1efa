"""zstd at level 3, the one that pays (docs/architecture.md), for bodies and header blocks."""

import zstandard

from mailserver.errors import Corrupt

LEVEL = 3
MAX_SIZE = 1 << 30  # bytes; no stored value is larger, so a frame that says so is damaged

_compressor = zstandard.ZstdCompressor(level=LEVEL)
_decompressor = zstandard.ZstdDecompressor()


def compress(data: bytes) -> bytes:
    """Compress on the thread of the event loop; the context is shared and not thread-safe."""
    return _compressor.compress(data)


def compress_in_thread(data: bytes) -> bytes:
    """Compress with a context of its own, for large data in a worker thread."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(data)


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
