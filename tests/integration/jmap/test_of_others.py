"""What somebody may see and leave behind in an account that another shares with them."""

import base64
from datetime import UTC, datetime

from mailserver.jmap.protocol.ids import account_text, mailbox_text
from mailserver.mail import delivery, mailboxes, rights
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import Account, RightsChange
from tests.integration.jmap.conftest import CORE, MAIL, Site

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
INNER = b"From: Carol <carol@example.org>\r\nSubject: Inner\r\n\r\nHello\r\n"


async def test_a_name_that_a_hidden_mailbox_has_is_taken_and_says_no_more(
    site: Site, mail: Mail, alice: Account, bob: Account
) -> None:
    (team,) = await mailboxes.create(mail, alice.id, "Team")
    (secret,) = await mailboxes.create(mail, alice.id, "Team/Secret")
    (shown,) = await mailboxes.create(mail, alice.id, "Team/Shown")
    give = rights.Identifier(bob.id, False)
    for each, text in ((team, "lrkx"), (secret, ""), (shown, "l")):
        await rights.modify(mail, alice.id, each.id, give, RightsChange.REPLACE, rights.parse(text))
    parent = mailbox_text(team.id)
    create = {name: {"name": name, "parentId": parent} for name in ("Secret", "Shown")}
    arguments = {"accountId": account_text(alice.id), "create": create}
    ((_, answer, _),) = await site.call(["Mailbox/set", arguments, "0"], login=bob.login)
    assert answer["notCreated"] == {
        "Secret": {"type": "alreadyExists"},
        "Shown": {"type": "alreadyExists", "existingId": mailbox_text(shown.id)},
    }


async def test_who_may_only_read_leaves_no_blob_behind(
    site: Site, mail: Mail, alice: Account, bob: Account
) -> None:
    raw = (
        b"From: Carol <carol@example.org>\r\nSubject: Outer\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    ) + base64.encodebytes(INNER).replace(b"\n", b"\r\n")
    await delivery.accept(mail, raw, [Target(alice.id)], received_at=NOW)
    inbox = await mailboxes.by_path(mail, alice.id, "INBOX")
    give = rights.Identifier(bob.id, False)
    theirs = account_text(alice.id)

    async def parse() -> None:
        ((_, found, _), (_, answer, _)) = await site.call(
            ["Email/query", {"accountId": theirs}, "0"],
            ["Email/get", {
                "accountId": theirs, "properties": ["bodyStructure"],
                "#ids": {"resultOf": "0", "name": "Email/query", "path": "/ids"},
            }, "1"],
            login=bob.login,
        )  # fmt: skip
        assert found["ids"]
        blob = answer["list"][0]["bodyStructure"]["blobId"]
        arguments = {"accountId": theirs, "blobIds": [blob], "properties": ["subject"]}
        ((_, answer, _),) = await site.call(
            ["Email/parse", arguments, "0"], using=[CORE, MAIL], login=bob.login
        )
        assert answer["parsed"][blob]["subject"] == "Inner"

    async def uploads() -> int:
        count = await mail.database.fetchval(
            "SELECT count(*) FROM upload WHERE account_id = $1", alice.id
        )
        return int(count)

    for text, left in (("lr", 0), ("lri", 1)):
        await rights.modify(
            mail, alice.id, inbox.id, give, RightsChange.REPLACE, rights.parse(text)
        )
        await parse()
        assert await uploads() == left
