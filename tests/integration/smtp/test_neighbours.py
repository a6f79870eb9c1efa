"""Servers and programs beside this one: LMTP, relaying, and nobody else."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable

import pytest

from mailserver.config import Config
from mailserver.mail import accounts
from mailserver.mail.context import Mail
from mailserver.model import Account
from mailserver.networks import Networks
from tests.integration.smtp.conftest import Client, Servers, inbox

Connect = Callable[[int], Awaitable[Client]]
RELAY = {
    "relay_networks": "127.0.0.1",
    "relay_domains": "example.test apps.example",
    "relay_account": "alice@example.test",
}


@pytest.fixture
def config(request: pytest.FixtureRequest) -> Config:
    smtp = {**RELAY, **getattr(request, "param", {})}
    return Config.model_validate({"server": {"hostname": "mail.example.test"}, "smtp": smtp})


async def swaks(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["swaks", "--server", f"127.0.0.1:{port}", *options]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)


async def connected(port: int, greeting: str) -> Client:
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    assert (await client.reply()) == greeting
    return client


async def test_each_recipient_of_lmtp_succeeds_or_fails_alone(
    mail: Mail, alice: Account, bob: Account, servers: Servers
) -> None:
    port = await servers.start("lmtp")
    await accounts.add_alias(mail, "both@example.test", "alice@example.test")
    await accounts.add_alias(mail, "both@example.test", "bob@example.test")
    client = await connected(port, "220 mail.example.test LMTP")
    await client.say("LHLO front.example.org")
    await client.say("MAIL FROM:<carol@example.org>")
    for recipient in ("bob", "alice", "both", "alice+again"):
        assert (await client.say(f"RCPT TO:<{recipient}@example.test>")).startswith("250")
    await client.say("DATA")
    # after RCPT, so it is told at the end
    await mail.database.execute("UPDATE account SET quota_limit = 100 WHERE id = $1", bob.id)
    await client.send(b"Subject: each\r\n\r\n" + b"long enough\r\n" * 20 + b".\r\n")
    replies = [await client.reply() for _ in range(4)]
    assert [reply[:3] for reply in replies] == ["452", "250", "452", "250"]
    assert len(await inbox(mail, alice)) == 1  # once, however many addresses lead there
    assert await inbox(mail, bob) == []
    client.close()


async def test_swaks_delivers_by_lmtp(mail: Mail, alice: Account, servers: Servers) -> None:
    port = await servers.start("lmtp")
    done = await swaks(
        port, "--protocol", "LMTP", "--from", "carol@example.org", "--to", alice.login
    )
    assert done.returncode == 0, done.stdout
    (message,) = await inbox(mail, alice)
    assert b" with LMTP id " in message


@pytest.mark.parametrize("kind", ["lmtp", "relay"])
async def test_nobody_else_may_use_them(servers: Servers, kind: str) -> None:
    port = await servers.start(kind, proxies=Networks("127.0.0.1"))
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    await client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 4444 25\r\n")
    assert (await client.reply()).startswith("554 5.7.1")
    assert await client.closed()
    client.close()


async def queued(mail: Mail) -> list[tuple[str, str]]:
    rows = await mail.database.fetch(
        """
        SELECT m.sender, r.recipient
        FROM queue_message m
        JOIN queue_recipient r ON r.message_id = m.id
        ORDER BY r.recipient
        """
    )
    return [(row["sender"], row["recipient"]) for row in rows]


async def test_programs_send_without_a_login(
    mail: Mail, alice: Account, bob: Account, servers: Servers
) -> None:
    port = await servers.start("relay")
    for sender in ("noreply@apps.example", "bob@example.test", "<>"):
        done = await swaks(
            port, "--from", sender, "--to", "bob@example.test,carol@elsewhere.example",
            "--header", "From: App <noreply@apps.example>",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
    assert [recipient for _, recipient in await queued(mail)] == ["carol@elsewhere.example"] * 3
    rows = await mail.database.fetch("SELECT account_id FROM queue_message ORDER BY id")
    assert [row["account_id"] for row in rows] == [alice.id, bob.id, alice.id]
    assert len(await inbox(mail, bob)) == 3


@pytest.mark.parametrize("config", [{"relay_rate": 3}], indirect=True)
async def test_programs_send_as_their_domains_and_not_too_much(
    alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("relay"))
    assert "AUTH" not in await client.say("EHLO app.example")
    assert (await client.say("MAIL FROM:<ceo@elsewhere.example>")).startswith("550 5.7.1")
    await client.say("MAIL FROM:<noreply@apps.example>")
    await client.say("RCPT TO:<carol@elsewhere.example>")
    await client.say("DATA")
    forged = "From: CEO <ceo@elsewhere.example>\r\nSubject: x\r\n\r\n."
    assert (await client.say(forged)).startswith("550 5.7.1")
    for expected in ("250", "250", "451 4.7.1"):
        assert (await client.say("MAIL FROM:<noreply@apps.example>")).startswith(expected)
        await client.say("RSET")


# every form in which servers were led to pass mail on
FORMS = [
    "victim@elsewhere.example",
    "victim%elsewhere.example@example.test",
    "victim%elsewhere.example",
    "elsewhere.example!victim",
    "elsewhere.example!victim@example.test",
    "example.test!elsewhere.example!victim",
    "@example.test:victim@elsewhere.example",
    "@example.test,@mail.example.test:victim@elsewhere.example",
    '"victim@elsewhere.example"',
    '"victim@elsewhere.example"@example.test',
    '"victim%elsewhere.example"@example.test',
    "victim@elsewhere.example@example.test",
    "victim@[127.0.0.1]",
    "victim@elsewhere.example@[127.0.0.1]",
    "victim%elsewhere.example@[127.0.0.1]",
    "victim@localhost",
    "victim@mail.example.test",
    "victim@elsewhere.example.",
    "victim@example.test%elsewhere.example",
    "nobody@example.test",
]


@pytest.mark.parametrize("recipient", FORMS)
@pytest.mark.parametrize("sender", ["mallory@other.example", "alice@example.test", ""])
async def test_this_is_no_open_relay(
    mail: Mail, alice: Account, servers: Servers, connect: Connect, recipient: str, sender: str
) -> None:
    client = await connect(await servers.start("mx"))
    await client.say("EHLO spammer.example")
    assert (await client.say(f"MAIL FROM:<{sender}>")).startswith("250")
    reply = await client.say(f"RCPT TO:<{recipient}>")
    assert reply[:4] in ("550 ", "501 "), reply
    assert (await client.say("DATA")).startswith("554 5.5.1")
    assert await queued(mail) == []


@pytest.mark.parametrize("recipient", FORMS[:6])
async def test_swaks_finds_no_open_relay(
    mail: Mail, alice: Account, servers: Servers, recipient: str
) -> None:
    port = await servers.start("mx")
    done = await swaks(port, "--from", "mallory@other.example", "--to", recipient)
    assert done.returncode == 24, done.stdout  # no recipient was accepted
    assert await queued(mail) == []
