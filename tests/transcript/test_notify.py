"""NOTIFY beside what a transcript can say: slow clients, and a past that is forgotten."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest_asyncio

from mailserver.auth.credentials import Authenticator
from mailserver.imap.commands.dispatch import converse
from mailserver.imap.session import Session
from mailserver.mail import delivery
from mailserver.mail.context import Mail
from mailserver.model import Account, Principal
from mailserver.storage import changes
from tests.transcript.test_imap import PLAIN, Client, Wire


class SlowWire(Wire):
    """A client that reads only while its gate is open."""

    def __init__(self) -> None:
        super().__init__(secure=True)
        self.gate = asyncio.Event()
        self.gate.set()

    async def drain(self) -> None:
        await self.gate.wait()


@pytest_asyncio.fixture
async def watcher(mail: Mail, alice: Account) -> AsyncIterator[tuple[Client, SlowWire]]:
    """Alice, who is logged in and hears of new messages in all mailboxes."""
    wire = SlowWire()
    session = Session(
        mail=mail, authenticator=Authenticator(mail.database), channel=wire, session_id="slow"
    )
    session.log_in(Principal(alice.id, alice.login))
    client = Client(wire, asyncio.create_task(converse(session)))
    assert (await client.line()).startswith("* OK ")
    wire.send(b"a NOTIFY SET (personal (MessageNew MessageExpunge))\r\n")
    assert await client.line() == "a OK NOTIFY completed"
    yield client, wire
    wire.gate.set()
    wire.send(None)
    await client.task


async def _deliver(mail: Mail, alice: Account) -> None:
    target = [delivery.Target(alice.id)]
    await delivery.accept(mail, PLAIN, target, received_at=mail.now())


async def test_a_slow_client_hears_once_what_happened_meanwhile(
    mail: Mail, alice: Account, watcher: tuple[Client, SlowWire]
) -> None:
    client, wire = watcher
    wire.gate.clear()
    await _deliver(mail, alice)
    assert (await client.line()).startswith("* STATUS INBOX (UIDVALIDITY 1 MESSAGES 1 ")
    for _ in range(3):
        await _deliver(mail, alice)
    wire.gate.set()
    assert (await client.line()).startswith("* STATUS INBOX (UIDVALIDITY 1 MESSAGES 4 ")


async def test_overflow_when_the_change_log_does_not_reach_back(
    mail: Mail, alice: Account, watcher: tuple[Client, SlowWire]
) -> None:
    client, wire = watcher
    wire.gate.clear()
    await _deliver(mail, alice)
    assert (await client.line()).startswith("* STATUS INBOX (UIDVALIDITY 1 MESSAGES 1 ")
    for _ in range(2):
        await _deliver(mail, alice)
    await changes.trim(mail.database, mail.now() + timedelta(seconds=1))
    wire.gate.set()
    assert await client.line() == "* OK [NOTIFICATIONOVERFLOW] Too much happened"
    # as after NOTIFY NONE (RFC 5465 §5.8)
    await _deliver(mail, alice)
    wire.send(b"b NOOP\r\n")
    assert await client.line() == "b OK NOOP completed"
