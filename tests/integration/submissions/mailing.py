"""What tests of submissions do again and again."""

from datetime import UTC, datetime
from typing import Any

from mailserver.mail import (
    content,
    delivery,
    mailboxes,
)
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import Account, Flags, Role
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
