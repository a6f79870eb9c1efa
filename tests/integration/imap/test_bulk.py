"""Many messages in one answer, over every kind of wire: each octet as it was stored."""

import asyncio
import ssl
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mailserver.imap.session import CHUNK
from mailserver.model import Account
from tests.integration.conftest import Tls

MEGABYTE = 1024 * 1024
# small ones that go out together, some that are cut, and sizes around what is written at once
SIZES = (*range(1, 60), 5_000, 70_000, CHUNK - 100, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 10, 900)


def _message(number: int, size: int) -> bytes:
    head = b"Subject: message %d\r\n\r\n" % number
    return head + bytes((number + at * 7) % 251 for at in range(max(0, size - len(head))))


MESSAGES = [_message(number, size) for number, size in enumerate(SIZES)]
EXPECTED = b"".join(
    b"* %d FETCH (UID %d BODY[] {%d}\r\n%b)\r\n"
    % (number, number, len(message), message.replace(b"\0", b"\x80"))
    for number, message in enumerate(MESSAGES, 1)
)


async def _said(read: Callable[[int], Awaitable[bytes]], size: int) -> bytes:
    """Read so many octets, in small pieces at first."""
    found = bytearray()
    async with asyncio.timeout(60):
        while len(found) < size:
            octets = await read(min(size - len(found), 4096 if len(found) < MEGABYTE else MEGABYTE))
            assert octets, len(found)
            found += octets
    return bytes(found)


@pytest.mark.parametrize("wire", ["plain", "tls", "compressed"])
async def test_messages_of_every_size(
    servers: Any, deliver: Any, alice: Account, tls: Tls, wire: str
) -> None:
    for message in MESSAGES:
        await deliver(message)
    port = await servers.start(implicit_tls=wire == "tls")
    context: ssl.SSLContext | None = tls.client if wire == "tls" else None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost" if context else None
    )
    writer.write(b'a LOGIN alice@example.test "correct horse"\r\nb SELECT INBOX\r\n')
    await reader.readuntil(b"\r\nb OK")
    await reader.readline()
    inflate = zlib.decompressobj(-15)
    if wire == "compressed":
        writer.write(b"c COMPRESS DEFLATE\r\n")
        await reader.readline()
        deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
        asked = deflate.compress(b"f FETCH 1:* (UID BODY.PEEK[])\r\n")
        writer.write(asked + deflate.flush(zlib.Z_SYNC_FLUSH))

        async def read(size: int) -> bytes:
            found = b""
            while not found:
                octets = inflate.unconsumed_tail or await reader.read(size)
                found = inflate.decompress(octets, size)
            return found
    else:
        writer.write(b"f FETCH 1:* (UID BODY.PEEK[])\r\n")

        async def read(size: int) -> bytes:
            return await reader.read(size)

    try:
        assert await _said(read, len(EXPECTED)) == EXPECTED
    finally:
        writer.close()
