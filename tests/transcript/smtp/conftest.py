"""Conversations written as text: `C:` is said, `S:` is expected.

`T:` lets both sides begin TLS. `#` begins a comment; the first line names the listener:
`listener: mx`, perhaps with the address of the client: `listener: mx from 127.0.0.9`. `{name}` in
an expected line stands for any text without blanks.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from mailserver.antispam.gate import OPEN, Gate
from mailserver.auth.credentials import Authenticator
from mailserver.config import Listener
from mailserver.mail.context import Mail
from mailserver.smtp.server import SmtpServer
from mailserver.tls import DevelopmentFiles, make_development_ca, server_context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentFiles:
    directory = tmp_path_factory.mktemp("tls")
    return make_development_ca(directory, ["localhost"], datetime.now(UTC))


Play = Callable[[Path], Awaitable[int]]


@pytest.fixture
def gate() -> Gate:
    """The checks of what arrives; a test that wants some overrides this fixture."""
    return OPEN


@pytest_asyncio.fixture
async def play(mail: Mail, certificates: DevelopmentFiles, gate: Gate) -> AsyncIterator[Play]:
    """Play a transcript; return the number of lines that were compared."""
    servers = []

    async def run(path: Path) -> int:
        first, *lines = path.read_text().splitlines()
        kind, _, client = first.removeprefix("listener: ").partition(" from ")
        server = SmtpServer(
            mail=mail,
            authenticator=Authenticator(mail.database, passwords=mail.passwords),
            tls=server_context(certificates.certificate, certificates.key, channel_binding=True),
            kind=kind,
            gate=gate,
        )
        servers.append(server)
        host, port = await server.start(Listener(host="127.0.0.1", port=0))
        address = (client, 0) if client else None
        reader, writer = await asyncio.open_connection(host, port, local_addr=address)
        compared = 0
        for number, line in enumerate(lines, 2):
            kind, text = line[:3].strip(), line[3:]
            if kind == "C:":
                writer.write(text.encode() + b"\r\n")
            elif kind == "T:":
                context = ssl.create_default_context(cafile=str(certificates.ca))
                await writer.start_tls(context, server_hostname="localhost")
            elif kind == "S:":
                said = (await asyncio.wait_for(reader.readline(), 30)).decode().rstrip("\r\n")
                assert _pattern(text).fullmatch(said), f"{path.name}:{number}: {said!r}"
                compared += 1
            else:
                assert not line.strip() or line.startswith("#"), f"{path.name}:{number}: {line}"
        writer.write_eof() if writer.can_write_eof() else writer.close()
        rest = await asyncio.wait_for(reader.read(), 30)
        assert rest == b"", f"{path.name}: more was said: {rest!r}"
        writer.close()
        return compared

    yield run
    for server in servers:
        await server.stop(5)


def _pattern(text: str) -> re.Pattern[str]:
    pieces = re.split(r"\{\w+\}", text)
    return re.compile(r"\S+".join(re.escape(piece) for piece in pieces))
