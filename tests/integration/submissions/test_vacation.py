"""Vacation responses: set over JMAP, and really sent."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest

from mailserver.mail import aftermath, content, delivery
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import Account
from mailserver.storage.blobs import S3Blobs
from mailserver.storage.database import Database
from tests.conftest import Bucketed, make_mail
from tests.integration.submissions.conftest import Client
from tests.integration.submissions.mailing import inbox, queue


async def away(client: Client, **values: Any) -> None:
    answer = await client.call(
        "VacationResponse/set", update={"singleton": {"isEnabled": True, **values}}
    )
    assert answer["updated"] == {"singleton": None}


async def deliver(
    mail: Mail, account: Account, sender: str, *fields: str, at: datetime | None = None
) -> None:
    """Deliver a message as SMTP does."""
    header = [f"From: {sender}", "To: alice@example.test", "Subject: Question", *fields]
    raw = "\r\n".join([*header, "Message-ID: <m1@example.org>", "", "Are you there?", ""])
    await delivery.accept(
        mail, raw.encode(), [Target(account.id)], received_at=at or mail.now(), sender=sender
    )


async def test_there_is_one_response_and_no_other(client: Client) -> None:
    before = await client.call("VacationResponse/get", ids=None)
    off = {
        "id": "singleton", "isEnabled": False, "fromDate": None, "toDate": None,
        "subject": None, "textBody": None, "htmlBody": None,
    }  # fmt: skip
    assert before["list"] == [off]
    answer = await client.call(
        "VacationResponse/set",
        create={"new": {"isEnabled": True}},
        update={
            "singleton": {"fromDate": "2026-12-24T00:00:00Z", "textBody": "Away", "subject": "Out"},
            "other": {"isEnabled": True},
        },
        destroy=["third"],
    )
    assert answer["notCreated"]["new"]["type"] == "singleton"
    assert answer["notUpdated"]["other"]["type"] == "notFound"
    assert answer["notDestroyed"]["third"]["type"] == "notFound"
    assert answer["updated"] == {"singleton": None}
    assert answer["newState"] != answer["oldState"] == before["state"]
    refused = await client.call("VacationResponse/set", destroy=["singleton"])
    assert refused["notDestroyed"]["singleton"]["type"] == "singleton"
    wrong = await client.call(
        "VacationResponse/set", update={"singleton": {"toDate": "soon", "isEnabled": 1}}
    )
    assert wrong["notUpdated"]["singleton"]["properties"] == ["toDate", "isEnabled"]
    after = await client.call("VacationResponse/get", ids=["singleton", "other"])
    assert after["list"] == [
        {**off, "fromDate": "2026-12-24T00:00:00Z", "textBody": "Away", "subject": "Out"}
    ]
    assert after["notFound"] == ["other"]


async def test_a_user_here_gets_the_reply_at_once(
    mail: Mail, alice: Account, bob: Account, client: Client
) -> None:
    await away(client, textBody="Back on monday.")
    await deliver(mail, alice, "bob@example.test")
    assert mail.delivery_tasks.is_set()
    assert await aftermath.once(mail) == 1
    (raw,) = await inbox(mail, bob)
    assert raw.startswith(b"Return-Path: <>\r\nReceived: by mail.example.test with HTTP id ")
    reply = message_from_bytes(raw, policy=default)
    assert reply["return-path"] == "<>"
    assert reply["from"] == "alice@example.test"
    assert reply["to"] == "bob@example.test"
    assert reply["subject"] == "Auto: Question"
    assert reply["in-reply-to"] == reply["references"] == "<m1@example.org>"
    assert reply["auto-submitted"] == "auto-replied"
    assert reply.get_content() == "Back on monday.\r\n"


async def test_a_sender_hears_once_in_an_interval_and_again_of_something_else(
    mail: Mail, alice: Account, bob: Account, client: Client
) -> None:
    await away(client)
    for sender in ("bob@example.test", "bob+x@example.test", "bob@example.test"):
        await deliver(mail, alice, sender)
    assert await aftermath.once(mail) == 2  # two addresses
    await deliver(mail, alice, "bob@example.test")
    assert await aftermath.once(mail) == 0
    assert len(await inbox(mail, bob)) == 2
    await mail.database.execute(
        "UPDATE vacation_sent SET sent_at = sent_at - $1::interval", timedelta(days=7)
    )
    await deliver(mail, alice, "bob@example.test")
    assert await aftermath.once(mail) == 1
    await away(client, subject="Still away")
    await deliver(mail, alice, "bob@example.test")
    assert await aftermath.once(mail) == 1
    assert len(await inbox(mail, bob)) == 4


async def test_people_elsewhere_get_it_through_the_queue(
    mail: Mail, alice: Account, client: Client
) -> None:
    await away(client, subject="Away", htmlBody="<p>Gone</p>")
    await deliver(mail, alice, "carol@example.org")
    assert await aftermath.once(mail) == 1
    assert await queue(mail) == [("carol@example.org", 0)]
    row = await mail.database.fetchrow("SELECT sender, account_id, blob_id FROM queue_message")
    assert row is not None
    assert row["sender"] == ""
    reply = message_from_bytes(
        await content.content(mail, row["account_id"], row["blob_id"]), policy=default
    )
    assert reply["subject"] == "Away"
    assert reply.get_content_type() == "multipart/alternative"


@pytest.mark.parametrize(
    ("sender", "fields"),
    [
        ("", []),
        ("alice@example.test", []),
        ("noreply@example.org", []),
        ("carol@example.org", ["List-Id: <x.example.org>"]),
        ("carol@example.org", ["Precedence: bulk"]),
        ("carol@example.org", ["Auto-Submitted: auto-generated"]),
        ("gone@example.test", []),
    ],
)
async def test_who_gets_none(
    mail: Mail, alice: Account, client: Client, sender: str, fields: list[str]
) -> None:
    await away(client)
    await deliver(mail, alice, sender, *fields)
    assert await aftermath.once(mail) == 0
    assert await queue(mail) == []
    assert await mail.database.fetchval("SELECT count(*) FROM delivery_task") == 0
    assert await mail.database.fetchval("SELECT count(*) FROM vacation_sent") == 0


async def test_only_deliveries_while_away_are_answered(
    mail: Mail, alice: Account, client: Client
) -> None:
    now = mail.now()
    await deliver(mail, alice, "before@example.org")
    await away(
        client,
        fromDate=(now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        toDate=(now + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    await deliver(mail, alice, "early@example.org", at=now)
    await deliver(mail, alice, "carol@example.org", at=now + timedelta(minutes=90))
    await deliver(mail, alice, "late@example.org", at=now + timedelta(hours=3))
    # what is only stored, as APPEND does, is no delivery
    await delivery.accept(
        mail, b"From: x@example.org\r\nTo: alice@example.test\r\n\r\n", [Target(alice.id)],
        received_at=now + timedelta(minutes=90),
    )  # fmt: skip
    assert await aftermath.once(mail) == 1
    await client.call("VacationResponse/set", update={"singleton": {"isEnabled": False}})
    await deliver(mail, alice, "off@example.org", at=now + timedelta(minutes=90))
    assert await mail.database.fetchval("SELECT count(*) FROM delivery_task") == 0
    assert await queue(mail) == [("carol@example.org", 0)]


async def test_two_processes_send_one_reply(
    mail: Mail, alice: Account, bob: Account, client: Client, database: Database, bucket: Bucketed
) -> None:
    await away(client)
    await deliver(mail, alice, "bob@example.test")
    # the process of the delivery ends before it answers: others find what it left behind
    others = [make_mail(database, bucket.blobs, mail.config, node) for node in (2, 3)]
    done = await asyncio.gather(*(aftermath.once(each) for each in others * 2))
    assert sum(done) == 1
    assert len(await inbox(mail, bob)) == 1
    for each in others:
        each.passwords.close()


async def test_a_reply_that_cannot_be_stored_is_tried_again(
    mail: Mail, alice: Account, bob: Account, client: Client
) -> None:
    await away(client)
    await deliver(mail, alice, "bob@example.test")
    await mail.database.execute("ALTER TABLE vacation_sent RENAME TO elsewhere")
    assert await aftermath.once(mail) == 0
    assert await mail.database.fetchval("SELECT count(*) FROM delivery_task") == 1
    await mail.database.execute("ALTER TABLE elsewhere RENAME TO vacation_sent")
    assert await aftermath.once(mail) == 1
    assert len(await inbox(mail, bob)) == 1


async def test_a_report_that_cannot_be_read_holds_up_no_reply(
    mail: Mail, alice: Account, bob: Account, client: Client, bucket: Bucketed
) -> None:
    await away(client)
    report = "Content-Type: multipart/report; report-type=delivery-status; boundary=x"
    await deliver(mail, alice, "", report)
    body = await mail.database.fetchval("SELECT data FROM blob_hot")
    await mail.blobs.put("moved", body)
    await mail.database.execute(
        """
        WITH dropped AS (DELETE FROM blob_hot)
        UPDATE blob SET hot = false, object = 'moved', "offset" = 0, length = $1
        """,
        len(body),
    )
    await deliver(mail, alice, "bob@example.test")
    nowhere = replace(bucket.bucket, endpoint="http://127.0.0.1:9")
    reachable, mail.blobs = mail.blobs, S3Blobs(lambda: nowhere)
    assert await aftermath.once(mail) == 1
    assert len(await inbox(mail, bob)) == 1
    assert await mail.database.fetchval("SELECT count(*) FROM delivery_task") == 1
    mail.blobs = reachable
    await aftermath.once(mail)
    assert await mail.database.fetchval("SELECT count(*) FROM delivery_task") == 0
