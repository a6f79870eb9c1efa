"""NOTIFY and IDLE beside what a transcript can say: slow clients, a lost past, time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from mailserver.auth.credentials import Authenticator
from mailserver.errors import Unavailable
from mailserver.imap.commands import dispatch, idle
from mailserver.imap.commands.dispatch import converse
from mailserver.imap.protocol.filters import Filter, Named
from mailserver.imap.session import Session
from mailserver.mail import changes as recent_changes
from mailserver.mail import delivery, listings, mailboxes, rights
from mailserver.mail.context import Mail
from mailserver.mail.listings import Listing
from mailserver.model import Account, AccountId, MailboxId, Modseq, Principal, Right, RightsChange
from mailserver.storage import changes
from tests.conftest import Bucketed, make_mail
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


async def test_what_nobody_can_decode_is_passed_over(
    mail: Mail, alice: Account, watcher: tuple[Client, SlowWire]
) -> None:
    client, wire = watcher
    wire.send(b"b SELECT INBOX\r\n")
    while not (await client.line()).startswith("b OK "):
        pass
    wire.send(b"c NOTIFY SET (selected (MessageNew (BINARY.PEEK[1]) MessageExpunge))\r\n")
    assert await client.line() == "c OK NOTIFY completed"
    wire.gate.clear()
    strange = b"Content-Transfer-Encoding: x-unheard-of\r\n\r\n???\r\n"
    target = [delivery.Target(alice.id)]
    for raw in (PLAIN, strange, PLAIN):
        await delivery.accept(mail, raw, target, received_at=mail.now())
    wire.gate.set()
    said = [await client.line()]
    while not said[-1].startswith("* 3 FETCH"):
        said.append(await client.line())
    shown = [line for line in said if " FETCH " in line]
    assert [line.split()[1] for line in shown] == ["1", "3"]
    assert all("BINARY[1] {19}" in line for line in shown)


async def test_what_many_filters_name_is_looked_for_when_something_happened_to_it(
    mail: Mail,
    alice: Account,
    watcher: tuple[Client, SlowWire],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, wire = watcher
    for number in range(5):
        wire.send(b"b CREATE box%d\r\n" % number)
        assert "OK" in await client.line()
    turn, examined = 0, list[tuple[int, str]]()
    matches = Filter.matches

    def note(self: Filter, place: Named, own: AccountId) -> bool:
        examined.append((turn, place.path))
        return matches(self, place, own)

    async def count_turns() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    counting = asyncio.create_task(count_turns())
    monkeypatch.setattr(Filter, "matches", note)
    wire.send(b"c NOTIFY SET (personal (MessageNew MessageExpunge MailboxName))\r\n")
    assert await client.line() == "c OK NOTIFY completed"
    assert len(examined) == len(dict(examined)) > 5  # others are served in between
    examined.clear()
    await _deliver(mail, alice)
    assert (await client.line()).startswith("* STATUS INBOX ")
    assert {path for _, path in examined} == {"INBOX"}
    examined.clear()
    await mailboxes.create(mail, alice.id, "new")
    assert (await client.line()).startswith("* LIST ")
    assert {path for _, path in examined} == {"new"}
    counting.cancel()


async def test_a_new_share_is_told_though_the_store_was_away_meanwhile(
    mail: Mail,
    alice: Account,
    bob: Account,
    watcher: tuple[Client, SlowWire],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, wire = watcher
    wire.send(b'b NOTIFY SET (subtree "Other Users" (MailboxName MessageNew MessageExpunge))\r\n')
    assert await client.line() == "b OK NOTIFY completed"
    state = recent_changes.state

    async def away(mail: Mail, account: AccountId) -> Modseq:
        monkeypatch.setattr(recent_changes, "state", state)
        raise Unavailable("database")

    monkeypatch.setattr(dispatch, "RETRY", 0.01)
    monkeypatch.setattr(recent_changes, "state", away)
    inbox = await mailboxes.by_path(mail, bob.id, "INBOX")
    whom = rights.Identifier(alice.id, False)
    seen = Right.LOOKUP | Right.READ
    await rights.modify(mail, bob.id, inbox.id, whom, RightsChange.REPLACE, seen)
    line = await client.line()
    assert line.startswith("* LIST ")
    assert line.endswith(' "Other Users/bob@example.test/INBOX"')
    assert len(mail.events._subscriptions[bob.id]) == 1


@pytest.mark.parametrize("times", [1, 2])
async def test_what_was_appended_can_be_removed_though_the_store_was_away_meanwhile(
    mail: Mail, alice: Account, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    wire = SlowWire()
    session = Session(
        mail=mail, authenticator=Authenticator(mail.database), channel=wire, session_id="behind"
    )
    session.log_in(Principal(alice.id, alice.login))
    client = Client(wire, asyncio.create_task(converse(session)))
    assert (await client.line()).startswith("* OK ")

    async def said(tag: str) -> list[str]:
        lines = [await client.line()]
        while not lines[-1].startswith(f"{tag} "):
            lines.append(await client.line())
        return lines

    wire.send(b"a SELECT INBOX\r\n")
    await said("a")
    left = times

    async def away(mail: Mail, account: AccountId, mailbox: MailboxId) -> range:
        nonlocal left
        left -= 1
        if not left:
            monkeypatch.undo()
        raise Unavailable("database")

    monkeypatch.setattr(mailboxes, "take_recent", away)
    wire.send(b"b APPEND INBOX {%d+}\r\n%b\r\n" % (len(PLAIN), PLAIN))
    assert (await said("b"))[-1].startswith("b OK [APPENDUID ")
    if times == 2:  # it still is away: then nothing is said to be done
        wire.send(b"c UID STORE 1 +FLAGS.SILENT (\\Deleted)\r\n")
        assert (await said("c"))[-1].startswith("c NO [UNAVAILABLE]")
    wire.send(b"d UID STORE 1 +FLAGS.SILENT (\\Deleted)\r\n")
    assert (await said("d"))[-1].startswith("d OK ")
    wire.send(b"e UID EXPUNGE 1\r\n")
    assert "* 1 EXPUNGE" in await said("e")
    wire.send(None)
    await client.task


async def test_what_comes_while_idle_begins_is_told_at_once(
    mail: Mail, alice: Account, bucket: Bucketed, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_mail(mail.database, bucket.blobs, mail.config, node=2)
    other.events.forward(mail.events.deliver)
    wire = SlowWire()
    session = Session(
        mail=mail, authenticator=Authenticator(mail.database), channel=wire, session_id="idle"
    )
    session.log_in(Principal(alice.id, alice.login))
    client = Client(wire, asyncio.create_task(converse(session)))
    assert (await client.line()).startswith("* OK ")
    wire.send(b"a SELECT INBOX\r\n")
    while not (await client.line()).startswith("a OK "):
        pass
    look = listings.look

    async def look_too_early(mail: Mail, listing: Listing) -> None:
        monkeypatch.undo()
        await look(mail, listing)
        await _deliver(other, alice)

    monkeypatch.setattr(listings, "look", look_too_early)
    wire.send(b"b IDLE\r\n")
    assert await client.line() == "+ idling"
    assert await client.line() == "* 1 EXISTS"
    assert await client.line() == "* 1 RECENT"
    wire.send(b"DONE\r\n")
    assert await client.line() == "b OK IDLE completed"
    wire.send(None)
    await client.task
    await other.committer.drain()
    other.passwords.close()


async def test_idle_gives_signs_of_life(
    watcher: tuple[Client, SlowWire], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, wire = watcher
    monkeypatch.setattr(idle, "KEEPALIVE", 0.02)
    wire.send(b"b IDLE\r\n")
    assert await client.line() == "+ idling"
    assert await client.line() == "* OK Still here"
    assert await client.line() == "* OK Still here"
    wire.send(b"DONE\r\n")
    while (line := await client.line()) == "* OK Still here":
        pass
    assert line == "b OK IDLE completed"
