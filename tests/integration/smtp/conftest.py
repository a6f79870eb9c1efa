"""SMTP listeners on loopback, over the real store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest_asyncio

from mailserver.auth.credentials import Authenticator, Judge
from mailserver.config import Listener
from mailserver.mail import content, listings, mailboxes, messages
from mailserver.mail.context import Mail
from mailserver.model import Account, EmailId
from mailserver.networks import NOWHERE, Networks
from mailserver.smtp.limits import ARRIVING, DISK, MEMORY
from mailserver.smtp.server import SmtpServer
from tests.integration.conftest import Tls


@dataclass
class Servers:
    """Starts listeners and remembers them."""

    mail: Mail
    tls: Tls
    running: list[SmtpServer]
    tokens: Judge | None = None

    async def start(self, kind: str, proxies: Networks = NOWHERE) -> int:
        authenticator = Authenticator(
            self.mail.database, passwords=self.mail.passwords, tokens=self.tokens
        )
        server = SmtpServer(
            mail=self.mail,
            authenticator=authenticator,
            tls=self.tls.server,
            kind=kind,
            proxies=proxies,
        )
        self.running.append(server)
        _, port = await server.start(Listener(host="127.0.0.1", port=0))
        return port


@pytest_asyncio.fixture
async def servers(mail: Mail, tls: Tls) -> AsyncIterator[Servers]:
    found = Servers(mail, tls, [])
    yield found
    for server in found.running:
        await server.stop(5)
        assert server.open == set()
        assert server.limits.room.memory.free == MEMORY
        assert server.limits.room.disk.free == DISK
        assert server.limits.room.arriving.free == ARRIVING


class Client:
    """A client that says exactly what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self) -> str:
        """Read one reply, all its lines; empty when the server has closed."""
        lines = []
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 30)).decode()
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def say(self, line: str) -> str:
        await self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def closed(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(1), 30) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.close()


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Callable[[int], Awaitable[Client]]]:
    """Open a connection and read the greeting."""
    clients = []

    async def open_client(port: int) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        clients.append(client)
        assert (await client.reply()).startswith("220 mail.example.test ESMTP")
        return client

    yield open_client
    for client in clients:
        client.close()
        with contextlib.suppress(OSError):
            await client.writer.wait_closed()


async def inbox(mail: Mail, account: Account) -> list[bytes]:
    """Return the messages of an INBOX, oldest first."""
    mailbox = await mailboxes.by_path(mail, account.id, "INBOX")
    listing = await listings.open_listing(mail, account.id, mailbox.id)
    ids = [EmailId(email_id) for email_id in listing.email_ids]
    emails = await messages.emails(mail, account.id, ids)
    return [await content.content(mail, account.id, emails[email_id].blob_id) for email_id in ids]
