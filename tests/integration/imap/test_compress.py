"""COMPRESS=DEFLATE on real sockets: every answer can be read at once, and bombs stay small."""

import asyncio
import tracemalloc
import zlib
from typing import Any

import pytest

from mailserver.imap.server import COMPRESSORS
from mailserver.model import Account

MEGABYTE = 1024 * 1024


class Compressed:
    """A client after COMPRESS."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        self._inflate = zlib.decompressobj(-15)
        self.said = b""

    async def send(self, octets: bytes) -> None:
        packed = self._deflate.compress(octets) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        await self.client.send(packed)

    async def finish(self, octets: bytes, plain: bytes = b"") -> None:
        packed = self._deflate.compress(octets) + self._deflate.flush(zlib.Z_FINISH)
        await self.client.send(packed + plain)

    async def until(self, line: bytes) -> bytes:
        """Read to the end of the line that begins so."""
        async with asyncio.timeout(120):
            while b"\r\n" not in (b"\r\n" + self.said).partition(b"\r\n" + line)[2]:
                octets = await self.client.reader.read(65536)
                assert octets, self.said
                self.said += self._inflate.decompress(octets)
        before, _, after = (b"\r\n" + self.said).partition(b"\r\n" + line)
        rest, _, self.said = after.partition(b"\r\n")
        return (before + b"\r\n" + line + rest).lstrip(b"\r\n")


async def _compressed(connect: Any, port: int) -> Compressed:
    client = await connect(port)
    await client.log_in()
    assert await client.ask(b"COMPRESS DEFLATE") == [b"t2 OK COMPRESS completed\r\n"]
    return Compressed(client)


async def test_commands_idle_and_large_answers(
    servers: Any, connect: Any, deliver: Any, alice: Account
) -> None:
    port = await servers.start()
    client = await _compressed(connect, port)
    await client.send(b"a1 SELECT INBOX\r\na2 NOOP\r\na3 CAPABILITY\r\n")
    assert b"READ-WRITE" in await client.until(b"a1")
    assert b"* CAPABILITY" in await client.until(b"a3 OK")
    await client.send(b"a4 IDLE\r\n")
    await client.until(b"+ ")
    large = b"Subject: large\r\n\r\n" + b"".join(b"line %d\r\n" % n for n in range(100_000))
    await deliver(large)
    assert b"* 1 EXISTS" in await client.until(b"* 1 RECENT")
    await client.send(b"DONE\r\na5 FETCH 1 BODY.PEEK[]\r\n")
    assert large in await client.until(b"a5 OK")
    await client.send(b"a6 APPEND INBOX {%d}\r\n" % len(large))
    await client.until(b"+ ")
    await client.send(large)
    await client.send(b"\r\na7 LOGOUT\r\n")
    assert b"a6 OK [APPENDUID" in await client.until(b"a7 OK")


async def test_one_octet_a_segment(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    client = await _compressed(connect, port)
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    sent = stream.compress(b"a1 NOOP\r\na2 SELECT INBOX\r\n") + stream.flush(zlib.Z_SYNC_FLUSH)
    for octet in sent:
        await client.client.send(bytes([octet]))
        await asyncio.sleep(0)
    assert b"a1 OK" in await client.until(b"a2 OK")


async def test_a_bomb(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    client = await _compressed(connect, port)
    bomb = b"a1 NOOP " + b"x" * (256 * MEGABYTE) + b"\r\n"
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = stream.compress(bomb) + stream.flush(zlib.Z_SYNC_FLUSH)
    del bomb
    tracemalloc.start()
    await client.client.send(packed)
    assert await client.until(b"a1") == b"a1 BAD Command is too long"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * MEGABYTE


async def test_a_bomb_while_a_command_runs(servers: Any, connect: Any, alice: Account) -> None:
    """What a client sends ahead stays compressed, and is not read without limit."""
    port = await servers.start()
    client = await _compressed(connect, port)
    noops = 10_000
    tracemalloc.start()
    sending = asyncio.create_task(client.send(b"x NOOP\r\n" * noops + b"y NOOP\r\n"))
    said = await client.until(b"y OK")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await sending
    assert said.count(b"x OK NOOP completed\r\n") == noops
    assert peak < 12 * MEGABYTE  # of which the client holds most


async def test_garbage(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    client = await _compressed(connect, port)
    await client.client.send(b"a1 NOOP\r\na2 NOOP\r\n")
    assert await client.until(b"*") == b"* BYE Compressed data is damaged"
    assert await client.client.rest() == b""


@pytest.mark.parametrize("ends", [True, False])
async def test_unauthenticate_ends_it(
    servers: Any, connect: Any, alice: Account, ends: bool
) -> None:
    port = await servers.start()
    client = await _compressed(connect, port)
    if ends:
        await client.finish(b"a1 UNAUTHENTICATE\r\n", b"a2 NOOP\r\n")
    else:
        await client.send(b"a1 UNAUTHENTICATE\r\n")
    stream = zlib.decompressobj(-15)
    said = b""
    while not stream.eof:
        said += stream.decompress(await client.client.reader.read(65536))
    assert said.startswith(b"a1 OK")
    if not ends:
        await client.client.send(b"a2 NOOP\r\n")
    said = stream.unused_data or await client.client.line()
    assert said == b"a2 OK NOOP completed\r\n"
    await client.client.log_in()


async def test_compressors_are_kept_for_few(servers: Any, connect: Any, alice: Account) -> None:
    port = await servers.start()
    clients = [await _compressed(connect, port) for _ in range(COMPRESSORS + 5)]
    for _ in range(2):
        for client in clients:
            await client.send(b"a1 NOOP\r\n")
            assert await client.until(b"a1") == b"a1 OK NOOP completed"
