"""Messages being appended share a bound on memory."""

import asyncio
from typing import Any

import pytest

from mailserver.imap import session
from mailserver.mail.memory import Memory
from mailserver.model import Account

HALF = b"x" * 600_000


async def test_a_message_without_memory_is_refused_and_the_session_goes_on(
    servers: Any, connect: Any, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MEMORY_TIMEOUT", 0.05)
    port = await servers.start()
    memory = servers.running[0].memory = Memory(1024 * 1024)
    slow, other = await connect(port), await connect(port)
    await slow.log_in()
    await other.log_in()
    await slow.send(b"s APPEND INBOX {1200000}\r\n")
    assert await slow.line() == b"+ OK\r\n"
    await slow.send(HALF)
    async with asyncio.timeout(10):
        while memory.free > 512 * 1024:
            await asyncio.sleep(0)
    for number in range(2):
        # both kinds of literal
        await other.send(b"o%d APPEND INBOX {1200000+}\r\n" % number + HALF * 2 + b"\r\n")
        refused = (await other.until(b"o%d" % number))[-1]
        assert refused == b"o%d NO [LIMIT] No memory now, try again later\r\n" % number
    await other.send(b"p APPEND INBOX {1200000}\r\n")
    assert await other.line() == b"+ OK\r\n"
    await other.send(HALF * 2 + b"\r\n")
    assert (await other.until(b"p"))[-1].startswith(b"p NO [LIMIT]")
    # small mail never waits
    await other.send(b"q APPEND INBOX {15+}\r\nSubject: a\r\n\r\nb\r\n")
    assert (await other.until(b"q"))[-1].startswith(b"q OK [APPENDUID")
    assert memory.free < 1024 * 1024
    monkeypatch.setattr(session, "MEMORY_TIMEOUT", 30)
    await slow.send(b"x" * 100_000)
    await slow.writer.drain()
    slow.writer.close()
    await other.send(b"r APPEND INBOX {600000}\r\n")
    assert await other.line() == b"+ OK\r\n"
    await other.send(HALF + b"\r\n")
    assert (await other.until(b"r"))[-1].startswith(b"r OK [APPENDUID")
    await other.send(b"t NOOP\r\n")
    await other.until(b"t")
    assert memory.free == 1024 * 1024
