"""Connections to engines: bounded reads, and one kind of error for all that can go wrong."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

LONGEST_LINE = 64 * 1024  # octets an engine may send without an end
IDLE = 20.0  # seconds that a connection is kept for the next message: clamd's limit is 30
MOST_IDLE = 8  # connections kept to one address


class EngineFailed(Exception):
    """An engine did not answer, or not in its protocol; the text is one line for people."""


class Link:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.fresh = True  # nothing was asked over it yet
        self.idle_since = 0.0

    async def send(self, *parts: bytes) -> None:
        """Write, and wait until there is room for more."""
        if self.writer.is_closing():
            raise ConnectionResetError  # uvloop raises RuntimeError when all has ended
        self.writer.writelines(parts)
        await self.writer.drain()

    def acknowledge(self) -> None:
        """Have the next octets acknowledged at once: who waits for that sends an answer in parts.

        Linux forgets it after a while, so it is asked for before each read.
        """
        sock = self.writer.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX and hasattr(socket, "TCP_QUICKACK"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def second_handle(self) -> socket.socket:
        """Return another handle of the connection, to be closed by the caller; it never waits.

        When a write meets a reset, the event loop closes its own handle together with what the
        peer had said before; the kernel still gives that to who has another one. OSError when the
        connection has ended already.
        """
        sock = self.writer.get_extra_info("socket")
        if sock is None or self.writer.is_closing():
            raise ConnectionResetError
        return socket.fromfd(sock.fileno(), sock.family, sock.type)

    def abort(self) -> None:
        """End it at once."""
        self.writer.transport.abort()


@asynccontextmanager
async def told(address: str) -> AsyncIterator[None]:
    """Turn what goes wrong on a connection into EngineFailed with the address."""
    try:
        yield
    except EngineFailed:
        raise
    except TimeoutError:
        raise EngineFailed(f"{address}: no answer in time") from None
    except EOFError:
        raise EngineFailed(f"{address}: closed the connection before it had answered") from None
    except OSError as error:
        raise EngineFailed(f"{address}: {error.strerror or type(error).__name__}") from None
    except asyncio.LimitOverrunError:
        raise EngineFailed(f"{address}: the answer is too long") from None
    except (ValueError, LookupError) as error:
        raise EngineFailed(f"{address}: not the answer expected: {clean(str(error))}") from None


async def open_link(address: str) -> Link:
    """Connect to `host:port` or `unix:/path`."""
    if address.startswith("unix:"):
        return Link(*await asyncio.open_unix_connection(address[5:], limit=LONGEST_LINE))
    host, _, port = address.rpartition(":")
    return Link(*await asyncio.open_connection(host.strip("[]"), int(port), limit=LONGEST_LINE))


@dataclass(slots=True)
class Links:
    """Connections to one address that wait for the next message."""

    address: str
    open: Callable[[str], Awaitable[Link]] = open_link
    clock: Callable[[], float] = time.monotonic
    _idle: list[Link] = field(default_factory=list)

    async def get(self, *, fresh: bool = False) -> Link:
        """Return a connection that was used before, or a new one."""
        now = self.clock()
        while self._idle and not fresh:
            link = self._idle.pop()
            if now - link.idle_since < IDLE and not link.reader.at_eof():
                return link
            link.abort()
        return await self.open(self.address)

    def give_back(self, link: Link) -> None:
        """Keep a connection for the next message."""
        link.fresh = False
        link.idle_since = self.clock()
        self._idle.append(link)
        if len(self._idle) > MOST_IDLE:
            self._idle.pop(0).abort()

    def close(self) -> None:
        """End them all."""
        while self._idle:
            self._idle.pop().abort()


# How others begin: a port of the wrong service is a common mistake.
_KNOWN = {
    b"PONG": "clamd",
    b"UNKNOWN COMMAND": "clamd",
    b"SPAMD/": "spamd",
    b"HTTP/": "a web server or rspamd",
    b"ICAP/": "an ICAP server",
    b"220 ": "an SMTP server",
    b"220-": "an SMTP server",
    b"* OK": "an IMAP server",
    b"SSH-": "an SSH server",
}


def shown(answer: bytes) -> str:
    """Say what an answer looks like that is not of the protocol that was expected."""
    if not answer:
        return "nothing"
    for start, who in _KNOWN.items():
        if start in answer[:40]:
            return f"that is {who}"
    return repr(answer[:40])


def clean(text: str, limit: int = 200) -> str:
    """Return what an engine said as one printable line."""
    return "".join(each if each.isprintable() else " " for each in text[:limit]).strip()
