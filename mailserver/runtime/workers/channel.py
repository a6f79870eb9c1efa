"""What supervisor and worker say to each other: JSON documents through a socket pair."""

import asyncio
import socket
from typing import Any, Self

import orjson

Message = dict[str, Any]

_LENGTH = 4  # octets before each document, big endian
_MOST = 64 * 1024 * 1024  # octets of a document; the metrics of a worker are some ten thousand


class Channel:
    """One end of a socket pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """Take over one end of a pair."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    async def receive(self) -> Message | None:
        """Return the next document; None when the other side is gone, ValueError for nonsense."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH))
            if length > _MOST:
                raise ValueError("a document is too large")
            message: Message = orjson.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return message

    def send(self, message: Message) -> None:
        """Send a document without waiting; whoever is gone hears nothing."""
        if not self._writer.is_closing():
            document = orjson.dumps(message)
            self._writer.write(len(document).to_bytes(_LENGTH) + document)

    async def flush(self) -> None:
        """Wait until most of what was said has been taken."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    def close(self) -> None:
        """Say no more."""
        self._writer.close()
