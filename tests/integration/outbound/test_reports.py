"""What senders are told: as they asked, once, and never in answer to a report."""

import asyncio
import email
import smtplib
from datetime import timedelta
from email.message import Message
from typing import Any

from mailserver.auth.credentials import Authenticator
from mailserver.config import Listener
from mailserver.mail.context import Mail
from mailserver.model import Account, QueueState
from mailserver.smtp.server import SmtpServer
from tests.integration.conftest import Tls
from tests.integration.outbound.conftest import Sending
from tests.integration.smtp.conftest import inbox


async def reports(sending: Sending, mail: Mail, account: Account, count: int) -> list[Message]:
    """Wait until so many reports are in the mailbox and nothing of the kind is under way."""
    await sending.until(
        lambda rows: (
            sum(row["state"] == 1 and row["notify"] == "NEVER" for row in rows) >= count
            and all(row["report"] is None for row in rows)
        )
    )
    found = [email.message_from_bytes(raw) for raw in await inbox(mail, account)]
    assert len(found) == count
    return found


def groups(message: Any) -> list[dict[str, str]]:
    status = message.get_payload()[1]
    return [dict(group.items()) for group in status.get_payload()[1:]]


async def test_a_failure_comes_back(sending: Sending, mail: Mail, alice: Account) -> None:
    await sending.peer(say=lambda line: "550 5.1.1 nobody" if line.startswith("RCPT") else None)
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    await sending.send("b@example.org", "c@example.org", envid="QQ1")
    (message,) = await reports(sending, mail, alice, 1)
    assert message["Return-Path"] == "<>"
    assert message["Subject"] == "Undeliverable: Hello"
    found = groups(message)
    assert [group["Final-Recipient"] for group in found] == [
        "rfc822; b@example.org",
        "rfc822; c@example.org",
    ]
    assert found[0]["Action"] == "failed"
    assert found[0]["Diagnostic-Code"] == "smtp; 550 5.1.1 nobody"
    assert found[0]["Remote-MTA"] == "dns; mx.example.org [127.0.0.2]"


async def test_who_asked_for_silence_or_is_nobody_gets_nothing(
    sending: Sending, mail: Mail, alice: Account
) -> None:
    await sending.work()
    await sending.send("b@missing.example", notify="NEVER")
    await sending.send("c@missing.example", sender="")
    await sending.settled("b@missing.example", QueueState.FAILED)
    await sending.settled("c@missing.example", QueueState.FAILED)
    assert all(row["report"] is None for row in await sending.rows())
    assert await inbox(mail, alice) == []


async def test_a_delay_is_told_once(sending: Sending, mail: Mail, alice: Account) -> None:
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.send("b@example.org")
    await mail.database.execute(
        "UPDATE queue_recipient SET delay_at = $1, next_attempt = $2",
        mail.now() - timedelta(seconds=1),
        mail.now() + timedelta(hours=1),
    )
    await sending.work()
    (message,) = await reports(sending, mail, alice, 1)
    assert message["Subject"] == "Delayed: Hello"
    assert groups(message)[0]["Action"] == "delayed"
    rows = await sending.rows()
    assert [row["delay_at"] for row in rows if row["recipient"] == "b@example.org"] == [None]


async def test_success_is_told_by_who_delivers(
    sending: Sending, mail: Mail, alice: Account, bob: Account
) -> None:
    plain = await sending.peer("127.0.0.2", extensions=("PIPELINING",))
    knowing = await sending.peer("127.0.0.3")
    sending.domain("plain.example", (10, "mx.plain.example", "127.0.0.2"))
    sending.domain("knowing.example", (10, "mx.knowing.example", "127.0.0.3"))
    await sending.work()
    await sending.send("b@plain.example", "c@knowing.example", "bob@example.test", notify="SUCCESS")
    await sending.until(
        lambda rows: (
            len(rows) > 3
            and all(row["state"] == QueueState.DELIVERED and row["report"] is None for row in rows)
        )
    )
    # it is one letter when both were known before it was made
    letters = [email.message_from_bytes(raw) for raw in await inbox(mail, alice)]
    told = {group["Final-Recipient"]: group["Action"] for each in letters for group in groups(each)}
    assert told == {"rfc822; b@plain.example": "relayed", "rfc822; bob@example.test": "delivered"}
    assert plain.received[0].recipients == ["RCPT TO:<b@plain.example>"]
    assert knowing.received[0].recipients == ["RCPT TO:<c@knowing.example> NOTIFY=SUCCESS"]
    assert len(await inbox(mail, bob)) == 1


async def test_mail_that_goes_round_in_circles_ends(
    sending: Sending, mail: Mail, alice: Account
) -> None:
    peer = await sending.peer()
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    await sending.work()
    await sending.send("b@example.org", raw=b"Received: from x\r\n" * 101 + b"\r\nround\r\n")
    row = await sending.settled("b@example.org", QueueState.FAILED)
    assert row["status"] == "5.4.6"
    assert peer.received == []
    await reports(sending, mail, alice, 1)


async def test_success_is_told_to_senders_elsewhere(
    sending: Sending, mail: Mail, alice: Account, tls: Tls
) -> None:
    """A message by port 25 for a user here whose sender wants to know that it arrived."""
    peer = await sending.peer("127.0.0.2")
    sending.domain("sender.example", (10, "mx.sender.example", "127.0.0.2"))
    await sending.work()
    server = SmtpServer(
        mail=mail, authenticator=Authenticator(mail.database), tls=tls.server, kind="mx"
    )
    _, port = await server.start(Listener(host="127.0.0.1", port=0))

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.sendmail(
                "carol@sender.example",
                ["alice@example.test", "alice+again@example.test"],
                b"Subject: told\r\n\r\nbody\r\n",
                ["ENVID=QQ314159", "RET=HDRS"],
                ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;alice@elsewhere.example"],
            )

    await asyncio.to_thread(send)
    await server.stop(5)
    await sending.until(lambda rows: sum(row["state"] == 1 for row in rows) == 3)
    (raw,) = await inbox(mail, alice)
    assert raw.startswith(b"Return-Path: <carol@sender.example>\r\nReceived: ")
    (told,) = peer.received
    assert told.sender.startswith("MAIL FROM:<>")
    report: Any = email.message_from_bytes(told.content)
    assert {group["Action"] for group in groups(report)} == {"delivered"}
    assert "QQ314159" in str(report.get_payload()[1])
    assert "rfc822; alice@elsewhere.example" in str(report.get_payload()[1])
