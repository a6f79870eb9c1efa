"""Submissions, down to what recipients and the queue get."""

from typing import Any

import pytest

from mailserver.mail import (
    accounts,
    sending,
    submissions,
)
from mailserver.mail.context import Mail
from mailserver.mail.originals import Original
from mailserver.model import Account, AccountId
from tests.integration.submissions.conftest import Client
from tests.integration.submissions.mailing import (
    SUBMISSION,
    draft,
    identity,
    inbox,
    letter,
    queue,
    submit,
)


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
        (letter(), {"envelope": {
            "mailFrom": {"email": "", "parameters": {"HOLDFOR": "600", "BY": "60;R"}},
            "rcptTo": [{"email": "bob@example.test"}],
        }}, {
            "type": "invalidProperties", "properties": ["envelope"],
            "description": "the message would go back before it is released",
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
