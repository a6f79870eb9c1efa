"""Identities: one for each address that may send."""

from mailserver.mail import (
    accounts,
)
from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.submissions.conftest import Client
from tests.integration.submissions.mailing import identity


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
