"""TLS of one connection, between the octets of its socket and what they mean.

The event loop's own TLS keeps a read buffer of 256 KiB for every connection, and objects around it.
Here all connections of a server share one buffer, and a silent connection costs what OpenSSL keeps.
"""

import contextlib
import ssl
from collections.abc import Iterator
from typing import cast

# octets that OpenSSL gets at once, a record (RFC 8446 §5.1): its buffers never shrink
RECORD = 16 * 1024


class Tls:
    """The server's side; `established` once the handshake is done."""

    __slots__ = ("_incoming", "_object", "_outgoing", "ended", "established")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.established = False
        self.ended = False  # the peer has said that nothing follows

    @property
    def connection(self) -> ssl.SSLObject:
        """What the handshake agreed on."""
        return self._object

    def receive(self, octets: memoryview, buffer: memoryview) -> Iterator[memoryview]:
        """Take octets of the socket; give what they mean in pieces, each in the same `buffer`.

        Raises ssl.SSLError when the peer does not speak TLS, or not ours. What has to be told to
        the peer is in `pending` afterwards.
        """
        for start in range(0, len(octets), RECORD):
            self._incoming.write(octets[start : start + RECORD])
            try:
                if not self.established:
                    self._object.do_handshake()
                    self.established = True
                while count := self._read(buffer):
                    yield buffer[:count]
                self.ended = True
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLZeroReturnError:
                self.ended = True

    def _read(self, buffer: memoryview) -> int:
        return cast(int, self._object.read(len(buffer), buffer))  # with a buffer: how many

    def send(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Return the octets that say `data` to the peer."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._object.write(rest[:RECORD]) :]
            yield self._outgoing.read()

    def pending(self) -> bytes:
        """Return what the peer has to be told of TLS itself."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def close(self) -> bytes:
        """Return the octets that say that nothing follows."""
        # nobody waits for the peer's answer to that, and perhaps there was no handshake
        with contextlib.suppress(ssl.SSLError):
            self._object.unwrap()
        return self.pending()
