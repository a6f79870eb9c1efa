"""A listener of port 25 with checks, over the real store."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest_asyncio

from mailserver.antispam.pipeline import Pipeline
from mailserver.auth.credentials import Authenticator
from mailserver.config import Listener
from mailserver.mail.context import Mail
from mailserver.smtp.server import SmtpServer

Serve = Callable[[Pipeline], Awaitable[int]]


@pytest_asyncio.fixture
async def serve(mail: Mail) -> AsyncIterator[Serve]:
    """Start a listener with these checks and return its port."""
    running: list[SmtpServer] = []

    async def start(pipeline: Pipeline) -> int:
        server = SmtpServer(
            mail=mail,
            authenticator=Authenticator(mail.database, passwords=mail.passwords),
            tls=None,
            kind="mx",
            pipeline=pipeline,
        )
        running.append(server)
        _, port = await server.start(Listener(host="127.0.0.1", port=0))
        return port

    yield start
    for server in running:
        await server.stop(5)
