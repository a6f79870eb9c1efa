"""What became of submissions, and how they are found."""

from datetime import UTC, datetime, timedelta

import orjson

from mailserver.mail import (
    aftermath,
    delivery,
    submissions,
)
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import Account, QueueId, QueueState
from tests.integration.submissions.conftest import Client
from tests.integration.submissions.mailing import (
    SUBMISSION,
    draft,
    held,
    identity,
    letter,
    submit,
)


async def finish(mail: Mail, recipient: str, state: QueueState, reply: str) -> QueueId:
    row = await mail.database.fetchrow(
        """
        UPDATE queue_recipient SET state = $2, last_reply = $3 WHERE recipient = $1
        RETURNING message_id
        """,
        recipient,
        int(state),
        reply,
    )
    assert row is not None
    return QueueId(row["message_id"])


async def statuses(client: Client, submission: str) -> dict[str, tuple[str, str]]:
    found = await client.call(f"{SUBMISSION}/get", ids=[submission])
    return {
        each: (status["delivered"], status["smtpReply"])
        for each, status in found["list"][0]["deliveryStatus"].items()
    }


async def test_the_status_follows_the_queue(mail: Mail, alice: Account, client: Client) -> None:
    email = await draft(mail, alice, letter("carol@example.org, dave@example.org"))
    answer = await submit(client, email)
    made = answer["created"]["new"]
    queue_id = await finish(mail, "carol@example.org", QueueState.WAITING, "451 4.7.1 later")
    await submissions.delivery_changed(mail, alice.id, queue_id)
    assert (await statuses(client, made["id"]))["carol@example.org"] == (
        "queued",
        "451 4.7.1 later",
    )
    await finish(mail, "carol@example.org", QueueState.DELIVERED, "250 2.0.0 OK")
    await submissions.delivery_changed(mail, alice.id, queue_id)
    shown = await client.call(f"{SUBMISSION}/get", ids=[made["id"]], properties=["undoStatus"])
    assert shown["list"][0]["undoStatus"] == "final"
    changes = await client.call(f"{SUBMISSION}/changes", sinceState=answer["newState"])
    assert changes["updated"] == [made["id"]]
    await submissions.delivery_changed(mail, alice.id, queue_id)
    nothing = await client.call(f"{SUBMISSION}/changes", sinceState=changes["newState"])
    assert nothing["updated"] == []
    # the news of the second recipient is lost with its worker, and found by the next round
    reply = "550-5.7.1 Our system has detected that this message is\r\n550 5.7.1 likely spam."
    await finish(mail, "dave@example.org", QueueState.FAILED, reply)
    assert await submissions.catch_up(mail) == 1
    assert await statuses(client, made["id"]) == {
        "carol@example.org": ("unknown", "250 2.0.0 OK"),
        "dave@example.org": (
            "no", "550 5.7.1 Our system has detected that this message is likely spam.",
        ),
    }  # fmt: skip
    assert await submissions.catch_up(mail) == 0


async def test_reports_are_filed_with_the_submission(
    mail: Mail, alice: Account, client: Client
) -> None:
    email = await draft(mail, alice, letter("carol@example.org, dave@example.org"))
    made = (await submit(client, email))["created"]["new"]
    dsn = (
        "From: MAILER-DAEMON@example.org\r\nTo: alice@example.test\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n"
        "--x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; example.org\r\n"
        f"Original-Envelope-Id: {made['id']}\r\n\r\nFinal-Recipient: rfc822; carol@example.org\r\n"
        "Action: failed\r\nStatus: 5.2.2\r\nDiagnostic-Code: smtp; 552 5.2.2 full\r\n--x--\r\n"
    )
    mdn = (
        "From: dave@example.org\r\nTo: alice@example.test\r\n"
        "Content-Type: multipart/report; report-type=disposition-notification; boundary=x\r\n\r\n"
        "--x\r\nContent-Type: message/disposition-notification\r\n\r\n"
        "Final-Recipient: rfc822; dave@example.org\r\nOriginal-Message-ID: <m1@example.test>\r\n"
        "Disposition: manual-action/MDN-sent-manually; displayed\r\n--x--\r\n"
    )
    for raw in (dsn, mdn):
        await delivery.accept(
            mail, raw.encode(), [Target(alice.id)], received_at=mail.now(), sender=""
        )
    assert await aftermath.once(mail) == 2
    assert await aftermath.once(mail) == 0
    shown = (await client.call(f"{SUBMISSION}/get", ids=[made["id"]]))["list"][0]
    assert shown["deliveryStatus"]["carol@example.org"] == {
        "smtpReply": "552 5.2.2 full", "delivered": "no", "displayed": "unknown",
    }  # fmt: skip
    assert shown["deliveryStatus"]["dave@example.org"]["displayed"] == "yes"
    assert len(shown["dsnBlobIds"]) == len(shown["mdnBlobIds"]) == 1
    assert shown["dsnBlobIds"] != shown["mdnBlobIds"]
    gone = await client.call(f"{SUBMISSION}/set", destroy=[made["id"]])
    assert gone["destroyed"] == [made["id"]]


# Finding -----------------------------------------------------------------------------------------


async def test_filters_and_sorts(mail: Mail, alice: Account, bob: Account, client: Client) -> None:
    first = await draft(mail, alice, letter())
    second = await draft(mail, alice, letter("carol@example.org").replace(b"m1@", b"m2@"))
    ids = []
    for email, more in (
        (first, {}),
        (second, held(7200, "carol@example.org")),
        (first, held(3600, "carol@example.org")),
    ):
        ids.append((await submit(client, email, **more))["created"]["new"]["id"])
    now = datetime.now(UTC)
    soon = (now + timedelta(seconds=5000)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for query, found in (
        ({}, ids),
        ({"filter": None}, ids),
        ({"filter": {"undoStatus": "pending"}}, ids[1:]),
        ({"filter": {"emailIds": [first]}}, [ids[0], ids[2]]),
        ({"filter": {"emailIds": [first, "x"], "undoStatus": "final"}}, ids[:1]),
        ({"filter": {"identityIds": []}}, []),
        ({"filter": {"identityIds": [await identity(client)]}}, ids),
        ({"filter": {"before": soon}}, [ids[0], ids[2]]),
        ({"filter": {"after": soon}}, ids[1:2]),
        (
            {
                "filter": {
                    "operator": "NOT",
                    "conditions": [{"undoStatus": "final"}, {"after": soon}],
                }
            },
            ids[2:],
        ),
        ({"sort": [{"property": "sentAt"}]}, [ids[0], ids[2], ids[1]]),
        ({"sort": [{"property": "sentAt", "isAscending": False}]}, [ids[1], ids[2], ids[0]]),
        ({"sort": [{"property": "emailId", "isAscending": False}]}, [ids[1], ids[0], ids[2]]),
        ({"position": 1, "limit": 1}, ids[1:2]),
        ({"position": -1}, ids[2:]),
        ({"anchor": ids[2], "anchorOffset": -1}, ids[1:]),
    ):
        answer = await client.call(f"{SUBMISSION}/query", calculateTotal=True, **query)
        assert answer["ids"] == found, query
    for query, error in (
        ({"filter": {"x": 1}}, "unsupportedFilter"),
        ({"filter": {"before": "yesterday"}}, "invalidArguments"),
        ({"sort": [{"property": "undoStatus"}]}, "unsupportedSort"),
        ({"anchor": "nothing"}, "anchorNotFound"),
    ):
        assert await client.refused(f"{SUBMISSION}/query", **query) == error


async def test_a_query_can_be_followed(
    mail: Mail, alice: Account, bob: Account, client: Client
) -> None:
    email = await draft(mail, alice, letter("carol@example.org"))
    ids = []
    for _ in range(3):
        answer = await submit(client, email, **held(3600, "carol@example.org"))
        ids.append(answer["created"]["new"]["id"])
    pending = {"filter": {"undoStatus": "pending"}, "sort": [{"property": "sentAt"}]}
    before = await client.call(f"{SUBMISSION}/query", **pending)
    assert before["canCalculateChanges"] is True
    await client.call(f"{SUBMISSION}/set", update={ids[1]: {"undoStatus": "canceled"}})
    await client.call(f"{SUBMISSION}/set", destroy=[ids[0]])
    answer = await submit(client, email, **held(60, "carol@example.org"))
    new = answer["created"]["new"]["id"]
    changes = await client.call(
        f"{SUBMISSION}/queryChanges",
        sinceQueryState=before["queryState"],
        calculateTotal=True,
        **pending,
    )
    after = await client.call(f"{SUBMISSION}/query", **pending)
    assert {ids[0], ids[1]} <= set(changes["removed"])
    assert {"id": new, "index": 0} in changes["added"]
    spliced = [each for each in before["ids"] if each not in changes["removed"]]
    for added in changes["added"]:
        spliced.insert(added["index"], added["id"])
    assert spliced == after["ids"] == [new, ids[2]]
    assert changes["total"] == 2


async def test_old_submissions_are_forgotten(
    mail: Mail, alice: Account, bob: Account, client: Client
) -> None:
    made = (await submit(client, await draft(mail, alice, letter())))["created"]["new"]
    assert await submissions.expire(mail, mail.now() + timedelta(days=29)) == 0
    assert await submissions.expire(mail, mail.now() + timedelta(days=31)) == 1
    found = await client.call(f"{SUBMISSION}/get", ids=None)
    assert found["list"] == []
    assert orjson.dumps(made)
