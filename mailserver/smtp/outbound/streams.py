"""Streams to another server that keep what it said before the connection broke.

A server that refuses a message in the middle of it answers and closes. Octets of ours that it has
not read make its system reset the connection, and whoever learns of that by writing stops reading:
asyncio and uvloop leave in the socket what has arrived, and a StreamReader withholds what it has.
So the last octets are taken out of the socket, where Linux keeps them also after a reset, and are
read before the error is told.
"""

import asyncio
import os
import ssl
from typing import Any, cast

from mailserver import proxy

READ = 64 * 1024  # octets


async def connect(
    address: str, port: int, tls: ssl.SSLContext | None, name: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, and with a context begin TLS at once."""
    loop = asyncio.get_running_loop()
    reader = _Reader(limit=READ, loop=loop)
    protocol = _Protocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, address, port)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    if tls is not None:
        try:
            await start_tls(writer, tls, name)
        except BaseException:
            transport.abort()
            raise
    return reader, writer


async def start_tls(writer: asyncio.StreamWriter, context: ssl.SSLContext, name: str) -> None:
    """Begin TLS on a connection."""
    socket = writer.transport
    protocol = socket.get_protocol()
    if isinstance(protocol, _Protocol):  # there is none when the connection is lost already
        protocol.socket = None
    await writer.start_tls(context, server_hostname=name)
    socket.set_protocol(_BelowTls(socket))


class _Reader(asyncio.StreamReader):
    """Gives what arrived before a connection broke, and only then the error."""

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit, loop)
        self._error: Exception | None = None

    def set_exception(self, exc: Exception) -> None:
        """Take note of the error, which comes after all that there is to read."""
        self._error = exc
        self.feed_eof()

    async def read(self, n: int = -1) -> bytes:
        """Read up to `n` octets; the error of the connection when there is nothing left."""
        data = await super().read(n)
        if not data and self._error is not None:
            raise self._error
        return data


class _Protocol(asyncio.StreamReaderProtocol):
    """Takes the last words out of a socket without TLS."""

    socket: asyncio.BaseTransport | None = None  # none under TLS, where _BelowTls has it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read."""
        super().connection_made(transport)
        self.socket = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the reader of the end, after what it has not read."""
        if self.socket is not None and (words := _last_words(self.socket)):
            self.data_received(words)
        self.socket = None
        super().connection_lost(exc)


class _BelowTls(asyncio.BufferedProtocol):
    """Stands between a socket and its layer of TLS, and takes the last words out of the socket."""

    def __init__(self, socket: asyncio.WriteTransport) -> None:
        self._socket = socket
        # the layers of asyncio and of uvloop have no class in common
        self._tls = cast(Any, socket.get_protocol())

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where octets are to be put."""
        return cast(memoryview, self._tls.get_buffer(sizehint))

    def buffer_updated(self, nbytes: int) -> None:
        """Take octets."""
        self._tls.buffer_updated(nbytes)

    def eof_received(self) -> bool | None:
        """Take note that nothing more will come."""
        return cast(bool | None, self._tls.eof_received())

    def pause_writing(self) -> None:
        """Take note that too much waits to be sent."""
        self._tls.pause_writing()

    def resume_writing(self) -> None:
        """Take note that there is room again."""
        self._tls.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End TLS, after it was given what it has not read."""
        proxy.feed(cast(asyncio.Transport, self._socket), _last_words(self._socket))
        self._tls.connection_lost(exc)


def _last_words(transport: asyncio.BaseTransport) -> bytes:
    """Return what has arrived at a socket that nobody reads any more, before it is closed."""
    try:
        return os.read(transport.get_extra_info("socket").fileno(), READ)
    except OSError:  # there is nothing
        return b""
