"""Runs tests/transcript/jmap/*.json: requests and the responses they must get.

A string `{name}` in an expected response binds what is there the first time and must be equal ever
after; in a request it is replaced. `{*}` is anything. `{alice}` is the account; a message that is
given as `name` binds `{name}`, `{name.thread}` and `{name.blob}`; every mailbox of the account is
bound by its path in lower case. `as` is the login that asks, `share` gives bob rights on mailboxes
of alice, and `upload` binds blobs of hers. An object in a response may have no keys but those
expected.
"""

import base64
import json
import re
from collections.abc import AsyncIterator, MutableMapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mailserver.auth.credentials import Authenticator
from mailserver.jmap.protocol.ids import (
    account_text,
    blob_text,
    email_text,
    mailbox_text,
    thread_text,
)
from mailserver.jmap.server import Application, application
from mailserver.mail import delivery, mailboxes, messages, rights, uploads
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import Account, FlagChange, Flags, RightsChange

TRANSCRIPTS = sorted((Path(__file__).parent / "jmap").glob("*.json"))
PASSWORD = "correct horse"
WHOLE = re.compile(r"\{([a-z0-9_.*/-]+)\}")

Binds = dict[str, Any]


async def all_is_well() -> list[str]:
    return []


@pytest_asyncio.fixture
async def app(mail: Mail) -> AsyncIterator[Application]:
    yield application(
        mail=mail,
        authenticator=Authenticator(mail.database, passwords=mail.passwords),
        ready=all_is_well,
    )


async def post(app: Application, login: str, body: bytes) -> tuple[int, Any]:
    """Send one API request through the application, without a socket."""
    credentials = base64.b64encode(f"{login}:{PASSWORD}".encode())
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/jmap/api",
        "client": ("127.0.0.1", 1),
        "headers": [
            (b"host", b"mail.example.test"),
            (b"content-type", b"application/json"),
            (b"authorization", b"Basic " + credentials),
        ],
    }
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(each.get("body", b"") for each in sent[1:]))


def filled(value: Any, binds: Binds) -> Any:
    """Replace every `{name}` by what it is bound to."""
    if isinstance(value, dict):
        return {filled(name, binds): filled(each, binds) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, binds) for each in value]
    if isinstance(value, str):
        found = WHOLE.fullmatch(value)
        if found:
            return binds[found[1]]
        return WHOLE.sub(lambda part: str(binds[part[1]]), value)
    return value


def differences(expected: Any, actual: Any, binds: Binds, where: str = "") -> list[str]:
    """Return where `actual` is not what was expected; bind names on the way."""
    if isinstance(expected, str) and (found := WHOLE.fullmatch(expected)):
        name = found[1]
        if name == "*":
            return []
        if name not in binds:
            binds[name] = actual
        return [] if binds[name] == actual else [f"{where}: {actual!r} is not {expected}"]
    if isinstance(expected, dict) and isinstance(actual, dict):
        wanted = {filled(name, binds): each for name, each in expected.items()}
        if wanted.keys() != actual.keys():
            return [f"{where}: keys {sorted(actual)} are not {sorted(wanted)}"]
        return [
            line
            for name in wanted
            for line in differences(wanted[name], actual[name], binds, f"{where}/{name}")
        ]
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return [f"{where}: {actual!r} has not {len(expected)} items"]
        return [
            line
            for index, (one, other) in enumerate(zip(expected, actual, strict=True))
            for line in differences(one, other, binds, f"{where}/{index}")
        ]
    same = expected == actual and type(expected) is type(actual)
    return [] if same else [f"{where}: {actual!r} is not {expected!r}"]


async def mailbox_of(mail: Mail, account: Account, path: str) -> Any:
    for mailbox in await mailboxes.list_all(mail, account.id):
        if mailbox.path.lower() == path.lower():
            return mailbox
    (*_, made) = await mailboxes.create(mail, account.id, path)
    return made


async def deliver(mail: Mail, account: Account, given: dict[str, Any], binds: Binds) -> None:
    mailbox = await mailbox_of(mail, account, given.get("mailbox", "INBOX"))
    binds[mailbox.path.lower()] = mailbox_text(mailbox.id)
    raw = "\r\n".join(given["message"]).encode()
    if "repeat" in given:
        raw += b"x" * given["repeat"]
    accepted = await delivery.accept(
        mail,
        raw,
        [Target(account.id, mailbox.id, Flags.of_keywords(given.get("keywords", ())))],
        received_at=datetime.fromisoformat(given["received"]),
    )
    (one,) = accepted.delivered
    name = given["name"]
    binds[name] = email_text(one.email_id)
    binds[f"{name}.thread"] = thread_text(one.thread_id)
    binds[f"{name}.blob"] = blob_text(one.blob_id)
    binds[f"{name}.uid"] = (one.mailbox_id, one.uid)


async def act(mail: Mail, account: Account, step: dict[str, Any], binds: Binds) -> None:
    """Change the account behind the client's back, as delivery and IMAP do."""
    for given in step.get("deliver", ()):
        await deliver(mail, account, given, binds)
    for name, flags in step.get("flag", {}).items():
        mailbox, uid = binds[f"{name}.uid"]
        await messages.store(mail, account.id, mailbox, [uid], FlagChange.REPLACE, Flags.of(flags))
    for name in step.get("expunge", ()):
        mailbox, uid = binds[f"{name}.uid"]
        deleted = Flags.of(["\\Deleted"])
        await messages.store(mail, account.id, mailbox, [uid], FlagChange.ADD, deleted)
        assert await messages.expunge(mail, account.id, mailbox, [uid]) == [uid]
    for name, path in step.get("move", {}).items():
        mailbox, uid = binds[f"{name}.uid"]
        target = await mailbox_of(mail, account, path)
        await messages.move(mail, account.id, mailbox, [uid], target.id)
        binds[target.path.lower()] = mailbox_text(target.id)
    for name, lines in step.get("upload", {}).items():
        blob = await uploads.store(mail, account.id, "\r\n".join(lines).encode())
        binds[name] = blob_text(blob)
    for path, letters in step.get("share", {}).items():
        found = await mailbox_of(mail, account, path)
        bob = await rights.identify(mail, "bob@example.test")
        given = rights.parse(letters)
        await rights.modify(mail, account.id, found.id, bob, RightsChange.REPLACE, given)
        binds[found.path.lower()] = mailbox_text(found.id)
    for name, path in step.get("copy", {}).items():
        mailbox, uid = binds[f"{name}.uid"]
        target = await mailbox_of(mail, account, path)
        await messages.copy(mail, account.id, mailbox, [uid], target.id)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
async def test_transcript(
    app: Application, mail: Mail, alice: Account, bob: Account, path: Path
) -> None:
    transcript = json.loads(path.read_text())
    binds: Binds = {
        "alice": account_text(alice.id),
        "bob": account_text(bob.id),
        "login": alice.login,
    }
    for mailbox in await mailboxes.list_all(mail, alice.id):
        binds[mailbox.path.lower()] = mailbox_text(mailbox.id)
    for number, step in enumerate(transcript["steps"], 1):
        await act(mail, alice, step, binds)
        if "calls" not in step and "raw" not in step:
            continue
        if "raw" in step:
            body = step["raw"].encode()
        else:
            using = step.get("using", ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"])
            request = {"using": using, "methodCalls": filled(step["calls"], binds)}
            body = json.dumps({**request, **step.get("with", {})}).encode()
        status, answer = await post(app, step.get("as", alice.login), body)
        assert status == step.get("status", 200), answer
        if status != 200:
            assert differences(step["problem"], answer, binds) == [], f"step {number}"
            continue
        responses = answer["methodResponses"]
        found = differences(step["responses"], responses, binds)
        assert found == [], f"step {number}: {json.dumps(responses, indent=1)}"
