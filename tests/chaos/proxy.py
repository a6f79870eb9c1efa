"""A TCP proxy that cuts, delays and refuses what goes through it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

CHUNK = 64 * 1024  # octets

Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

# what a broken S3 gateway says to any request
S3_FAILURE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\n"
    b"Content-Length: 41\r\nConnection: close\r\n\r\n<Error><Code>InternalError</Code></Error>"
)


class Proxy:
    """Connects clients of one address with one service, for better or worse."""

    def __init__(self, dial: Dial) -> None:
        self.dial = dial  # may be changed: the service has moved
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.port = 0
        self.delay = 0.0  # seconds that every chunk waits
        self.refuses = False  # new connections are closed at once
        self.answer = b""  # said to new connections instead of connecting them

    async def start(self) -> int:
        """Listen, and return the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """Cut every connection without a farewell."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def heal(self) -> None:
        """Let everything pass again."""
        self.delay = 0.0
        self.refuses = False
        self.answer = b""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._connect(reader, writer)
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            return
        if self.answer:
            await reader.read(CHUNK)
            writer.write(self.answer)
            await writer.drain()
            return
        there, back = await self.dial()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, back))
                group.create_task(self._pump(there, writer))
        except* OSError:
            pass
        finally:
            back.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            if self.delay:
                await asyncio.sleep(self.delay)
            writer.write(chunk)
            await writer.drain()
        # one side has ended: so does the other, or a client would wait for ever
        raise ConnectionResetError
