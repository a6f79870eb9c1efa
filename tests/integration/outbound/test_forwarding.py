"""Aliases that lead to other servers: what leaves, what comes back, and what does not go on."""

import asyncio
import smtplib
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from mailserver.antispam.authentication.arc import check_arc
from mailserver.antispam.authentication.content import Content
from mailserver.antispam.checks import Checks
from mailserver.antispam.evidence import Finding, Inquiry, Symbol
from mailserver.antispam.gate import Gate
from mailserver.antispam.pipeline import Pipeline
from mailserver.auth.credentials import Authenticator
from mailserver.config import Listener, Secret
from mailserver.errors import ConfigurationError, NotFound
from mailserver.mail import accounts, delivery, dkim
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Onward, Target
from mailserver.mime.dkim import record
from mailserver.model import NOBODY, Account, QueueState
from mailserver.queue.enqueue import Outgoing, OutgoingRecipient
from mailserver.smtp.server import SmtpServer
from tests.conftest import PASSWORD
from tests.integration.outbound.conftest import Sending
from tests.integration.smtp.conftest import inbox
from tests.smtp_peer import Received
from tests.zone import Zone

LETTER = b"From: Dave <dave@sender.test>\r\nTo: sales@example.test\r\nSubject: Hi\r\n\r\nHi\r\n"


class Spam:
    """A check that finds a word."""

    name = "word"

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        score = 9.0 if b"viagra" in inquiry.raw else 0.0
        return Finding("word", "found", symbols=(Symbol("WORD", score),))


@pytest_asyncio.fixture
async def listeners(sending: Sending) -> AsyncIterator[dict[str, int]]:
    """Port 25 with a spam filter, and submission."""
    mail = sending.mail
    checks = Checks(judges=[Spam()])
    gate = Gate(Pipeline(mail.config.antispam, checks, mail.metrics, lambda: 1.0))
    running, ports = [], {}
    for kind in ("mx", "submission", "lmtp"):
        server = SmtpServer(
            mail=mail,
            authenticator=Authenticator(mail.database, passwords=mail.passwords),
            tls=sending.tls.server,
            kind=kind,
            gate=gate,
        )
        running.append(server)
        _, ports[kind] = await server.start(Listener(host="127.0.0.1", port=0))
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    sending.domain("sender.test", (10, "mx.sender.test", "127.0.0.2"))
    yield ports
    for server in running:
        await server.stop(5)


def send(port: int, sender: str, recipients: list[str], raw: bytes = LETTER) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail(sender, recipients, raw)


def path(line: str) -> str:
    """Return the path of a command as the peer got it."""
    return line.partition("<")[2].partition(">")[0]


def to(message: Received) -> list[str]:
    return [path(line) for line in message.recipients]


async def in_thread(*arguments: object) -> None:
    await asyncio.to_thread(send, *arguments)  # type: ignore[arg-type]


async def test_a_copy_leaves_with_the_one_that_is_delivered(
    sending: Sending, listeners: dict[str, int], mail: Mail, alice: Account
) -> None:
    peer = await sending.peer()
    keys = await dkim.make_all(mail, "example.test")
    await accounts.add_alias(mail, "sales@example.test", "alice@example.test")
    await accounts.add_forward(mail, "sales@example.test", "Carol@example.org")
    await sending.work()
    await in_thread(listeners["mx"], "dave@sender.test", ["sales@example.test"])
    await peer.wait_for(1)
    (copy,) = peer.received
    assert path(copy.sender).startswith("SRS0=")
    assert path(copy.sender).endswith("=sender.test=dave@example.test")
    assert to(copy) == ["Carol@example.org"]
    assert copy.content.startswith(b"ARC-Seal: a=rsa-sha256;")
    assert b"\r\nDelivered-To: sales@example.test\r\n" in copy.content
    assert b"Return-Path" not in copy.content
    assert b"DKIM-Signature" not in copy.content
    assert copy.content.endswith(LETTER)
    zone = Zone(
        {
            (f"{key.selector}._domainkey.example.test", "TXT"): [record(key.algorithm, key.public)]
            for key in keys
        }
    )
    found = await check_arc(zone, Content(copy.content))
    assert (found.result, found.sealers) == ("pass", ("example.test",))
    (delivered,) = await inbox(mail, alice)
    assert delivered.startswith(b"Return-Path: <dave@sender.test>\r\n")
    assert b"ARC-Seal" not in delivered


async def test_a_report_about_it_goes_back_to_the_sender(
    sending: Sending, listeners: dict[str, int], mail: Mail
) -> None:
    peer = await sending.peer()
    await accounts.add_forward(mail, "sales@example.test", "carol@example.org")
    await sending.work()
    await in_thread(listeners["mx"], "Dave+x@sender.test", ["sales@example.test"])
    await peer.wait_for(1)
    back = path(peer.received[0].sender)
    report = b"From: postmaster@example.org\r\nSubject: failed\r\n\r\n"
    await in_thread(listeners["mx"], "", [back], report)
    await peer.wait_for(2)
    assert path(peer.received[1].sender) == ""
    assert to(peer.received[1]) == ["Dave+x@sender.test"]
    assert peer.received[1].content.endswith(report)
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="No such user"):
        await in_thread(listeners["mx"], "eve@sender.test", [back], report)
    with pytest.raises(smtplib.SMTPRecipientsRefused, match="No such user"):
        await in_thread(listeners["mx"], "", [back.replace("Dave", "Eve")], report)


async def test_what_the_other_server_refuses_is_reported_to_the_sender(
    sending: Sending, listeners: dict[str, int], mail: Mail
) -> None:
    peer = await sending.peer(
        say=lambda line: "550 5.1.1 nobody" if "carol" in line and "RCPT" in line else None
    )
    await accounts.add_forward(mail, "sales@example.test", "carol@example.org")
    await sending.work()
    await in_thread(listeners["mx"], "dave@sender.test", ["sales@example.test"])
    await peer.wait_for(2)
    report = peer.received[-1]
    assert (path(report.sender), to(report)) == ("", ["dave@sender.test"])
    assert b"Final-Recipient: rfc822; carol@example.org" in report.content


async def test_a_message_of_one_of_our_domains_is_not_signed_when_a_stranger_sends_it(
    sending: Sending, listeners: dict[str, int], mail: Mail
) -> None:
    peer = await sending.peer()
    await dkim.make_all(mail, "example.test")
    await accounts.add_forward(mail, "sales@example.test", "carol@example.org")
    await sending.work()
    forged = LETTER.replace(b"dave@sender.test", b"boss@example.test")
    await in_thread(listeners["mx"], "dave@sender.test", ["sales@example.test"], forged)
    await peer.wait_for(1)
    assert b"DKIM-Signature" not in peer.received[0].content


async def test_what_was_here_before_is_refused(
    sending: Sending, listeners: dict[str, int], mail: Mail
) -> None:
    peer = await sending.peer()
    await accounts.add_forward(mail, "sales@example.test", "carol@example.org")
    await sending.work()
    await in_thread(listeners["mx"], "dave@sender.test", ["sales@example.test"])
    await peer.wait_for(1)
    with pytest.raises(smtplib.SMTPDataError, match="round in circles"):
        await in_thread(
            listeners["mx"], "dave@sender.test", ["sales@example.test"], peer.received[0].content
        )


async def test_spam_is_not_forwarded_and_not_dropped(
    sending: Sending, listeners: dict[str, int], mail: Mail, alice: Account
) -> None:
    await accounts.add_forward(mail, "sales@example.test", "carol@example.org")
    spam = LETTER + b"viagra\r\n"
    with pytest.raises(smtplib.SMTPDataError, match="not forwarded"):
        await in_thread(listeners["mx"], "dave@sender.test", ["sales@example.test"], spam)
    await accounts.add_alias(mail, "sales@example.test", "alice@example.test")
    await in_thread(listeners["mx"], "dave@sender.test", ["sales@example.test"], spam)
    assert await sending.rows() == []
    assert await inbox(mail, alice) == []  # it is in Junk


async def test_users_here_reach_all_of_an_alias(
    sending: Sending, listeners: dict[str, int], mail: Mail, alice: Account
) -> None:
    peer = await sending.peer()
    await accounts.create(mail, "bob@example.test", password=PASSWORD)
    await accounts.add_alias(mail, "sales@example.test", "alice@example.test")
    await accounts.add_forward(mail, "sales@example.test", "carol@example.org")
    await sending.work()

    def submit() -> None:
        with smtplib.SMTP("127.0.0.1", listeners["submission"]) as client:
            client.starttls()
            client.login("bob@example.test", PASSWORD)
            raw = b"From: bob@example.test\r\nSubject: x\r\n\r\nx\r\n"
            client.sendmail("bob@example.test", ["sales@example.test"], raw)

    await asyncio.to_thread(submit)
    await peer.wait_for(1)
    assert to(peer.received[0]) == ["carol@example.org"]
    await sending.settled("sales@example.test", QueueState.DELIVERED)
    assert len(await inbox(mail, alice)) == 1


@pytest.mark.parametrize("with_account", [True, False])
async def test_by_lmtp(
    sending: Sending, listeners: dict[str, int], mail: Mail, alice: Account, with_account: bool
) -> None:
    peer = await sending.peer()
    await accounts.add_forward(mail, "sales@example.test", "carol@example.org")
    if with_account:
        await accounts.add_alias(mail, "sales@example.test", "alice@example.test")
    await sending.work()

    def deliver(raw: bytes) -> None:
        with smtplib.LMTP("127.0.0.1", listeners["lmtp"]) as client:
            client.sendmail("dave@sender.test", ["sales@example.test"], raw)

    await asyncio.to_thread(deliver, LETTER)
    await peer.wait_for(1)
    assert to(peer.received[0]) == ["carol@example.org"]
    assert len(await inbox(mail, alice)) == with_account
    if not with_account:
        with pytest.raises(smtplib.SMTPDataError, match="round in circles"):
            await asyncio.to_thread(deliver, peer.received[0].content)


async def test_nobody_gets_a_message_that_cannot_be_queued_for_all(
    mail: Mail, alice: Account
) -> None:
    bad = Outgoing(NOBODY, "", (OutgoingRecipient("no\0text@example.org", "example.org"),), "s")
    with pytest.raises(Exception, match="0x00"):
        await delivery.accept(
            mail,
            LETTER,
            [Target(alice.id)],
            received_at=mail.now(),
            onward=[Onward(LETTER, bad)],
        )
    assert await inbox(mail, alice) == []


async def test_what_can_be_an_alias(sending: Sending, mail: Mail) -> None:
    with pytest.raises(NotFound, match="domain"):
        await accounts.add_forward(mail, "sales@elsewhere.test", "carol@example.org")
    with pytest.raises(NotFound, match="account"):
        await accounts.add_forward(mail, "sales@example.test", "nobody@example.test")
    await accounts.add_forward(mail, "@example.test", "carol@example.org")
    assert ("@example.test", "carol@example.org") in await accounts.list_aliases(mail)
    await accounts.remove_forward(mail, "@example.test", "carol@example.org")
    with pytest.raises(NotFound):
        await accounts.remove_forward(mail, "@example.test", "carol@example.org")
    server = mail.config.server.model_copy(update={"secret_key": Secret("")})
    mail.config = mail.config.model_copy(update={"server": server})
    with pytest.raises(ConfigurationError):
        await accounts.add_forward(mail, "sales@example.test", "carol@example.org")
