"""Shared mailboxes, their owner and their user on two processes."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from mailserver.config import Config
from mailserver.mail import deltas
from mailserver.mail.context import Mail
from mailserver.metrics import Metrics
from mailserver.model import Account
from mailserver.storage.database import Database
from mailserver.storage.notify import Notifier
from tests.conftest import Bucketed, make_mail
from tests.integration.conftest import Tls
from tests.integration.imap.conftest import Client, Connect, Servers

SHARED = b'"Other Users/alice@example.test/INBOX"'


@pytest_asyncio.fixture
async def elsewhere(
    mail: Mail, database: Database, bucket: Bucketed, config: Config, tls: Tls
) -> AsyncIterator[Servers]:
    """The listeners of another process, told of changes and telling of them like the first."""
    other = make_mail(database, bucket.blobs, config, node=2)
    notifiers = [
        Notifier(database, each.events, Metrics(name), name)
        for name, each in (("here", mail), ("there", other))
    ]
    deltas.share(mail, notifiers[0])
    deltas.share(other, notifiers[1])
    tasks = [asyncio.create_task(notifier.run()) for notifier in notifiers]
    for notifier in notifiers:
        await notifier.listening.wait()
    servers = Servers(other, tls)
    yield servers
    for server in servers.running:
        await server.stop(5)
    await other.committer.drain()
    other.passwords.close()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def logged_in(connect: Connect, port: int, login: bytes) -> Client:
    client = await connect(port)
    assert b" OK " in (await client.ask(b"LOGIN " + login + b' "correct horse"'))[-1]
    return client


async def test_what_the_owner_does_reaches_the_other_process(
    servers: Servers, elsewhere: Servers, connect: Connect, alice: Account, bob: Account
) -> None:
    owner = await logged_in(connect, await servers.start(), b"alice@example.test")
    user = await logged_in(connect, await elsewhere.start(), b"bob@example.test")
    await owner.ask(b"SETACL INBOX bob@example.test lrswi")
    said = await user.ask(b"SELECT " + SHARED)
    assert b"[READ-WRITE]" in said[-1]

    await user.send(b"i IDLE\r\n")
    assert await user.line() == b"+ idling\r\n"
    await owner.ask(b"APPEND INBOX {1+}\r\nx")
    assert await user.line() == b"* 1 EXISTS\r\n"
    assert await user.line() == b"* 1 RECENT\r\n"
    await owner.ask(b"SETACL INBOX bob@example.test lr")
    assert b"PERMANENTFLAGS ()" in await user.line()
    assert b"[READ-ONLY]" in await user.line()
    await owner.ask(b"DELETEACL INBOX bob@example.test")
    assert (await user.rest()).startswith(b"* BYE [NOPERM] ")

    assert b" OK " in (await owner.ask(b"NOOP"))[-1]


async def test_nothing_for_anyone_where_that_is_switched_off(
    servers: Servers, connect: Connect, mail: Mail, alice: Account
) -> None:
    imap = mail.config.imap.model_copy(update={"share_with_anyone": False})
    mail.config = mail.config.model_copy(update={"imap": imap})
    owner = await logged_in(connect, await servers.start(), b"alice@example.test")
    assert b"NO [NOPERM]" in (await owner.ask(b"SETACL INBOX anyone lr"))[-1]
    assert b" OK " in (await owner.ask(b"SETACL INBOX -anyone lr"))[-1]
    assert b" OK " in (await owner.ask(b"DELETEACL INBOX anyone"))[-1]


async def test_what_the_user_does_reaches_the_owner(
    servers: Servers, elsewhere: Servers, connect: Connect, alice: Account, bob: Account
) -> None:
    owner = await logged_in(connect, await servers.start(), b"alice@example.test")
    user = await logged_in(connect, await elsewhere.start(), b"bob@example.test")
    await owner.ask(b"SETACL INBOX bob@example.test lrswite")
    await owner.ask(b"SELECT INBOX")
    await owner.send(b"i IDLE\r\n")
    assert await owner.line() == b"+ idling\r\n"

    assert b"[APPENDUID" in (await user.ask(b"APPEND INBOX {1+}\r\nx"))[-1]
    await user.ask(b"SELECT INBOX")
    assert b" OK " in (await user.ask(b"MOVE 1 " + SHARED))[-1]
    assert await owner.line() == b"* 1 EXISTS\r\n"
    assert await owner.line() == b"* 1 RECENT\r\n"
    await user.ask(b"SELECT " + SHARED)
    await user.ask(b"STORE 1 +FLAGS (\\Deleted)")
    assert b"\\Deleted" in await owner.line()
    await user.ask(b"CLOSE")
    assert await owner.line() == b"* 1 EXPUNGE\r\n"
