"""A mail server on loopback that says what a test wants it to say."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

Say = Callable[[str], str | None]  # a command line: what to answer instead; "" closes; None: usual


@dataclass
class Received:
    """One message as it came."""

    sender: str
    recipients: list[str]
    content: bytes
    tls: bool


@dataclass
class Peer:
    """Takes mail, and counts connections."""

    address: str = "127.0.0.1"
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SIZE 10000000", "DSN", "SMTPUTF8")
    say: Say = lambda line: None
    greeting: str = "220 peer.test ESMTP"
    stalls: bool = False  # says nothing, ever
    tls: ssl.SSLContext | None = None
    port: int = 0
    received: list[Received] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    connections: int = 0
    most: int = 0  # connections at the same time
    _open: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, self.address, self.port)
        port: int = self._server.sockets[0].getsockname()[1]
        self.port = port
        return port

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def wait_for(self, count: int) -> None:
        """Wait until so many messages have come."""
        async with asyncio.timeout(30):
            while len(self.received) < count:
                self.arrived.clear()
                await self.arrived.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        self.most = max(self.most, len(self._open))
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, EOFError):
                await self._talk(reader, writer)
        finally:
            self._open.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.stalls:
            await reader.read()
        elif self.greeting:
            talk = _Talk(self, reader, writer)
            await talk.say(self.greeting)
            while await talk.command():
                pass

    def take(self, message: Received) -> None:
        self.received.append(message)
        self.arrived.set()


class _Talk:
    """One conversation."""

    def __init__(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.peer = peer
        self.reader = reader
        self.writer = writer
        self.secure = False
        self.sender = ""
        self.recipients: list[str] = []
        self.chunks = b""

    async def say(self, text: str) -> bool:
        """Answer; False when the answer is to close."""
        if not text:
            return False
        self.writer.write(text.encode() + b"\r\n")
        await self.writer.drain()
        return True

    async def command(self) -> bool:
        """Answer one command; False at the end."""
        line = (await self.reader.readline()).decode().rstrip("\r\n")
        if not line:
            return False
        self.peer.lines.append(line)
        verb = line.split(" ")[0].upper()
        if verb == "BDAT":
            self.chunks += await self.reader.readexactly(int(line.split(" ")[1]))
        special = self.peer.say(line)
        if special is not None:
            return await self.say(special)
        handler = getattr(self, f"do_{verb.lower()}", None)
        if handler is None:
            return await self.say("250 2.0.0 ok")
        going: bool = await handler(line)
        return going

    async def do_ehlo(self, _: str) -> bool:
        offers = list(self.peer.extensions)
        if self.peer.tls is not None and not self.secure:
            offers.append("STARTTLS")
        words = ["peer.test", *offers]
        lines = [f"250-{word}" for word in words[:-1]] + [f"250 {words[-1]}"]
        return await self.say("\r\n".join(lines))

    async def do_starttls(self, _: str) -> bool:
        assert self.peer.tls is not None
        await self.say("220 2.0.0 go")
        await self.writer.start_tls(self.peer.tls)
        self.secure = True
        return True

    async def do_mail(self, line: str) -> bool:
        self.sender, self.recipients, self.chunks = line, [], b""
        return await self.say("250 2.1.0 sender ok")

    async def do_rcpt(self, line: str) -> bool:
        self.recipients.append(line)
        return await self.say("250 2.1.5 recipient ok")

    async def do_data(self, _: str) -> bool:
        await self.say("354 go on")
        content = b""
        while (got := await self.reader.readline()) != b".\r\n":
            if not got:
                return False
            content += got.removeprefix(b".") if got.startswith(b".") else got
        special = self.peer.say("END")
        if special is not None:
            return await self.say(special)
        return await self._taken(content)

    async def do_bdat(self, line: str) -> bool:
        if line.upper().endswith("LAST"):
            return await self._taken(self.chunks)
        return await self.say("250 2.0.0 more")

    async def do_quit(self, _: str) -> bool:
        await self.say("221 2.0.0 bye")
        return False

    async def _taken(self, content: bytes) -> bool:
        self.peer.take(Received(self.sender, self.recipients, content, self.secure))
        return await self.say("250 2.0.0 taken")
