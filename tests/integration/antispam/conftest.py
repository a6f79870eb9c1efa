"""A listener of port 25 with checks, over the real store."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from mailserver.antispam.gate import Gate
from mailserver.antispam.pipeline import Pipeline
from mailserver.antispam.trace import Journal
from mailserver.auth.credentials import Authenticator
from mailserver.config import Listener
from mailserver.mail.context import Mail
from mailserver.smtp.server import SmtpServer

Serve = Callable[[Pipeline | None], Awaitable[int]]


@pytest.fixture
def journal(mail: Mail) -> Journal:
    """The journal of what became of each message; `flush` writes it."""
    return Journal(mail.database, mail.ids, mail.metrics, mail.now)


@pytest_asyncio.fixture
async def serve(mail: Mail, journal: Journal) -> AsyncIterator[Serve]:
    """Start a listener with these checks and return its port."""
    running: list[SmtpServer] = []

    async def start(pipeline: Pipeline | None) -> int:
        server = SmtpServer(
            mail=mail,
            authenticator=Authenticator(mail.database, passwords=mail.passwords),
            tls=None,
            kind="mx",
            gate=Gate(pipeline, journal),
        )
        running.append(server)
        _, port = await server.start(Listener(host="127.0.0.1", port=0))
        return port

    yield start
    for server in running:
        await server.stop(5)
