"""What happens to others, or by administrators, while a client is in the middle of something."""

from typing import Any

import pytest

from mailserver.auth import credentials
from mailserver.imap.commands import auth, idle
from mailserver.mail import accounts, closing
from mailserver.mail.context import Mail
from mailserver.model import Account

MESSAGE = b"Subject: a\r\n\r\n" + b"x" * 186


async def disable(mail: Mail, account: Account) -> None:
    await mail.database.execute("UPDATE account SET enabled = false WHERE id = $1", account.id)


async def test_a_disabled_account_is_shut_out(
    servers: Any, connect: Any, mail: Mail, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = await servers.start()
    soon, later, waiting = await connect(port), await connect(port), await connect(port)
    await later.log_in()
    monkeypatch.setattr(auth, "RECHECK", 0)
    monkeypatch.setattr(idle, "KEEPALIVE", 0.05)
    await soon.log_in()
    await waiting.log_in()
    assert (await soon.ask(b"NOOP"))[-1].endswith(b"OK NOOP completed\r\n")
    await waiting.send(b"a IDLE\r\n")
    assert await waiting.line() == b"+ idling\r\n"
    assert await waiting.line() == b"* OK Still here\r\n"
    await disable(mail, alice)
    bye = b"* BYE [CONTACTADMIN] The account is disabled\r\n"
    await soon.send(b"a NOOP\r\n")
    assert await soon.rest() == bye
    assert (await waiting.rest()).endswith(bye)
    # looked at a moment ago
    assert (await later.ask(b"NOOP"))[-1].endswith(b"OK NOOP completed\r\n")


async def test_whoever_disables_an_account_ends_its_sessions_at_once(
    servers: Any,
    connect: Any,
    mail: Mail,
    alice: Account,
    bob: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(credentials, "FRESH_TIME", 0)
    port = await servers.start()
    silent, waiting, told, other = [await connect(port) for _ in range(4)]
    for client in (silent, waiting, told):
        await client.log_in()
    await other.ask(b'LOGIN bob@example.test "correct horse"')
    for client in (waiting, other):
        await client.ask(b"SELECT INBOX")
        await client.send(b"a IDLE\r\n")
        assert await client.line() == b"+ idling\r\n"
    await told.ask(b"NOTIFY SET (personal (MessageNew MessageExpunge))")
    await closing.disable(mail, alice.login, refuse_mail=False)
    bye = b"* BYE [CONTACTADMIN] The account is disabled\r\n"
    for client in (silent, waiting, told):
        assert await client.rest() == bye
    await other.send(b"DONE\r\n")
    assert (await other.until(b"a"))[-1] == b"a OK IDLE completed\r\n"
    again = await connect(port)
    said = await again.ask(b'LOGIN alice@example.test "correct horse"')
    assert said[-1].startswith(b"t1 NO [AUTHENTICATIONFAILED]")


async def test_a_changed_password_counts_for_the_next_login(
    servers: Any, connect: Any, mail: Mail, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "RECHECK", 0)
    port = await servers.start()
    client = await connect(port)
    await client.log_in()
    await accounts.set_password(mail, alice.login, "battery staple")
    assert (await client.ask(b"SELECT INBOX"))[-1].startswith(b"t2 OK")
    said = await (await connect(port)).ask(b'LOGIN alice@example.test "battery staple"')
    assert said[-1].startswith(b"t1 OK")


@pytest.mark.parametrize("command", [b"DELETE box", b"RENAME box other"])
async def test_a_mailbox_goes_under_those_who_have_it_open(
    servers: Any, connect: Any, alice: Account, command: bytes
) -> None:
    port = await servers.start()
    clients = [await connect(port) for _ in range(3)]
    admin, waiting, reader = clients
    for client in clients:
        await client.log_in()
    await admin.ask(b"CREATE box")
    await admin.ask(b"APPEND box {200+}\r\n" + MESSAGE)
    await waiting.ask(b"SELECT box")
    await reader.ask(b"EXAMINE box")
    await waiting.send(b"a IDLE\r\n")
    assert await waiting.line() == b"+ idling\r\n"
    assert (await admin.ask(command))[-1].startswith(b"t4 OK")
    if command.startswith(b"DELETE"):
        assert await waiting.line() == b"* 1 EXPUNGE\r\n"
    said = await admin.ask(b"APPEND box {200+}\r\n" + MESSAGE)
    assert said[-1] == b"t5 NO [TRYCREATE] There is no such mailbox\r\n"
    await waiting.send(b"DONE\r\n")
    assert (await waiting.until(b"a"))[-1] == b"a OK IDLE completed\r\n"
    # the session goes on, and so does its next mailbox
    for client in (waiting, reader):
        assert (await client.ask(b"NOOP"))[-1].endswith(b"OK NOOP completed\r\n")
        assert (await client.ask(b"CLOSE"))[-1].endswith(b"OK CLOSE completed\r\n")
        assert (await client.ask(b"SELECT INBOX"))[-1].endswith(b"SELECT completed\r\n")


async def test_another_account_is_full(
    servers: Any, connect: Any, mail: Mail, alice: Account, bob: Account
) -> None:
    port = await servers.start()
    client, owner = await connect(port), await connect(port)
    await client.log_in()
    await owner.ask(b'LOGIN bob@example.test "correct horse"')
    assert (await owner.ask(b"SETACL INBOX alice@example.test lrswitek"))[-1].startswith(b"t2 OK")
    await mail.database.execute("UPDATE account SET quota_limit = 100 WHERE id = $1", bob.id)
    await client.ask(b"APPEND INBOX {200+}\r\n" + MESSAGE)
    await client.ask(b"SELECT INBOX")
    there = b'"Other Users/bob@example.test/INBOX"'
    for command in (
        b"COPY 1 " + there,
        b"MOVE 1 " + there,
        b"APPEND " + there + b" {200+}\r\n" + MESSAGE,
        b"REPLACE 1 " + there + b" {200+}\r\n" + MESSAGE,
    ):
        assert (await client.ask(command))[-1].endswith(b"NO [OVERQUOTA] Over quota\r\n"), command
    assert (await client.ask(b"FETCH 1 RFC822.SIZE"))[0] == b"* 1 FETCH (RFC822.SIZE 200)\r\n"
    assert (await owner.ask(b"STATUS INBOX (MESSAGES)"))[0].endswith(b"(MESSAGES 0)\r\n")


class TestQuota:
    @pytest.fixture
    async def client(self, servers: Any, connect: Any, mail: Mail, alice: Account) -> Any:
        """A client in a mailbox with one message, in an account with room for two and a half."""
        client = await connect(await servers.start())
        await client.log_in()
        await client.ask(b"APPEND INBOX {200+}\r\n" + MESSAGE)
        await mail.database.execute("UPDATE account SET quota_limit = 500 WHERE id = $1", alice.id)
        await client.ask(b"SELECT INBOX")
        return client

    async def messages(self, client: Any, box: bytes = b"INBOX") -> int:
        (status, _) = await client.ask(b"STATUS " + box + b" (MESSAGES)")
        return int(status.rpartition(b"MESSAGES ")[2].rstrip(b")\r\n"))

    async def test_multiappend_stores_all_or_nothing(self, client: Any) -> None:
        one = b"{200+}\r\n" + MESSAGE
        said = await client.ask(b"APPEND INBOX " + one + b" " + one)
        assert said[-1].endswith(b"NO [OVERQUOTA] Over quota\r\n")
        assert await self.messages(client) == 1
        said = await client.ask(b"APPEND INBOX " + one)
        assert b" OK [APPENDUID " in said[-1]

    async def test_replace_keeps_what_it_cannot_replace(self, client: Any) -> None:
        long = b"{600+}\r\n" + MESSAGE + b"y" * 400
        said = await client.ask(b"REPLACE 1 INBOX " + long)
        assert said[-1].endswith(b"NO [OVERQUOTA] Over quota\r\n")
        assert await self.messages(client) == 1
        assert (await client.ask(b"FETCH 1 RFC822.SIZE"))[0] == b"* 1 FETCH (RFC822.SIZE 200)\r\n"

    async def test_catenate(self, client: Any) -> None:
        said = await client.ask(
            b'APPEND INBOX CATENATE (URL "/INBOX/;UID=1" TEXT {200+}\r\n' + MESSAGE + b")"
        )
        assert said[-1].endswith(b"NO [OVERQUOTA] Over quota\r\n")
        assert await self.messages(client) == 1

    async def test_what_needs_no_room_goes_on(self, client: Any) -> None:
        # the octets are there already, however many mailboxes show them
        for command in (
            b"COPY 1 Archive",
            b"COPY 1 INBOX",
            b"MOVE 1 Trash",
            b"STORE 1 +FLAGS (\\Deleted)",
            b"EXPUNGE",
            b"CREATE work",
        ):
            said = await client.ask(command)
            assert b" OK " in said[-1], said
        assert await self.messages(client, b"Archive") == 1
        assert await self.messages(client, b"Trash") == 1


async def test_what_could_not_be_told_after_a_command_is_told_before_the_next(
    servers: Any, connect: Any, mail: Mail, alice: Account
) -> None:
    await mail.database.execute(
        """
        CREATE FUNCTION out_of_order() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'not now' USING ERRCODE = '57P03';
        END $$
        """
    )
    await mail.database.execute(
        """
        CREATE TRIGGER out_of_order BEFORE UPDATE OF recent_uid ON mailbox
        FOR EACH ROW EXECUTE FUNCTION out_of_order()
        """
    )
    client = await connect(await servers.start())
    await client.log_in()
    await client.ask(b"SELECT INBOX")
    stored = await client.ask(b"APPEND INBOX {%d+}\r\n%b" % (len(MESSAGE), MESSAGE))
    assert b" OK [APPENDUID " in stored[-1]
    assert b"* 1 EXISTS\r\n" not in stored
    said = await client.ask(rb"UID STORE 1 +FLAGS.SILENT (\Deleted)")
    assert b" NO [UNAVAILABLE] " in said[-1]
    await mail.database.execute("DROP TRIGGER out_of_order ON mailbox")
    said = await client.ask(rb"UID STORE 1 +FLAGS.SILENT (\Deleted)")
    assert b"* 1 EXISTS\r\n" in said
    assert said[-1].endswith(b" OK UID STORE completed\r\n")
    assert b"* 1 EXPUNGE\r\n" in await client.ask(b"UID EXPUNGE 1")
