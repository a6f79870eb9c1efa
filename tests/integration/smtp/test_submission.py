"""Ports 587 and 465: TLS, AUTH, and what is done to a user's message."""

import asyncio
import base64
import re
import smtplib
import subprocess
import threading
from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from typing import Any

import pytest

from mailserver.mail import closing
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.smtp.conftest import Client, Servers, inbox

Connect = Callable[[int], Awaitable[Client]]
PASSWORD = "correct horse"


def letter(sender: str = "alice@example.test", to: str = "bob@example.test") -> EmailMessage:
    message = EmailMessage()
    message["From"] = f"Somebody <{sender}>"
    message["To"] = to
    message["Bcc"] = "secret@example.org"
    message["Subject"] = "Hello"
    message.set_content("Hello\n.\nBob\n")
    return message


async def in_thread(function: Callable[[], Any]) -> Any:
    """Run a blocking client beside the server."""
    return await asyncio.to_thread(function)


@pytest.mark.parametrize("kind", ["submission", "submissions"])
async def test_smtplib_sends_to_a_user_here(
    mail: Mail, alice: Account, bob: Account, servers: Servers, kind: str
) -> None:
    port = await servers.start(kind)

    def send() -> None:
        if kind == "submissions":
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                "localhost", port, context=servers.tls.client, timeout=30
            )
        else:
            client = smtplib.SMTP("localhost", port, timeout=30)
            client.ehlo()
            assert not client.has_extn("auth")
            client.starttls(context=servers.tls.client)
        with client:
            client.ehlo()
            assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
            assert not client.has_extn("starttls")
            client.login("alice@example.test", PASSWORD)
            client.send_message(letter(), to_addrs=["bob@example.test"])

    await in_thread(send)
    (raw,) = await inbox(mail, bob)
    text = raw.decode()
    assert re.search(r"with ESMTPSA \(TLSv1\.3 \w+\) id ", text)
    assert re.search(r"^Message-ID: <[0-9a-f]{32}@mail\.example\.test>\r$", text, re.MULTILINE)
    assert re.search(r"^Date: ", text, re.MULTILINE)
    assert "Bcc" not in text
    assert "secret@" not in text
    assert text.endswith("Hello\r\n.\r\nBob\r\n")


async def test_one_commit_delivers_here_and_queues_the_rest(
    mail: Mail, alice: Account, bob: Account, servers: Servers
) -> None:
    port = await servers.start("submissions")

    def send() -> str:
        with smtplib.SMTP_SSL("localhost", port, context=servers.tls.client, timeout=30) as client:
            client.login("alice@example.test", PASSWORD)
            assert client.mail("alice@example.test")[0] == 250
            for recipient in ("bob@example.test", "carol@example.org", "dave@example.org"):
                assert client.rcpt(recipient)[0] == 250
            code, text = client.data(letter().as_bytes())
            assert code == 250
            return text.decode()

    assert re.search(r"OK q\w{13}$", await in_thread(send))
    assert len(await inbox(mail, bob)) == 1
    rows = await mail.database.fetch("SELECT recipient FROM queue_recipient ORDER BY recipient")
    assert [row["recipient"] for row in rows] == ["carol@example.org", "dave@example.org"]


async def test_the_sender_must_be_ones_own(
    mail: Mail, alice: Account, bob: Account, servers: Servers
) -> None:
    port = await servers.start("submissions")

    def send() -> list[tuple[int, bytes]]:
        replies = []
        with smtplib.SMTP_SSL("localhost", port, context=servers.tls.client, timeout=30) as client:
            client.ehlo()
            replies.append(client.mail("alice@example.test"))
            client.login("alice@example.test", PASSWORD)
            replies.append(client.mail("bob@example.test"))
            for forged in (letter("bob@example.test"), EmailMessage()):
                forged["Subject2"] = "x"
                client.mail("alice@example.test")
                client.rcpt("bob@example.test")
                replies.append(client.data(forged.as_bytes()))
            client.mail("alice@example.test")
            replies.append(client.rcpt("nobody@example.test"))
        return replies

    replies = await in_thread(send)
    assert [(code, text[:5]) for code, text in replies] == [
        (530, b"5.7.0"),
        (550, b"5.7.1"),
        (550, b"5.7.1"),
        (550, b"5.6.0"),
        (550, b"5.1.1"),
    ]
    assert await inbox(mail, bob) == []


@pytest.mark.parametrize("sender", ["alice@example.test", ""])
async def test_who_was_disabled_since_the_login_sends_nothing(
    mail: Mail, alice: Account, bob: Account, servers: Servers, sender: str
) -> None:
    port = await servers.start("submissions")
    logged_in, disabled = threading.Event(), threading.Event()

    def send() -> tuple[int, bytes]:
        with smtplib.SMTP_SSL("localhost", port, context=servers.tls.client, timeout=30) as client:
            client.login("alice@example.test", PASSWORD)
            assert client.mail(sender)[0] == 250
            client.rset()
            logged_in.set()
            assert disabled.wait(30)
            code, text = client.mail(sender)
            with pytest.raises(smtplib.SMTPServerDisconnected):
                client.noop()
            return code, text

    sending = asyncio.create_task(in_thread(send))
    assert await asyncio.to_thread(logged_in.wait, 30)
    await closing.disable(mail, alice.login, refuse_mail=False)
    disabled.set()
    assert await sending == (421, b"4.7.0 The account is disabled, closing connection")


async def test_who_is_disabled_while_it_sends_is_refused(
    mail: Mail, alice: Account, bob: Account, servers: Servers
) -> None:
    port = await servers.start("submissions")
    began, disabled = threading.Event(), threading.Event()

    def send() -> tuple[int, bytes]:
        with smtplib.SMTP_SSL("localhost", port, context=servers.tls.client, timeout=30) as client:
            client.login("alice@example.test", PASSWORD)
            assert client.mail("alice@example.test")[0] == 250
            assert client.rcpt("bob@example.test")[0] == 250
            began.set()
            assert disabled.wait(30)
            return client.data(letter().as_bytes())

    sending = asyncio.create_task(in_thread(send))
    assert await asyncio.to_thread(began.wait, 30)
    await closing.disable(mail, alice.login, refuse_mail=False)
    disabled.set()
    assert (await sending)[0] == 550
    assert await inbox(mail, bob) == []


async def test_mail_for_a_disabled_account_is_refused_if_that_is_wanted(
    mail: Mail, alice: Account, bob: Account, servers: Servers, connect: Connect
) -> None:
    await closing.disable(mail, alice.login, refuse_mail=True)
    await closing.disable(mail, bob.login, refuse_mail=False)
    client = await connect(await servers.start("mx"))
    await client.say("EHLO c.example.org")
    await client.say("MAIL FROM:<carol@example.org>")
    refused = await client.say("RCPT TO:<alice@example.test>")
    assert refused == "550 5.2.1 Mailbox is disabled"
    assert (await client.say("RCPT TO:<bob@example.test>")).startswith("250")


async def test_wrong_passwords_and_auth_in_the_clear_are_refused(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    port = await servers.start("submission")
    plain = base64.b64encode(b"\0alice@example.test\0" + PASSWORD.encode()).decode()
    client = await connect(port)
    assert "AUTH" not in await client.say("EHLO c.example.org")
    assert (await client.say(f"AUTH PLAIN {plain}")).startswith("538 5.7.11")

    def attempt() -> list[int]:
        codes = []
        with smtplib.SMTP("localhost", port, timeout=30) as client:
            client.starttls(context=servers.tls.client)
            client.ehlo()
            wrong = base64.b64encode(b"\0alice@example.test\0wrong").decode()
            other = base64.b64encode(b"bob\0alice@example.test\0" + PASSWORD.encode()).decode()
            for command in (f"PLAIN {wrong}", "CRAM-MD5", "PLAIN !!!", "", f"PLAIN {other}"):
                codes.append(client.docmd("AUTH", command)[0])
            codes.append(client.docmd("AUTH", "login")[0])
            codes.append(client.docmd("*")[0])
            codes.append(client.docmd("AUTH", f"plain {plain}")[0])
            codes.append(client.docmd("AUTH", f"PLAIN {plain}")[0])
        return codes

    assert await in_thread(attempt) == [535, 504, 501, 501, 535, 334, 501, 235, 503]


async def test_commands_sent_with_starttls_are_forgotten(
    mail: Mail, alice: Account, servers: Servers, connect: Connect
) -> None:
    client = await connect(await servers.start("mx"))
    await client.say("EHLO before.example.org")
    await client.send(b"STARTTLS\r\nMAIL FROM:<injected@example.org>\r\n")
    assert (await client.reply()).startswith("220 2.0.0")
    await client.writer.start_tls(servers.tls.client, server_hostname="localhost")
    # no reply to the injected command, and the EHLO before is forgotten
    assert (await client.say("MAIL FROM:<carol@example.org>")).startswith("503 5.5.1")
    assert "STARTTLS" not in await client.say("EHLO after.example.org")
    assert (await client.say("MAIL FROM:<carol@example.org>")).startswith("250")


async def test_a_failed_handshake_costs_one_connection(
    mail: Mail, servers: Servers, connect: Connect
) -> None:
    port = await servers.start("mx")
    client = await connect(port)
    await client.say("EHLO c.example.org")
    assert (await client.say("STARTTLS")).startswith("220")
    await client.send(b"this is no handshake\r\n" * 10)
    while not await client.closed():
        pass  # a TLS alert comes first
    gone = await connect(port)
    await gone.say("EHLO c.example.org")
    await gone.say("STARTTLS")
    gone.writer.transport.abort()
    other = await connect(port)
    assert (await other.say("NOOP")).startswith("250")


async def test_bare_line_feeds_of_a_user_are_repaired(
    mail: Mail, alice: Account, bob: Account, servers: Servers
) -> None:
    port = await servers.start("submissions")

    def send() -> None:
        with smtplib.SMTP_SSL("localhost", port, context=servers.tls.client, timeout=30) as client:
            client.login("alice@example.test", PASSWORD)
            client.mail("alice@example.test")
            client.rcpt("bob@example.test")
            client.putcmd("DATA")
            assert client.getreply()[0] == 354
            client.send(b"From: alice@example.test\nSubject: x\n\na\nb\rc\r\n.\r\n")
            assert client.getreply()[0] == 250

    await in_thread(send)
    (raw,) = await inbox(mail, bob)
    assert raw.endswith(b"From: alice@example.test\r\nSubject: x\r\n\r\na\r\nb\r\nc\r\n")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mx", ["--from", "carol@example.org"]),
        ("submission", ["--tls", "--auth", "LOGIN"]),
        ("submissions", ["--tls-on-connect", "--auth", "PLAIN"]),
    ],
)
async def test_swaks(
    mail: Mail, alice: Account, bob: Account, servers: Servers, kind: str, options: list[str]
) -> None:
    port = await servers.start(kind)
    login = ["--from", "alice@example.test", "-au", "alice@example.test", "-ap", PASSWORD]
    command = ["swaks", "--server", f"127.0.0.1:{port}", "--to", "bob@example.test", *options]
    if kind != "mx":
        command += login
    done = await in_thread(lambda: subprocess.run(command, capture_output=True, timeout=60))
    assert done.returncode == 0, done.stdout.decode()
    (raw,) = await inbox(mail, bob)
    assert b"This is a test mailing" in raw
