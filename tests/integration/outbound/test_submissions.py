"""Submissions by JMAP and the workers of the queue: what a client sees is what happened."""

import asyncio
from datetime import timedelta

from mailserver.mail import aftermath
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.outbound.conftest import Sending
from tests.integration.submissions.conftest import client_of
from tests.integration.submissions.mailing import draft, held, inbox, letter, submit

HERE, THERE, NOBODY = "bob@example.test", "carol@example.org", "dave@example.org"


async def test_held_mail_is_released_and_statuses_follow(
    sending: Sending, mail: Mail, alice: Account, bob: Account
) -> None:
    peer = await sending.peer(
        say=lambda line: "550 5.1.1 no such user" if line.startswith(f"RCPT TO:<{NOBODY}") else None
    )
    sending.domain("example.org", (10, "mx.example.org", "127.0.0.2"))
    client = client_of(mail, alice)
    email = await draft(mail, alice, letter(f"{HERE}, {THERE}, {NOBODY}"))
    answer = await submit(client, email, **held(3600, HERE, THERE, NOBODY))
    made = answer["created"]["new"]
    assert made["undoStatus"] == "pending"
    told = mail.events.subscribe(alice.id)
    filing = asyncio.create_task(aftermath.run(mail))
    try:
        await sending.due(timedelta(hours=1))
        await sending.work()
        async with asyncio.timeout(30):
            while True:
                await told.wait()
                found = await client.call("EmailSubmission/get", ids=[made["id"]])
                shown = found["list"][0]
                waits = [each["delivered"] for each in shown["deliveryStatus"].values()]
                if "queued" not in waits and shown["dsnBlobIds"]:
                    break
    finally:
        mail.events.unsubscribe(told)
        filing.cancel()
        await asyncio.gather(filing, return_exceptions=True)
    assert shown["undoStatus"] == "final"
    status = shown["deliveryStatus"]
    assert status[HERE]["delivered"] == "yes"
    assert status[THERE]["delivered"] == "unknown"  # relayed is not delivered
    assert status[THERE]["smtpReply"].startswith("250")
    assert (status[NOBODY]["delivered"], status[NOBODY]["smtpReply"]) == (
        "no", "550 5.1.1 no such user",
    )  # fmt: skip
    (raw,) = await inbox(mail, bob)
    assert raw.startswith(b"Return-Path: <alice@example.test>\r\n")
    assert len(peer.received) == 1
    (report,) = await inbox(mail, alice)
    assert f"Original-Envelope-Id: {made['id']}".encode() in report
