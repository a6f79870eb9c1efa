"""Port 25 from the greeting to the stored message."""

import re
from collections.abc import Awaitable, Callable

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.smtp.conftest import Client, Servers, inbox

Connect = Callable[[int], Awaitable[Client]]


async def begin(client: Client, *recipients: str, parameters: str = "", data: bool = True) -> None:
    """Say everything up to the 354, or to where chunks follow."""
    assert (await client.say("EHLO client.example.org")).startswith("250-mail.example.test")
    assert (await client.say(f"MAIL FROM:<carol@example.org>{parameters}")).startswith("250")
    for recipient in recipients or ("alice@example.test",):
        assert (await client.say(f"RCPT TO:<{recipient}>")).startswith("250 2.1.5")
    if data:
        assert (await client.say("DATA")).startswith("354 ")


async def test_a_pipelined_message_is_stored_with_trace_fields(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    assert "PIPELINING" in await client.say("EHLO client.example.org")
    await client.send(
        b"MAIL FROM:<Carol@example.org> BODY=8BITMIME SIZE=100\r\n"
        b"RCPT TO:<alice+list@example.test>\r\nDATA\r\n"
    )
    assert [(await client.reply())[:9] for _ in range(3)] == ["250 2.1.0", "250 2.1.5", "354 End d"]
    await client.send(b"Subject: Hi\r\n\r\n..dotted\r\n.\r\nQUIT\r\n")
    assert (await client.reply()).startswith("250 2.0.0 OK e")
    assert (await client.reply()).startswith("221 ")
    assert await client.closed()
    (raw,) = await inbox(mail, alice)
    assert re.fullmatch(
        rb"Return-Path: <Carol@example.org>\r\n"
        rb"Received: from client.example.org \(\[127\.0\.0\.1\]\)\r\n"
        rb"\tby mail.example.test with ESMTP id [0-9a-f]{16}\r\n"
        rb"\tfor <alice\+list@example.test>;\r\n\t\w{3}, [ \w:]+ \+0000\r\n"
        rb"Subject: Hi\r\n\r\n\.dotted\r\n",
        raw,
    )


async def test_one_message_for_two_users_names_neither(
    mail: Mail, alice: Account, bob: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    await begin(client, "alice@example.test", "bob@example.test", "alice+x@example.test")
    await client.send(b"Subject: both\r\n\r\n\r\n.\r\n")
    assert (await client.reply()).startswith("250 2.0.0")
    for account in (alice, bob):
        (raw,) = await inbox(mail, account)
        assert b"for <" not in raw
        assert raw.endswith(b"Subject: both\r\n\r\n\r\n")


async def test_a_message_of_one_line_without_end_is_taken(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    await begin(client)
    await client.send(b"Subject: long\r\n\r\n" + b"x" * 3_000_000 + b"\r\n.\r\n")
    assert (await client.reply()).startswith("250 2.0.0")
    (raw,) = await inbox(mail, alice)
    assert raw.endswith(b"\r\n\r\n" + b"x" * 3_000_000 + b"\r\n")


async def test_a_client_that_goes_away_in_the_data_leaves_nothing(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    await begin(client)
    await client.send(b"Subject: half\r\n\r\nhalf a mess")
    client.writer.transport.abort()
    other = await connect(servers.running[0].port)
    await begin(other)
    await other.send(b"Subject: whole\r\n\r\n.\r\n")
    assert (await other.reply()).startswith("250")
    (raw,) = await inbox(mail, alice)
    assert b"Subject: whole" in raw


async def test_the_replies_of_a_half_closed_connection_arrive(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    await client.send(
        b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
        b"A: b\r\n\r\n.\r\nQUIT\r\n"
    )
    client.writer.write_eof()
    replies = [await client.reply() for _ in range(6)]
    assert [reply[:3] for reply in replies] == ["250", "250", "250", "354", "250", "221"]
    (raw,) = await inbox(mail, alice)
    assert raw.startswith(b"Return-Path: <>\r\n")


async def test_a_full_mailbox_is_refused_at_rcpt(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    await mail.database.execute("UPDATE account SET quota_limit = 1000 WHERE id = $1", alice.id)
    mail.directory.forget()
    client = await connect(await servers.start("mx"))
    await client.say("EHLO c.example.org")
    await client.say("MAIL FROM:<carol@example.org> SIZE=2000")
    assert (await client.say("RCPT TO:<alice@example.test>")).startswith("552 5.2.2")
    await client.say("RSET")
    await begin(client)
    await client.send(b"Subject: fills\r\n\r\n" + b"x" * 1200 + b"\r\n.\r\n")
    assert (await client.reply()).startswith("250")
    mail.directory.forget()
    await client.say("MAIL FROM:<carol@example.org>")
    assert (await client.say("RCPT TO:<alice@example.test>")).startswith("452 4.2.2")
