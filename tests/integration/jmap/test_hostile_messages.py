"""Messages made to cost much: Email/parse and Email/import bound what they do with them."""

import time
from typing import Any

import orjson
import pytest

from mailserver.jmap.protocol.ids import account_text, blob_text
from mailserver.mail import mailboxes, uploads
from mailserver.mail.context import Mail
from mailserver.model import Account, IdKind, id_text
from tests.integration.jmap.test_any_arguments import new_session, run

SECONDS = 20.0  # on a machine that does much else
EVERYTHING = [
    "subject", "from", "headers", "bodyStructure", "textBody", "htmlBody", "attachments",
    "bodyValues", "preview", "hasAttachment", "header:References:asMessageIds",
]  # fmt: skip


def nested(depth: int) -> bytes:
    """Return multiparts in multiparts."""
    heads = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
        for level in range(depth)
    )
    return b"Subject: x\r\n" + heads + b"\r\ninnermost"


def in_messages(depth: int) -> bytes:
    """Return messages in messages."""
    return b"Subject: x\r\nContent-Type: message/rfc822\r\n\r\n" * depth + b"Subject: y\r\n\r\nz"


HOSTILE = {
    "multiparts in multiparts": nested(20_000),
    "messages in messages": in_messages(20_000),
    "many parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    + b"--b\r\n\r\nx\r\n" * 100_000,
    "one boundary for all": (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" * 20_000
    ),
    "many fields": b"".join(b"X-%d: y\r\n" % number for number in range(100_000)) + b"\r\n",
    "one long field": b"References: " + b"<a@b> " * 400_000 + b"\r\n\r\n",
    "addresses": b"From: " + b'((("<a@b>, ' * 100_000 + b"\r\n\r\n",
    "encoded words": b"Subject: " + b"=?utf-8?q?=C3=A9?= " * 100_000 + b"\r\n\r\n",
    "html": b"Subject: x\r\nContent-Type: text/html\r\n\r\n" + b"<div>" * 300_000,
    "controls": b"Subject: \0\x01\xff\r\n\r\n\0\0\0",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_messages_are_read_in_bounded_time(
    mail: Mail, alice: Account, name: str
) -> None:
    account = account_text(alice.id)
    blob = blob_text(await uploads.store(mail, alice.id, HOSTILE[name]))
    inbox = await mailboxes.by_path(mail, alice.id, "INBOX")
    place = id_text(IdKind.MAILBOX, inbox.id)
    asked = {"accountId": account, "properties": EVERYTHING, "fetchAllBodyValues": True}
    started = time.perf_counter()
    responses = await run(
        new_session(mail, alice),
        ["Email/parse", {**asked, "blobIds": [blob]}, "0"],
        ["Email/import", {"accountId": account, "emails": {
            "a": {"blobId": blob, "mailboxIds": {place: True}}}}, "1"],
        ["Email/get", {**asked, "ids": ["#a"]}, "2"],
    )  # fmt: skip
    assert time.perf_counter() - started < SECONDS
    parsed, imported, got = (answer for _, answer, _ in responses)
    assert imported["notCreated"] is None
    shown: dict[str, Any] = got["list"][0]
    for property_name in ("subject", "from", "preview", "hasAttachment", "bodyValues"):
        one, other = parsed["parsed"][blob][property_name], shown[property_name]
        assert orjson.dumps(one) == orjson.dumps(other), property_name


async def test_a_message_is_not_blown_up(mail: Mail, alice: Account) -> None:
    account = account_text(alice.id)
    inbox = await mailboxes.by_path(mail, alice.id, "INBOX")
    place = id_text(IdKind.MAILBOX, inbox.id)
    blob = blob_text(await uploads.store(mail, alice.id, b"x" * 1_000_000))
    many = [{"blobId": blob, "type": "image/png"}] * 900
    text = {"t": {"value": "x" * 100_000}}
    parts = {"type": "multipart/mixed", "subParts": [{"partId": "t"}] * 900}
    ((_, answer, _),) = await run(
        new_session(mail, alice),
        ["Email/set", {"accountId": account, "create": {
            "a": {"mailboxIds": {place: True}, "attachments": many},
            "b": {"mailboxIds": {place: True}, "bodyStructure": parts, "bodyValues": text},
        }}, "0"],
    )  # fmt: skip
    assert answer["notCreated"] == {"a": {"type": "tooLarge"}, "b": {"type": "tooLarge"}}
    assert answer["oldState"] == answer["newState"]
