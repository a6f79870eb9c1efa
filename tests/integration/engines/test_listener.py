"""Engines behind a listener of port 25: what the sender is told, and what is delivered."""

import asyncio
import smtplib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from mailserver.antispam.checks import Checks
from mailserver.antispam.engines.engine import Engine
from mailserver.antispam.gate import Gate
from mailserver.antispam.pipeline import Pipeline
from mailserver.auth.credentials import Authenticator
from mailserver.config import Config, Listener
from mailserver.mail import content
from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.smtp.server import SmtpServer
from tests.engine_programs import VIRUS, Program
from tests.integration.engines.conftest import Make, Pretend, stall
from tests.integration.engines.test_milters import Filter, packet
from tests.running import free_port

Send = Callable[[bytes], Awaitable[tuple[int, bytes]]]
LETTER = b"From: carol@example.org\r\nTo: alice@example.test\r\nSubject: Hello\r\n\r\n"


@pytest.fixture
def config() -> Config:
    return Config.model_validate({"server": {"hostname": "mail.example.test"}})


@pytest_asyncio.fixture
async def behind(mail: Mail, alice: Account) -> AsyncIterator[Callable[..., Awaitable[Send]]]:
    """Start a listener with engines; what is returned sends a body, and tells the reply."""
    running: list[SmtpServer] = []

    async def started(*engines: Engine) -> Send:
        clock = asyncio.get_running_loop().time
        pipeline = Pipeline(mail.config.antispam, Checks(judges=engines), mail.metrics, clock)
        server = SmtpServer(
            mail=mail,
            authenticator=Authenticator(mail.database, passwords=mail.passwords),
            tls=None,
            kind="mx",
            gate=Gate(pipeline),
        )
        running.append(server)
        _, port = await server.start(Listener(host="127.0.0.1", port=0))

        def send(body: bytes) -> tuple[int, bytes]:
            with smtplib.SMTP("127.0.0.1", port) as client:
                client.ehlo("client.example.org")
                client.mail("carol@example.org")
                client.rcpt("alice@example.test")
                return client.data(LETTER + body)

        return lambda body: asyncio.to_thread(send, body)

    yield started
    for server in running:
        await server.stop(5)


async def stored(mail: Mail) -> list[bytes]:
    """Return the messages that were delivered."""
    rows = await mail.database.fetch("SELECT account_id, blob_id FROM email ORDER BY id")
    return [await content.content(mail, row["account_id"], row["blob_id"]) for row in rows]


async def test_virus_is_refused_and_a_letter_delivered(
    mail: Mail, behind: Callable[..., Awaitable[Send]], clamd: Program, make: Make
) -> None:
    send = await behind(make("clamd", clamd.address))
    code, text = await send(VIRUS)
    assert (code, text) == (550, b"5.7.1 clamd: Tests.Letter.UNOFFICIAL")
    assert (await send(b"Hello\r\n"))[0] == 250
    assert len(await stored(mail)) == 1


async def test_changes_of_a_milter_are_delivered(
    mail: Mail, behind: Callable[..., Awaitable[Send]], make: Make, pretend: Pretend
) -> None:
    filter_ = Filter(
        {
            "E": [
                packet(b"i", b"\0\0\0\0X-Filter\0seen\0"),
                packet(b"m", b"\0\0\0\1Subject\0[list] Hello\0"),
                packet(b"b", b"Hello\r\n-- \r\nfooter\r\n"),
                packet(b"c"),
            ]
        },
        actions=0x13,
    )
    send = await behind(make("milter", (await pretend(filter_)).address))
    assert (await send(b"Hello\r\n"))[0] == 250
    [raw] = await stored(mail)
    assert raw.endswith(
        b"X-Filter: seen\r\nFrom: carol@example.org\r\nTo: alice@example.test\r\n"
        b"Subject: [list] Hello\r\n\r\nHello\r\n-- \r\nfooter\r\n"
    )


@pytest.mark.parametrize("kind", ["spamd", "rspamd", "clamd", "icap", "milter"])
async def test_engine_that_is_away(
    mail: Mail, behind: Callable[..., Awaitable[Send]], make: Make, kind: str
) -> None:
    away = f"127.0.0.1:{free_port()}"
    send = await behind(make(kind, away, on_failure="defer"))
    code, text = await send(b"Hello\r\n")
    assert code == 451
    assert text == f"4.7.1 {kind} cannot look at messages now".encode()
    send = await behind(make(kind, away))
    assert (await send(b"Hello\r\n"))[0] == 250
    [raw] = await stored(mail)
    assert f"failed={kind}".encode() in raw


async def test_engine_that_stalls_holds_nobody_up(
    mail: Mail, behind: Callable[..., Awaitable[Send]], make: Make, pretend: Pretend
) -> None:
    send = await behind(make("clamd", (await pretend(stall)).address, timeout=0.3))
    async with asyncio.timeout(60):
        replies = await asyncio.gather(*(send(b"Hello\r\n") for _ in range(5)))
    assert {code for code, _ in replies} == {250}
    assert len(await stored(mail)) == 5
