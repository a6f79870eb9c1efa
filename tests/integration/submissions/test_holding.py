"""Mail that is held, and what can be taken back."""

from datetime import datetime, timedelta

from mailserver.mail.context import Mail
from mailserver.model import Account, QueueState
from tests.integration.submissions.conftest import Client
from tests.integration.submissions.mailing import (
    SUBMISSION,
    draft,
    held,
    inbox,
    letter,
    queue,
    submit,
)


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
