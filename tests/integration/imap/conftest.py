"""IMAP listeners on loopback, over the real store."""

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from mailserver.auth.credentials import Authenticator, Judge
from mailserver.config import Config, Listener
from mailserver.imap.server import ImapServer
from mailserver.mail import delivery
from mailserver.mail.context import Mail
from mailserver.model import Account, Flags
from tests.integration.conftest import Tls

PATIENCE = 60.0  # seconds until an answer that does not come fails the test
PASSWORD = "correct horse"


@pytest.fixture
def config() -> Config:
    """Plain-text logins, so that what is on the wire can be said octet by octet."""
    return Config.model_validate(
        {
            "server": {"hostname": "mail.example.test"},
            "imap": {"allow_plaintext_login": True, "max_append_size": 16 * 1024 * 1024},
        }
    )


@dataclass
class Servers:
    """Starts listeners and stops them."""

    mail: Mail
    tls: Tls
    running: list[ImapServer] = field(default_factory=list)
    tokens: Judge | None = None

    async def start(self, *, implicit_tls: bool = False, write_timeout: float = 60) -> int:
        server = ImapServer(
            mail=self.mail,
            authenticator=Authenticator(
                self.mail.database, passwords=self.mail.passwords, tokens=self.tokens
            ),
            tls=self.tls.server,
            implicit_tls=implicit_tls,
            write_timeout=write_timeout,
        )
        self.running.append(server)
        _, port = await server.start(Listener(host="127.0.0.1", port=0))
        return port


@pytest_asyncio.fixture
async def servers(mail: Mail, tls: Tls) -> AsyncIterator[Servers]:
    found = Servers(mail, tls)
    yield found
    for server in found.running:
        await server.stop(5)


class Client:
    """A client that says exactly what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.tags = 0

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def line(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readline()

    async def ask(self, command: bytes) -> list[bytes]:
        """Send a command; return the lines of its answer, the tagged one last."""
        self.tags += 1
        tag = b"t%d" % self.tags
        await self.send(tag + b" " + command + b"\r\n")
        return await self.until(tag)

    async def until(self, tag: bytes) -> list[bytes]:
        lines: list[bytes] = []
        while True:
            line = await self.line()
            assert line, f"closed after {lines[-3:]!r}"
            lines.append(line)
            if line.startswith(tag + b" "):
                return lines

    async def rest(self) -> bytes:
        """Read until the server closes."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def log_in(self) -> None:
        said = await self.ask(b'LOGIN alice@example.test "correct horse"')
        assert said[-1].startswith(b"t%d OK" % self.tags), said

    def close(self) -> None:
        self.writer.close()


Connect = Callable[..., Awaitable[Client]]


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Connect]:
    """Open a connection and read the greeting."""
    clients: list[Client] = []

    async def open_client(port: int, *, limit: int = 2**26) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", port, limit=limit))
        clients.append(client)
        assert (await client.line()).startswith(b"* OK [CAPABILITY IMAP4rev1 ")
        return client

    yield open_client
    for client in clients:
        client.close()
        with contextlib.suppress(OSError):
            await client.writer.wait_closed()


@pytest.fixture(autouse=True)
def untraced() -> Iterator[None]:
    """A test that fails while it measures memory does not slow down the next ones."""
    yield
    tracemalloc.stop()


Deliver = Callable[..., Awaitable[None]]


@pytest.fixture
def deliver(mail: Mail, alice: Account) -> Deliver:
    """Put a message into alice's INBOX."""

    async def accept(raw: bytes, *flags: str) -> None:
        await delivery.accept(
            mail,
            raw,
            [delivery.Target(alice.id, flags=Flags.of(flags))],
            received_at=mail.now(),
        )

    return accept


async def serves(connect: Any, port: int) -> None:
    """Assert that the server on that port still serves others."""
    client = await connect(port)
    await client.log_in()
    assert (await client.ask(b"SELECT INBOX"))[-1].startswith(b"t2 OK")
    client.close()
