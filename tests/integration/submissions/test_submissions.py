"""Identities and submissions over JMAP, down to what recipients and the queue get."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from mailserver.mail import (
    accounts,
    aftermath,
    content,
    delivery,
    mailboxes,
    sending,
    submissions,
)
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.mail.originals import Original
from mailserver.model import Account, AccountId, Flags, QueueId, QueueState, Role
from tests.integration.submissions.conftest import Client

SUBMISSION = "EmailSubmission"


def letter(
    to: str = "bob@example.test", sender: str = "alice@example.test", more: str = ""
) -> bytes:
    return (
        f"From: Alice <{sender}>\r\nTo: {to}\r\nSubject: Hello\r\n{more}"
        "Message-ID: <m1@example.test>\r\nDate: Thu, 26 Nov 2026 12:00:00 +0000\r\n\r\nHello\r\n"
    ).encode()


async def draft(mail: Mail, account: Account, raw: bytes) -> str:
    """Put a message into the drafts; return its id."""
    found = await mailboxes.list_all(mail, account.id)
    drafts = next(each for each in found if each.role is Role.DRAFTS)
    accepted = await delivery.accept(
        mail,
        raw,
        [Target(account.id, drafts.id, Flags.of_keywords(["$draft"]))],
        received_at=datetime.now(UTC),
    )
    return Client.email(accepted.delivered[0].email_id)


async def inbox(mail: Mail, account: Account) -> list[bytes]:
    rows = await mail.database.fetch(
        """
        SELECT email.blob_id
        FROM msg
        JOIN email ON email.account_id = msg.account_id AND email.id = msg.email_id
        JOIN mailbox ON mailbox.account_id = msg.account_id AND mailbox.id = msg.mailbox_id
        WHERE msg.account_id = $1 AND mailbox.role = 'inbox'
        ORDER BY msg.uid
        """,
        account.id,
    )
    return [await content.content(mail, account.id, row["blob_id"]) for row in rows]


async def queue(mail: Mail) -> list[tuple[str, int]]:
    rows = await mail.database.fetch(
        "SELECT recipient, state FROM queue_recipient ORDER BY message_id, recipient"
    )
    return [(row["recipient"], row["state"]) for row in rows]


async def identity(client: Client) -> str:
    found = await client.call("Identity/get", ids=None)
    return str(found["list"][0]["id"])


async def submit(client: Client, email: str, **more: Any) -> dict[str, Any]:
    """Send an email; return the response to EmailSubmission/set."""
    new = {"identityId": await identity(client), "emailId": email, **more}
    return await client.call(f"{SUBMISSION}/set", create={"new": new})


# Identities --------------------------------------------------------------------------------------


async def test_every_address_has_an_identity_from_the_start(
    mail: Mail, alice: Account, client: Client
) -> None:
    await accounts.add_domain(mail, "example.net")
    before = await client.call("Identity/get", ids=None)
    await accounts.add_alias(mail, "sales@example.test", alice.login)
    await accounts.add_alias(mail, "@example.net", alice.login)
    found = await client.call("Identity/get", ids=None)
    assert [each["email"] for each in found["list"]] == [
        "alice@example.test", "sales@example.test", "*@example.net",
    ]  # fmt: skip
    assert found["list"][0] == {
        "id": found["list"][0]["id"],
        "name": "",
        "email": "alice@example.test",
        "replyTo": None,
        "bcc": None,
        "textSignature": "",
        "htmlSignature": "",
        "mayDelete": False,
    }
    own = found["list"][0]["id"]
    some = await client.call("Identity/get", ids=["x", own], properties=["email"])
    assert some["list"] == [{"id": own, "email": alice.login}]
    assert some["notFound"] == ["x"]
    refused = await client.refused("Identity/get", properties=["nonsense"])
    assert refused == "invalidArguments"
    changes = await client.call("Identity/changes", sinceState=before["state"])
    assert changes["created"] == [each["id"] for each in found["list"][1:]]
    assert changes["newState"] == found["state"]


async def test_identities_are_made_changed_and_removed(client: Client) -> None:
    standard = await identity(client)
    new = {
        "name": "Alice at work",
        "email": "Alice+work@Example.Test",
        "replyTo": [{"name": None, "email": "x@example.org"}],
    }
    made = await client.call(
        "Identity/set",
        create={
            "a": new,
            "b": {"email": "bob@example.test"},
            "c": {"email": "no address"},
            "d": {"name": "without address"},
            "e": {"email": "alice@example.test", "bcc": [{"name": "no email"}]},
            "f": {"email": "*@example.test"},
        },
        destroy=[standard, "nobody"],
        update={standard: {"name": "Alice", "textSignature": "-- \nA"}},
    )
    assert made["notUpdated"][standard]["type"] == "willDestroy"
    created = made["created"]["a"]
    assert created == {
        "id": created["id"], "bcc": None, "textSignature": "", "htmlSignature": "",
        "mayDelete": True,
    }  # fmt: skip
    assert {each: error["type"] for each, error in made["notCreated"].items()} == {
        "b": "forbiddenFrom", "c": "invalidProperties", "d": "invalidProperties",
        "e": "invalidProperties", "f": "forbiddenFrom",
    }  # fmt: skip
    assert made["notCreated"]["e"]["properties"] == ["bcc"]
    assert made["notDestroyed"][standard]["type"] == "forbidden"
    assert made["notDestroyed"]["nobody"]["type"] == "notFound"
    changed = await client.call(
        "Identity/set",
        update={
            created["id"]: {"replyTo": None, "htmlSignature": "<b>A</b>"},
            standard: {"email": "other@example.test"},
        },
    )
    assert changed["updated"] == {created["id"]: None}
    assert changed["notUpdated"][standard]["type"] == "invalidProperties"
    assert changed["oldState"] == made["newState"]
    found = await client.call("Identity/get", ids=[created["id"]])
    assert found["list"][0]["replyTo"] is None
    assert found["list"][0]["htmlSignature"] == "<b>A</b>"
    assert found["list"][0]["email"] == "Alice+work@Example.Test"
    gone = await client.call("Identity/set", destroy=[created["id"]])
    assert gone["destroyed"] == [created["id"]]
    changes = await client.call("Identity/changes", sinceState=changed["newState"])
    assert changes["destroyed"] == [created["id"]]


# Sending -----------------------------------------------------------------------------------------


async def test_users_here_have_it_at_once_and_others_wait_in_the_queue(
    mail: Mail, alice: Account, bob: Account, client: Client
) -> None:
    raw = letter("bob@example.test, Carol <carol@example.org>", more="Bcc: dave@example.org\r\n")
    email = await draft(mail, alice, raw)
    answer = await submit(client, email)
    made = answer["created"]["new"]
    assert made["undoStatus"] == "final"
    assert made["envelope"] == {
        "mailFrom": {"email": "alice@example.test", "parameters": None},
        "rcptTo": [
            {"email": address, "parameters": None}
            for address in ("bob@example.test", "carol@example.org", "dave@example.org")
        ],
    }
    assert made["deliveryStatus"] == {
        "bob@example.test": {
            "smtpReply": submissions.DELIVERED, "delivered": "yes", "displayed": "unknown",
        },
        "carol@example.org": {
            "smtpReply": submissions.QUEUED, "delivered": "queued", "displayed": "unknown",
        },
        "dave@example.org": {
            "smtpReply": submissions.QUEUED, "delivered": "queued", "displayed": "unknown",
        },
    }  # fmt: skip
    (got,) = await inbox(mail, bob)
    assert b"Bcc" not in got
    assert b"dave@" not in got
    assert got.endswith(raw.replace(b"Bcc: dave@example.org\r\n", b""))
    assert got.startswith(b"Received: by mail.example.test with HTTP id ")
    assert await queue(mail) == [("carol@example.org", 0), ("dave@example.org", 0)]
    stored = await client.call("Email/get", ids=[email], properties=["bcc"])
    assert stored["list"][0]["bcc"] == [{"name": None, "email": "dave@example.org"}]
    shown = await client.call(f"{SUBMISSION}/get", ids=[made["id"]])
    assert shown["list"][0].items() >= made.items()
    changes = await client.call(f"{SUBMISSION}/changes", sinceState=answer["oldState"])
    assert changes["created"] == [made["id"]]
    assert changes["newState"] == answer["newState"]


@pytest.mark.parametrize(
    ("raw", "more", "error"),
    [
        (letter(to=""), {}, {"type": "noRecipients"}),
        (letter(to="nobody@example.test, carol@example.org"), {}, {
            "type": "invalidRecipients", "invalidRecipients": ["nobody@example.test"],
        }),
        (letter(sender="bob@example.test"), {}, {"type": "forbiddenFrom"}),
        (letter(sender="sales@example.test"), {}, {
            "type": "forbiddenFrom", "description": "From is not the address of the identity",
        }),
        (b"To: bob@example.test\r\n\r\nx", {}, {"type": "invalidEmail", "properties": ["from"]}),
        (
            b"From: alice@example.test, alice+x@example.test\r\nTo: bob@example.test\r\n\r\nx",
            {},
            {"type": "invalidEmail", "properties": ["from", "sender"]},
        ),
        (letter(), {"envelope": {
            "mailFrom": {"email": "bob@example.test"}, "rcptTo": [{"email": "bob@example.test"}],
        }}, {"type": "forbiddenMailFrom"}),
        (letter(), {"envelope": {"mailFrom": {"email": ""}, "rcptTo": []}}, {
            "type": "noRecipients",
        }),
        (letter(), {"envelope": {
            "mailFrom": {"email": ""},
            "rcptTo": [{"email": "a@b>\r\nDATA"}, {"email": "bob@example.test"}, {"email": ""}],
        }}, {"type": "invalidRecipients", "invalidRecipients": ["a@b>\r\nDATA", ""]}),
        (letter(), {"envelope": {
            "mailFrom": {"email": ""},
            "rcptTo": [{"email": f"r{each}@example.org"} for each in range(1001)],
        }}, {"type": "tooManyRecipients", "maxRecipients": 1000}),
        (letter(), {"envelope": {
            "mailFrom": {"email": "", "parameters": {"HOLDFOR": "99999999"}},
            "rcptTo": [{"email": "bob@example.test"}],
        }}, {
            "type": "invalidProperties", "properties": ["envelope"],
            "description": "mail is held for at most 2592000 seconds",
        }),
        (letter(), {"identityId": "nobody"}, {
            "type": "invalidProperties", "properties": ["identityId"],
            "description": "there is no such object",
        }),
        (letter(), {"emailId": "nothing"}, {
            "type": "invalidProperties", "properties": ["emailId"],
            "description": "there is no such email",
        }),
        (letter(), {"undoStatus": "final"}, {
            "type": "invalidProperties", "properties": ["undoStatus"],
            "description": "undoStatus is set by the server",
        }),
    ],
)  # fmt: skip
async def test_what_cannot_be_sent(
    mail: Mail,
    alice: Account,
    bob: Account,
    client: Client,
    raw: bytes,
    more: dict[str, Any],
    error: dict[str, Any],
) -> None:
    await accounts.add_alias(mail, "sales@example.test", alice.login)
    answer = await submit(client, await draft(mail, alice, raw), **more)
    assert answer["notCreated"] == {"new": error}
    assert answer["created"] is None
    assert answer["newState"] == answer["oldState"]
    assert await inbox(mail, bob) == []
    assert await queue(mail) == []


async def test_what_was_sent_is_told_even_when_the_next_one_fails_by_a_fault(
    mail: Mail, alice: Account, bob: Account, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await draft(mail, alice, letter()), await draft(mail, alice, letter())
    checked = sending.checked
    calls: list[bytes] = []

    async def once(mail: Mail, account: AccountId, raw: bytes) -> Original:
        calls.append(raw)
        if len(calls) > 1:
            raise ValueError("a fault")
        return await checked(mail, account, raw)

    monkeypatch.setattr(sending, "checked", once)
    number = await identity(client)
    create = {each: {"identityId": number, "emailId": each} for each in (first, second)}
    answer = await client.call(f"{SUBMISSION}/set", create=create)
    assert answer["created"].keys() == {first}
    assert answer["notCreated"] == {second: {"type": "serverFail"}}
    assert len(await inbox(mail, bob)) == 1


async def test_a_message_that_is_too_large(
    mail: Mail, alice: Account, bob: Account, client: Client
) -> None:
    smtp = mail.config.smtp.model_copy(update={"max_message_size": 2000})
    mail.config = mail.config.model_copy(update={"smtp": smtp})
    answer = await submit(client, await draft(mail, alice, letter() + b"x" * 2000))
    assert answer["notCreated"] == {"new": {"type": "tooLarge", "maxSize": 2000}}


async def test_the_identity_gives_the_reverse_path_that_the_message_cannot(
    mail: Mail, alice: Account, bob: Account, client: Client
) -> None:
    await accounts.add_alias(mail, "sales@example.test", alice.login)
    email = await draft(mail, alice, letter(more="Sender: sales@example.test\r\n"))
    answer = await submit(client, email)
    assert answer["created"]["new"]["envelope"]["mailFrom"]["email"] == "alice@example.test"


async def test_what_follows_a_success_is_one_change_of_emails(
    mail: Mail, alice: Account, bob: Account, client: Client
) -> None:
    sent = await draft(mail, alice, letter())
    kept = await draft(mail, alice, letter(to=""))
    number = await identity(client)
    responses = await client.calls(
        [
            f"{SUBMISSION}/set",
            {
                "create": {
                    "good": {"identityId": number, "emailId": sent},
                    "bad": {"identityId": number, "emailId": kept},
                },
                "onSuccessUpdateEmail": {
                    "#good": {"keywords/$draft": None, "keywords/$seen": True},
                    "#bad": {"keywords/$draft": None},
                    "#missing": {"keywords/$draft": None},
                },
            },
        ]
    )
    assert [name for name, _, _ in responses] == [f"{SUBMISSION}/set", "Email/set"]
    assert responses[1][1]["updated"] == {sent: None}
    found = await client.call("Email/get", ids=[sent, kept], properties=["keywords"])
    assert [each["keywords"] for each in found["list"]] == [{"$seen": True}, {"$draft": True}]
    again = await client.calls(
        [
            f"{SUBMISSION}/set",
            {
                "create": {"good": {"identityId": number, "emailId": sent}},
                "onSuccessDestroyEmail": ["#good", "#good"],
            },
        ]
    )
    assert again[1][1]["destroyed"] == [sent]
    failed = await client.calls(
        [
            f"{SUBMISSION}/set",
            {
                "create": {"bad": {"identityId": number, "emailId": kept}},
                "onSuccessDestroyEmail": ["#bad"],
            },
        ]
    )
    assert len(failed) == 1
    assert len(await inbox(mail, bob)) == 2


# Holding and taking back -------------------------------------------------------------------------


def held(seconds: int, *recipients: str) -> dict[str, Any]:
    return {
        "envelope": {
            "mailFrom": {
                "email": "alice@example.test",
                "parameters": {"HOLDFOR": str(seconds)},
            },
            "rcptTo": [{"email": each, "parameters": None} for each in recipients],
        }
    }


async def test_held_mail_can_be_taken_back(
    mail: Mail, alice: Account, bob: Account, client: Client
) -> None:
    email = await draft(mail, alice, letter())
    answer = await submit(client, email, **held(3600, "bob@example.test", "carol@example.org"))
    made = answer["created"]["new"]
    assert made["undoStatus"] == "pending"
    wait = datetime.fromisoformat(made["sendAt"]) - mail.now()
    assert timedelta(seconds=3500) < wait <= timedelta(seconds=3600)
    assert await inbox(mail, bob) == []
    assert await queue(mail) == [("bob@example.test", 0), ("carol@example.org", 0)]
    taken = await client.call(f"{SUBMISSION}/set", update={made["id"]: {"undoStatus": "canceled"}})
    assert taken["updated"][made["id"]]["deliveryStatus"]["bob@example.test"]["delivered"] == "no"
    assert await queue(mail) == []
    shown = await client.call(f"{SUBMISSION}/get", ids=[made["id"]], properties=["undoStatus"])
    assert shown["list"] == [{"id": made["id"], "undoStatus": "canceled"}]
    again = await client.call(f"{SUBMISSION}/set", update={made["id"]: {"undoStatus": "pending"}})
    assert again["notUpdated"][made["id"]]["type"] == "invalidProperties"


async def test_what_a_worker_has_cannot_be_taken_back(
    mail: Mail, alice: Account, client: Client
) -> None:
    email = await draft(mail, alice, letter("carol@example.org, dave@example.org"))
    made = (await submit(client, email))["created"]["new"]
    assert made["undoStatus"] == "pending"
    await mail.database.execute(
        "UPDATE queue_recipient SET state = $1 WHERE recipient = $2",
        int(QueueState.SENDING),
        "dave@example.org",
    )
    answer = await client.call(f"{SUBMISSION}/set", update={made["id"]: {"undoStatus": "canceled"}})
    assert answer["notUpdated"][made["id"]]["type"] == "cannotUnsend"
    assert len(await queue(mail)) == 2


async def test_what_was_delivered_cannot_be_taken_back(
    mail: Mail, alice: Account, bob: Account, client: Client
) -> None:
    made = (await submit(client, await draft(mail, alice, letter())))["created"]["new"]
    answer = await client.call(f"{SUBMISSION}/set", update={made["id"]: {"undoStatus": "canceled"}})
    assert answer["notUpdated"][made["id"]]["type"] == "cannotUnsend"


async def test_forgetting_a_submission_stops_nothing(
    mail: Mail, alice: Account, client: Client
) -> None:
    made = (await submit(client, await draft(mail, alice, letter("carol@example.org"))))["created"]
    gone = await client.call(f"{SUBMISSION}/set", destroy=[made["new"]["id"], "nothing"])
    assert gone["destroyed"] == [made["new"]["id"]]
    assert gone["notDestroyed"]["nothing"]["type"] == "notFound"
    assert await queue(mail) == [("carol@example.org", 0)]
    changes = await client.call(f"{SUBMISSION}/changes", sinceState=gone["oldState"])
    assert changes["destroyed"] == [made["new"]["id"]]


# What becomes of it ------------------------------------------------------------------------------


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
