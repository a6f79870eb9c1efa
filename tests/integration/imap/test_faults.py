"""PostgreSQL stops and comes back under open connections."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest_asyncio

from mailserver.model import Account
from mailserver.runtime.embedded.postgres import Postgres
from mailserver.storage import migrate


@pytest_asyncio.fixture
async def postgres(tmp_path: Path) -> AsyncIterator[Postgres]:
    """A server of the test's own, to be stopped."""
    server = Postgres(tmp_path / "postgres")
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def dsn(postgres: Postgres) -> str:
    connection = await asyncpg.connect(postgres.dsn())
    await connection.execute("CREATE DATABASE test")
    await connection.close()
    await asyncio.to_thread(migrate.upgrade, postgres.dsn("test"))
    return postgres.dsn("test")


async def test_postgresql_stops_and_comes_back(
    servers: Any, connect: Any, deliver: Any, alice: Account, bob: Account, postgres: Postgres
) -> None:
    await deliver(b"Subject: before\r\n\r\nbefore\r\n")
    port = await servers.start()
    client, idle, stranger = await connect(port), await connect(port), await connect(port)
    for one in (client, idle):
        await one.log_in()
        await one.ask(b"SELECT INBOX")
    await idle.send(b"a IDLE\r\n")
    assert await idle.line() == b"+ idling\r\n"

    await postgres.stop()
    for command in (b"FETCH 1 BODY[]", b"STATUS INBOX (MESSAGES)", b"STORE 1 +FLAGS (\\Seen)"):
        said = await client.ask(command)
        assert b" NO [UNAVAILABLE] " in said[-1]
    # what is known needs no database, and news can wait
    assert (await client.ask(b"FETCH 1 FLAGS"))[0].startswith(b"* 1 FETCH (FLAGS (")
    assert (await client.ask(b"NOOP"))[-1].endswith(b" OK NOOP completed\r\n")
    # Bob, because Alice's credentials were read a moment ago and are known for a second
    said = await stranger.ask(b'LOGIN bob@example.test "correct horse"')
    assert b" NO [UNAVAILABLE] " in said[-1]

    await postgres.start()
    await deliver(b"Subject: after\r\n\r\nafter\r\n")
    assert await idle.line() == b"* 2 EXISTS\r\n"
    assert b"before\r\n" in await client.ask(b"FETCH 1 BODY.PEEK[TEXT]")
    await stranger.log_in()


async def test_postgresql_stops_while_messages_are_read(
    servers: Any, connect: Any, deliver: Any, alice: Account, postgres: Postgres
) -> None:
    body = b"x" * 998 + b"\r\n"
    for number in range(30):
        await deliver(b"Subject: %d\r\n\r\n" % number + body * 1000)
    port = await servers.start()
    client, other = await connect(port, limit=64 * 1024), await connect(port)
    for one in (client, other):
        await one.log_in()
        await one.ask(b"SELECT INBOX")
    await client.send(b"a FETCH 1:* BODY.PEEK[]\r\n")
    assert (await client.line()).startswith(b"* 1 FETCH (BODY[] {")
    # the rest waits for the client, which reads on when the database is gone
    await postgres.stop()
    seen, line = 1, b""
    while not line.startswith(b"a "):
        line = await client.line()
        assert line, "closed"
        if line.startswith(b"* ") and b" FETCH (BODY[] {" in line:
            seen += 1
            size = int(line[line.index(b"{") + 1 : -3])
            assert len(await client.reader.readexactly(size)) == size
            assert await client.line() == b")\r\n"
    assert line.startswith(b"a NO [UNAVAILABLE] ")
    assert seen < 30
    # a message whose end arrives in between is refused, and is not kept
    await client.send(b"b APPEND INBOX {40}\r\n")
    assert await client.line() == b"+ OK\r\n"
    await client.send(b"Subject: late\r\n\r\n" + b"x" * 23 + b"\r\n")
    assert (await client.line()).startswith(b"b NO [UNAVAILABLE] ")

    await postgres.start()
    await client.send(b"c APPEND INBOX {40+}\r\nSubject: late\r\n\r\n" + b"x" * 23 + b"\r\n")
    assert b" OK [APPENDUID " in (await client.until(b"c"))[-1]
    assert (await client.ask(b"STATUS INBOX (MESSAGES)"))[-2].endswith(b"(MESSAGES 31)\r\n")
    assert (await other.ask(b"FETCH 1:* RFC822.SIZE"))[-1].endswith(b"OK FETCH completed\r\n")
