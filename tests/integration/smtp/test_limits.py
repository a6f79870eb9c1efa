"""What strangers may do to a listener, and what the others notice of it."""

import asyncio
import contextlib
import logging
import os
import random
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from mailserver.config import Config
from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.smtp.connection import LINGER_OCTETS
from mailserver.smtp.protocol import replies
from tests.integration.conftest import Tls
from tests.integration.smtp.conftest import Client, Servers, inbox
from tests.integration.smtp.test_delivery import begin

Connect = Callable[[int], Awaitable[Client]]


@pytest.fixture
def config(request: pytest.FixtureRequest) -> Config:
    """The configuration, with the limits that a test is marked with."""
    return Config.model_validate(
        {"server": {"hostname": "mail.example.test"}, "smtp": getattr(request, "param", {})}
    )


def limits(**smtp: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("config", [smtp], indirect=True)


def resident() -> int:
    """Return the octets of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@limits(command_timeout=4.0, max_connections_per_ip=1100)
async def test_a_thousand_silent_connections_time_out_while_others_are_served(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    port = await servers.start("mx")
    before = resident()
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(1000)]
    client = await connect(port)
    await begin(client)
    await client.send(b"Subject: served\r\n\r\n.\r\n")
    assert (await client.reply()).startswith("250")
    assert resident() - before < 60 * 1024 * 1024  # both ends of the connections are here
    for reader, writer in silent:
        said = await asyncio.wait_for(reader.read(), 30)
        assert said.startswith(b"220 ")
        assert said.endswith(b"421 4.4.2 Timeout, closing connection\r\n")
        writer.close()
    assert len(await inbox(mail, alice)) == 1


@limits(data_timeout=0.5)
@pytest.mark.parametrize("command", [b"DATA\r\n", b"BDAT 1000 LAST\r\n"])
async def test_a_client_that_stalls_in_the_data_is_told_and_cut(
    mail: Mail, alice: Account, servers: Servers, connect: Connect, command: bytes
) -> None:
    client = await connect(await servers.start("mx"))
    await begin(client, data=False)
    await client.send(command)
    if command == b"DATA\r\n":
        await client.reply()
    await client.send(b"Subject: stalled\r\n")
    assert (await client.reply()).startswith("421 4.4.2")
    assert await client.closed()
    assert await inbox(mail, alice) == []


@limits(max_message_size=10_000)
async def test_a_message_over_the_limit_is_refused_and_the_session_goes_on(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    assert "SIZE 10000" in await client.say("EHLO c.example.org")
    reply = await client.say("MAIL FROM:<carol@example.org> SIZE=10001")
    assert reply.startswith("552 5.3.4")
    await begin(client)
    await client.send(b"x" * 2_000_000 + b"\r\n.\r\n")
    assert (await client.reply()).startswith("552 5.3.4")
    exact = b"Subject: " + b"x" * 9_989 + b"\r\n"
    assert len(exact) == 10_000
    await begin(client)
    await client.send(exact + b".\r\n")
    assert (await client.reply()).startswith("250")
    await begin(client)
    await client.send(b"y" + exact + b".\r\n")
    assert (await client.reply()).startswith("552 5.3.4")
    assert len(await inbox(mail, alice)) == 1


@limits(max_message_size=10_000)
async def test_data_without_end_is_cut(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    await begin(client)

    async def flood() -> None:
        while True:
            await client.send(b"x" * 1_000_000)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(flood(), 30)


async def test_lines_too_long_and_lines_without_end(
    mail: Mail, servers: Servers, connect: Connect
) -> None:
    port = await servers.start("mx")
    client = await connect(port)
    await client.send(b"NOOP " + b"x" * 300_000 + b"\r\nNOOP\r\nNOOP\n")
    replies = [await client.reply() for _ in range(3)]
    assert replies == ["500 5.5.2 Line too long", "250 2.0.0 OK", "500 5.5.2 Lines end with CR LF"]

    async def flood() -> None:
        while True:
            await client.send(b"x" * 100_000)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(flood(), 30)


async def test_ten_bad_commands_end_the_session(
    mail: Mail, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    for _ in range(9):
        assert (await client.say("GET / HTTP/1.1")).startswith("500 5.5.2")
    assert (await client.say("Host: example.org")).startswith("421 4.7.0")
    assert await client.closed()


async def test_garbage_is_answered_or_cut_and_never_crashes(
    mail: Mail, servers: Servers, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    port = await servers.start("mx")
    chance = random.Random(5321)
    parts = [b"EHLO a", b"MAIL FROM:<", b"RCPT TO:<", b"DATA", b"\r\n", b"\0", b"\xff", b"STARTTLS"]
    for _ in range(40):
        client = await connect(port)
        data = b"".join(
            chance.choice([*parts, chance.randbytes(20)]) for _ in range(chance.randrange(60))
        )
        try:
            await client.send(data)
            client.writer.write_eof()
            said = await asyncio.wait_for(client.reader.read(), 30)
        except ConnectionError:
            continue
        assert b"Traceback" not in said
        assert b"Error" not in said
    assert [record for record in caplog.records if record.exc_info] == []


@limits(max_connections_per_ip=100)
async def test_connections_of_one_address_are_limited(
    mail: Mail, servers: Servers, connect: Connect
) -> None:
    port = await servers.start("mx")
    clients = [await connect(port) for _ in range(100)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await asyncio.wait_for(reader.read(), 30) == (
        b"421 4.7.0 Too many connections, try again later\r\n"
    )
    writer.close()
    assert (await clients[0].say("QUIT")).startswith("221")
    assert await clients[0].closed()
    assert (await (await connect(port)).say("NOOP")).startswith("250")


async def test_a_stop_ends_idle_sessions_and_lets_a_message_be_finished(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    port = await servers.start("mx")
    idle = await connect(port)
    busy = await connect(port)
    await begin(busy)
    await busy.send(b"Subject: last\r\n")
    stop = asyncio.create_task(servers.running[0].stop(20))
    assert (await idle.reply()).startswith("421 4.3.2")
    assert await idle.closed()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await busy.send(b"\r\nbody\r\n.\r\n")
    assert (await busy.reply()).startswith("250 2.0.0")
    assert (await busy.reply()).startswith("421 4.3.2")
    await stop
    assert len(await inbox(mail, alice)) == 1


@limits(command_timeout=1.0)
async def test_a_client_that_reads_nothing_is_cut(mail: Mail, servers: Servers) -> None:
    port = await servers.start("mx")
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    cast(asyncio.ReadTransport, writer.transport).pause_reading()
    before = resident()

    async def flood() -> None:
        while True:
            writer.write(b"HELP\r\n" * 1000)
            await writer.drain()

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(flood(), 30)
    assert resident() - before < 30 * 1024 * 1024
    writer.close()


@pytest.mark.parametrize("last", [b"BDAT 99999999999 LAST\r\n", b"AUTH LOGIN\r\n", b"DATA\r\n"])
async def test_who_leaves_in_the_middle_of_a_command_is_no_failure(
    mail: Mail, alice: Account, servers: Servers, caplog: pytest.LogCaptureFixture, last: bytes
) -> None:
    caplog.set_level(logging.INFO)
    port = await servers.start("submission")
    for _ in range(30):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        leave = writer.get_extra_info("socket")
        leave.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.write(b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\n" + last)
        writer.close()  # by a reset
        await writer.wait_closed()
    async with asyncio.timeout(30):
        while caplog.messages.count("session ended") < 30:
            await asyncio.sleep(0.01)
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == []


SAID = b"EHLO c.example.org\r\nMAIL FROM:<c@example.org>\r\nRCPT TO:<alice@example.test>\r\n"


def interrupted(port: int, octets: int, tls: ssl.SSLContext | None) -> bytes:
    """Announce a large message, send so much of it whatever is said, then read a line."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        connection.settimeout(60)
        lines = stack.enter_context(connection.makefile("rb", buffering=0))
        assert lines.readline().startswith(b"220 ")
        if tls is not None:
            connection.sendall(b"EHLO c.example.org\r\nSTARTTLS\r\n")
            while not lines.readline().startswith(b"220 "):
                pass
            connection = tls.wrap_socket(connection, server_hostname="localhost")
            stack.enter_context(connection)
            lines = stack.enter_context(connection.makefile("rb", buffering=0))
        connection.sendall(SAID + b"BDAT 100000000 LAST\r\n")
        while not lines.readline().startswith(b"250 2.1.5"):
            pass
        for _ in range(octets // 1000):
            connection.sendall(b"x" * 1000)
        return lines.readline()


@limits(max_message_size=10_000)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_a_client_that_first_sends_and_then_reads_is_told(
    mail: Mail, alice: Account, servers: Servers, tls: Tls, secure: bool
) -> None:
    port = await servers.start("mx")
    said = await asyncio.to_thread(interrupted, port, 4_000_000, tls.client if secure else None)
    assert said == bytes(replies.TOO_BIG)


@limits(max_message_size=10_000)
async def test_one_that_does_not_stop_is_cut(mail: Mail, alice: Account, servers: Servers) -> None:
    port = await servers.start("mx")
    with pytest.raises(ConnectionError):
        await asyncio.to_thread(interrupted, port, 4 * LINGER_OCTETS, None)
