"""jmapc and jmap-jam: list, write, send, send later and take back; swaks: write to who is away."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import jmapc
import pytest
import pytest_asyncio
from jmapc import methods

from mailserver.app.web import WebServer
from mailserver.auth.credentials import Authenticator
from mailserver.auth.tokens import Tokens
from mailserver.config import Listener
from mailserver.jmap.server import application
from mailserver.mail import aftermath, vacation
from mailserver.mail.context import Mail
from mailserver.model import Account, Vacation
from tests import oidc
from tests.conftest import PASSWORD
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import install, run
from tests.integration.conftest import Tls
from tests.integration.submissions.mailing import inbox, queue

FOLDER = Path(__file__).parent / "jam"


async def all_is_well() -> list[str]:
    return []


@pytest_asyncio.fixture
async def host(mail: Mail, tls: Tls, tokens: Tokens) -> AsyncIterator[str]:
    """Where JMAP is served over TLS."""
    authenticator = Authenticator(mail.database, passwords=mail.passwords, tokens=tokens)
    app = application(mail=mail, authenticator=authenticator, ready=all_is_well)
    server = WebServer(app, mail.config.http, tls.server)
    _, port = await server.start(Listener(port=0))
    yield f"localhost:{port}"
    app.drain()
    await server.stop(5)


def drive_jmapc(host: str, to: str) -> None:
    """Do what a program with jmapc does; blocks."""
    client = jmapc.Client.create_with_password(host, "alice@example.test", PASSWORD)
    found = client.request(methods.MailboxGet(ids=None))
    assert isinstance(found, methods.MailboxGetResponse)
    role = {each.role: each.id for each in found.data if each.id is not None}
    identities = client.request(methods.IdentityGet())
    assert isinstance(identities, methods.IdentityGetResponse)
    (identity,) = identities.data
    assert identity.email == "alice@example.test"
    assert (identity.reply_to, identity.bcc, identity.text_signature) == (None, None, "")

    def written(subject: str) -> methods.EmailSet:
        return methods.EmailSet(
            create={
                "draft": jmapc.Email(
                    mail_from=[jmapc.EmailAddress(name="Alice", email=identity.email)],
                    to=[jmapc.EmailAddress(email=to)],
                    subject=subject,
                    keywords={"$draft": True},
                    mailbox_ids={role["drafts"]: True},
                    body_values={"body": jmapc.EmailBodyValue(value="Hello from jmapc")},
                    text_body=[jmapc.EmailBodyPart(part_id="body", type="text/plain")],
                )
            }
        )

    sent: Any = client.request(
        [
            written("now"),
            methods.EmailSubmissionSet(
                on_success_update_email={
                    "#sent": {
                        "keywords/$draft": None,
                        f"mailboxIds/{role['drafts']}": None,
                        f"mailboxIds/{role['sent']}": True,
                    }
                },
                create={"sent": jmapc.EmailSubmission(identity_id=identity.id, email_id="#draft")},
            ),
        ]
    )
    assert [type(each.response).__name__ for each in sent] == [
        "EmailSetResponse", "EmailSubmissionSetResponse", "EmailSetResponse",
    ]  # fmt: skip
    submission = sent[1].response.created["sent"]
    assert submission.undo_status is jmapc.UndoStatus.FINAL
    assert submission.delivery_status[to].delivered is jmapc.Delivered.YES
    later: Any = client.request(
        [
            written("later"),
            methods.EmailSubmissionSet(
                create={
                    "later": jmapc.EmailSubmission(
                        identity_id=identity.id,
                        email_id="#draft",
                        envelope=jmapc.Envelope(
                            mail_from=jmapc.Address(
                                email=identity.email, parameters={"HOLDFOR": "600"}
                            ),
                            rcpt_to=[jmapc.Address(email=to)],
                        ),
                    )
                }
            ),
        ]
    )
    held = later[1].response.created["later"]
    assert held.undo_status is jmapc.UndoStatus.PENDING
    client.request(methods.EmailSubmissionSet(update={held.id: {"undoStatus": "canceled"}}))
    listed: Any = client.request(
        [
            methods.EmailSubmissionQuery(sort=[jmapc.Comparator(property="sentAt")]),
            methods.EmailSubmissionGet(ids=jmapc.Ref("/ids")),
        ]
    )
    assert [each.undo_status for each in listed[1].response.data] == [
        jmapc.UndoStatus.FINAL, jmapc.UndoStatus.CANCELED,
    ]  # fmt: skip


async def test_jmapc(
    mail: Mail, alice: Account, bob: Account, host: str, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls.ca))
    await asyncio.to_thread(drive_jmapc, host, bob.login)
    (raw,) = await inbox(mail, bob)
    assert raw.endswith(b"\r\n\r\nHello from jmapc")
    assert await queue(mail) == []


@pytest_asyncio.fixture(scope="session")
async def jam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and the package it needs."""
    folder = tmp_path_factory.mktemp("jam") / "client"
    shutil.copytree(FOLDER, folder)
    await install(folder)
    return folder


async def test_jmap_jam(
    mail: Mail, alice: Account, bob: Account, host: str, tls: Tls, issuer: oidc.Issuer, jam: Path
) -> None:
    told = await run(
        ["node", jam / "client.mjs", f"https://{host}/.well-known/jmap",
         issuer.token(alice.login), bob.login],
        environment={"NODE_EXTRA_CA_CERTS": str(tls.ca)},
    )  # fmt: skip
    listed, sent, undone = (json.loads(line) for line in told.splitlines())
    assert {"inbox", "drafts", "sent"} <= set(listed["roles"])
    assert listed["listed"]
    assert listed["identity"]["mayDelete"] is False
    assert sent["moved"] == 1
    assert sent["sent"]["deliveryStatus"][bob.login]["delivered"] == "yes"
    assert (undone["before"], undone["after"]) == ("pending", "canceled")
    (raw,) = await inbox(mail, bob)
    message = message_from_bytes(raw, policy=default)
    assert message["subject"] == "Grüße from jam"
    assert message["from"] == "Älice <alice@example.test>"
    assert message.get_content().strip() == "Hello 🍓"


async def test_swaks_hears_that_somebody_is_away(
    mail: Mail, alice: Account, bob: Account, server: Served
) -> None:
    async with mail.change(alice.id) as change:
        await vacation.put(change, Vacation(enabled=True, text_body="Back on monday."))
    responder = asyncio.create_task(aftermath.run(mail))
    told = mail.events.subscribe(bob.id, bob.modseq)
    try:
        await run(
            ["swaks", "--server", f"localhost:{server.submissions}", "--tls-on-connect",
             "--tls-ca-path", server.ca, "--auth", "PLAIN", "--auth-user", bob.login,
             "--auth-password", PASSWORD, "--from", bob.login, "--to", alice.login,
             "--header", "Subject: Lunch?", "--body", "Today?"],
        )  # fmt: skip
        await asyncio.wait_for(told.wait(), 60)
    finally:
        mail.events.unsubscribe(told)
        responder.cancel()
        await asyncio.gather(responder, return_exceptions=True)
    (raw,) = await inbox(mail, bob)
    reply: Any = message_from_bytes(raw, policy=default)
    assert reply["subject"] == "Auto: Lunch?"
    assert reply["auto-submitted"] == "auto-replied"
    assert reply.get_content().strip() == "Back on monday."
