"""What clients send shares a bound on memory, and large messages one on disk."""

import asyncio
import tempfile
import tracemalloc
from typing import Any

import pytest

from mailserver.imap import channel
from mailserver.imap.server import MEMORY
from mailserver.mail.memory import Memory
from mailserver.model import Account

MEGABYTE = 1024 * 1024
HALF = b"x" * 600_000


async def test_a_message_without_room_is_refused_and_the_session_goes_on(
    servers: Any, connect: Any, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "ROOM_TIMEOUT", 0.05)
    port = await servers.start()
    disk = servers.running[0].disk = Memory(MEGABYTE)
    slow, other = await connect(port), await connect(port)
    await slow.log_in()
    await other.log_in()
    await slow.send(b"s APPEND INBOX {1200000}\r\n")
    assert await slow.line() == b"+ OK\r\n"
    await slow.send(HALF)
    async with asyncio.timeout(30):
        while disk.free > 512 * 1024:
            await asyncio.sleep(0)
    for number in range(2):
        # both kinds of literal
        await other.send(b"o%d APPEND INBOX {1200000+}\r\n" % number + HALF * 2 + b"\r\n")
        refused = (await other.until(b"o%d" % number))[-1]
        assert refused == b"o%d NO [LIMIT] No room now, try again later\r\n" % number
    await other.send(b"p APPEND INBOX {1200000}\r\n")
    assert await other.line() == b"+ OK\r\n"
    await other.send(HALF * 2 + b"\r\n")
    assert (await other.until(b"p"))[-1].startswith(b"p NO [LIMIT]")
    # small mail never waits
    await other.send(b"q APPEND INBOX {15+}\r\nSubject: a\r\n\r\nb\r\n")
    assert (await other.until(b"q"))[-1].startswith(b"q OK [APPENDUID")
    assert disk.free < MEGABYTE
    monkeypatch.setattr(channel, "ROOM_TIMEOUT", 30)
    await slow.send(b"x" * 100_000)
    await slow.writer.drain()
    slow.writer.close()
    await other.send(b"r APPEND INBOX {600000}\r\n")
    assert await other.line() == b"+ OK\r\n"
    await other.send(HALF + b"\r\n")
    assert (await other.until(b"r"))[-1].startswith(b"r OK [APPENDUID")
    await other.send(b"t NOOP\r\n")
    await other.until(b"t")
    assert disk.free == MEGABYTE
    assert servers.running[0].memory.free == MEMORY


async def test_a_command_without_memory_is_refused_and_the_session_goes_on(
    servers: Any, connect: Any, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "ROOM_TIMEOUT", 0.05)
    port = await servers.start()
    memory = servers.running[0].memory = Memory(300_000)
    client = await connect(port)
    await client.log_in()
    await client.ask(b"SELECT INBOX")
    await client.send(b"a UID FETCH " + b"1000001," * 100_000 + b"1 FLAGS\r\n")
    assert await client.until(b"a") == [b"a NO [LIMIT] No room now, try again later\r\n"]
    # it was received, but there is no memory to store it
    await client.send(b"b APPEND INBOX {600000+}\r\n" + HALF + b"\r\n")
    assert (await client.until(b"b"))[-1].startswith(b"b NO [LIMIT]")
    assert (await client.ask(b"NOOP"))[-1].endswith(b" OK NOOP completed\r\n")
    assert memory.free == 300_000


async def test_a_disk_that_cannot_be_written(
    servers: Any, connect: Any, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = await servers.start()
    client = await connect(port)
    await client.log_in()
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    await client.send(b"a APPEND INBOX {600000+}\r\n" + HALF + b"\r\n")
    assert await client.until(b"a") == [b"a NO [LIMIT] No room now, try again later\r\n"]
    monkeypatch.undo()
    await client.send(b"b APPEND INBOX {600000+}\r\n" + HALF + b"\r\n")
    assert (await client.until(b"b"))[-1].startswith(b"b OK [APPENDUID")


async def test_a_large_message_takes_no_memory_while_it_arrives(
    servers: Any, connect: Any, alice: Account
) -> None:
    port = await servers.start()
    clients = [await connect(port) for _ in range(4)]
    piece = b"x" * (MEGABYTE - 2) + b"\r\n"
    for client in clients:
        await client.log_in()
        await client.send(b"a APPEND INBOX {%d+}\r\n" % (16 * MEGABYTE))
    disk = servers.running[0].disk
    free = disk.free
    tracemalloc.start()
    for _ in range(15):
        for client in clients:
            await client.send(piece)
    async with asyncio.timeout(30):
        while disk.free > free - len(clients) * 14 * MEGABYTE:
            await asyncio.sleep(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * MEGABYTE  # of 60 MB
    for client in clients:
        await client.send(piece + b"\r\n")
        assert (await client.until(b"a"))[-1].startswith(b"a OK [APPENDUID")
    client = clients[0]
    await client.ask(b"SELECT INBOX")
    await client.send(b"f FETCH 2 (RFC822.SIZE BODY.PEEK[])\r\n")
    async with asyncio.timeout(30):
        line = await client.reader.readline()
        assert line.startswith(b"* 2 FETCH (RFC822.SIZE %d BODY[] {" % (16 * MEGABYTE))
        assert await client.reader.readexactly(16 * MEGABYTE) == piece * 16
    assert disk.free == free


async def test_large_parts_and_several_large_messages(
    servers: Any, connect: Any, alice: Account
) -> None:
    port = await servers.start()
    client = await connect(port)
    await client.log_in()
    head, body = b"Subject: large\r\n\r\n", b"line\r\n" * 100_000
    await client.send(
        b"a APPEND INBOX CATENATE (TEXT {%d+}\r\n" % len(head)
        + head
        + b" TEXT {%d+}\r\n" % len(body)
        + body
        + b" TEXT {3+}\r\nend) (\\Seen) {%d+}\r\n" % len(body)
        + body
        + b" {5+}\r\nsmall\r\n"
    )
    assert (await client.until(b"a"))[-1].startswith(b"a OK [APPENDUID")
    await client.ask(b"SELECT INBOX")
    sizes = [len(head + body) + 3, len(body), 5]
    said = await client.ask(b"FETCH 1:3 RFC822.SIZE")
    assert said[:-1] == [
        b"* %d FETCH (RFC822.SIZE %d)\r\n" % (number, size) for number, size in enumerate(sizes, 1)
    ]
    said = await client.ask(b"FETCH 1 BODY.PEEK[]<%d.12>" % (len(head + body) - 6))
    assert said[1] == b"line\r\n"
    assert said[2] == b"end)\r\n"
