"""The compressed streams of a connection after COMPRESS DEFLATE (RFC 4978)."""

import zlib
from collections.abc import Hashable

from mailserver.imap.protocol.errors import Garbled

_RAW = -zlib.MAX_WBITS  # without a header, with the whole window: a client may use all of it
_LEVEL = 1  # text gets hardly smaller above it, and takes twice as long


class Inflater:
    """What a client sends: kept compressed, and inflated in steps of a bounded size."""

    __slots__ = ("_stream", "_waiting")

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_RAW)
        self._waiting = b""

    @property
    def waiting(self) -> int:
        """Octets that arrived and were not inflated yet."""
        return len(self._waiting)

    def feed(self, data: bytes | memoryview) -> None:
        """Take what arrived."""
        self._waiting += bytes(data)

    def take(self, limit: int) -> bytes:
        """Inflate at most `limit` octets of what waits; raise Garbled when that is impossible."""
        if not self._waiting:
            return b""
        if self._stream.eof:
            raise Garbled
        try:
            octets = self._stream.decompress(self._waiting, limit)
        except zlib.error:
            raise Garbled from None
        self._waiting = self._stream.unused_data or self._stream.unconsumed_tail
        return octets

    def rest(self) -> bytes:
        """Return what was sent behind the end of the stream: it is not compressed."""
        return self._waiting if self._stream.eof else b""


class Deflaters:
    """The compressors of a server's connections, of which the last used ones are kept.

    A compressor takes 268 kB, so a client that waits has none. A stream goes on with a new one: it
    refers only to what it saw itself, and compresses less until it has seen something.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._kept: dict[Hashable, zlib._Compress] = {}  # the last used one at the end

    def deflate(self, stream: Hashable, data: bytes | memoryview) -> bytes:
        """Compress the next octets of a stream, so that the client can inflate all of them."""
        compressor = self._kept.pop(stream, None) or _compressor()
        self._kept[stream] = compressor
        if len(self._kept) > self._keep:
            del self._kept[next(iter(self._kept))]
        return compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)

    def end(self, stream: Hashable) -> bytes:
        """Return the end of a stream."""
        compressor = self._kept.pop(stream, None) or _compressor()
        return compressor.flush(zlib.Z_FINISH)

    def forget(self, stream: Hashable) -> None:
        """Let go of a stream that was cut."""
        self._kept.pop(stream, None)


def _compressor() -> "zlib._Compress":
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)
