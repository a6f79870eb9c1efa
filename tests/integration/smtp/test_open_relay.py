"""Nobody's mail is passed on for strangers, by whatever name they ask for it."""

import asyncio
import smtplib
from collections.abc import Sequence

import pytest

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.smtp.conftest import Servers

SENDERS = (
    "",
    "alice@example.test",  # as if from here
    "stranger@example.org",
    "stranger@mail.example.test",
    "stranger@[127.0.0.1]",
    "stranger@localhost",
    "MAILER-DAEMON",
)
RECIPIENTS = (
    "victim@example.org",
    '"victim@example.org"',
    '"victim"@example.org',
    "victim%example.org@example.test",
    "victim%example.org@mail.example.test",
    "victim%example.org@[127.0.0.1]",
    '"victim%example.org"@example.test',
    '"victim@example.org"@example.test',
    '"victim@example.org"@[127.0.0.1]',
    "victim@example.org@example.test",
    "victim@example.org@mail.example.test",
    "victim@example.org@",
    "@example.test:victim@example.org",
    "@mail.example.test,@example.test:victim@example.org",
    "example.org!victim",
    "example.org!victim@example.test",
    "example.org!victim@[127.0.0.1]",
    "example.test!victim@example.org",
    "victim@[192.0.2.1]",
    "victim@[IPv6:2001:db8::1]",
    "victim@example.test.example.org",
    "victim@example.org.",
    "victim@example.test\\@example.org",
    "alice@example.test@example.org",
    "alice@example.test,victim@example.org",
    "alice@example.test> <victim@example.org",
    "alice@mail.example.test",  # this host, and no domain of it
)


@pytest.mark.parametrize("sender", SENDERS)
async def test_port_25_takes_mail_for_its_users_only(
    servers: Servers, mail: Mail, alice: Account, sender: str
) -> None:
    port = await servers.start("mx")

    def taken(recipients: Sequence[str]) -> list[str]:
        found = []
        for recipient in recipients:  # a connection each: the server ends one with many errors
            with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
                client.ehlo("example.test")
                if client.docmd("MAIL", f"FROM:<{sender}>")[0] != 250:
                    refused.add(sender)
                    continue
                code, _ = client.docmd("RCPT", f"TO:<{recipient}>")
                if code < 500 or client.docmd("DATA")[0] < 500:
                    found.append(recipient)
        return found

    refused: set[str] = set()
    assert await asyncio.to_thread(taken, RECIPIENTS) == []
    if sender not in refused:
        assert await asyncio.to_thread(taken, [alice.login]) == [alice.login]
    assert refused <= {"MAILER-DAEMON"}  # which is no address
    assert await mail.database.fetchval("SELECT count(*) FROM queue_recipient") == 0


@pytest.mark.parametrize("sender", SENDERS[:3])
async def test_submission_takes_nothing_before_a_login(
    servers: Servers, mail: Mail, alice: Account, sender: str
) -> None:
    port = await servers.start("submission")

    def codes() -> list[int]:
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.ehlo("example.test")
            return [
                client.docmd("MAIL", f"FROM:<{sender}>")[0],
                client.docmd("RCPT", "TO:<victim@example.org>")[0],
                client.docmd("RCPT", "TO:<alice@example.test>")[0],
                client.docmd("DATA")[0],
                client.docmd("BDAT", "0 LAST")[0],
            ]

    assert min(await asyncio.to_thread(codes)) >= 500
