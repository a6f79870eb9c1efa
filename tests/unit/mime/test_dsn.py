"""Delivery status notifications, read back by the standard library."""

import email
import re
from datetime import UTC, datetime
from email.policy import default
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mailserver.mime.dsn import Action, RecipientReport, Report, compose

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ORIGINAL = (
    b"From: a@example.test\r\nSubject: Hello\r\n world\r\n"
    b"Message-ID: <1@example.test>\r\n\r\nbody\r\n"
)


def recipient(address: str = "b@example.org", **changes: object) -> RecipientReport:
    values: dict[str, object] = {
        "address": address,
        "status": "5.1.1",
        "reply": "550 5.1.1 no such user",
        "remote": "mx.example.org [192.0.2.1]",
        "orcpt": "rfc822;b+2Bx@example.org",
        "last_attempt": NOW,
        "retry_until": NOW,
    }
    return RecipientReport(**(values | changes))  # type: ignore[arg-type]


def report(action: Action = Action.FAILED, **changes: object) -> Report:
    values: dict[str, object] = {
        "action": action,
        "hostname": "mail.example.test",
        "to": "a@example.test",
        "recipients": [recipient()],
        "arrived_at": NOW,
        "date": NOW,
        "token": "abc",
        "envid": "QQ+2B1",
        "original": ORIGINAL,
        "full": False,
    }
    return Report(**(values | changes))  # type: ignore[arg-type]


def parsed(raw: bytes) -> Any:
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    return email.message_from_bytes(raw, policy=default)


def test_a_failure_in_the_form_of_the_rfc() -> None:
    message = parsed(compose(report()))
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@mail.example.test>"
    assert message["To"] == "a@example.test"
    assert message["Subject"] == "Undeliverable: Hello world"
    assert message["In-Reply-To"] == "<1@example.test>"
    assert message["Auto-Submitted"] == "auto-replied"
    text, status, returned = message.get_payload()
    assert "mx.example.org [192.0.2.1] said: 550 5.1.1 no such user" in " ".join(
        str(text.get_payload()).split()
    )
    assert status.get_content_type() == "message/delivery-status"
    of_message, of_recipient = status.get_payload()
    assert dict(of_message.items()) == {
        "Original-Envelope-Id": "QQ+1",
        "Reporting-MTA": "dns; mail.example.test",
        "Arrival-Date": "Thu, 26 Nov 2026 12:00:00 +0000",
    }
    assert dict(of_recipient.items()) == {
        "Original-Recipient": "rfc822; b+x@example.org",
        "Final-Recipient": "rfc822; b@example.org",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.org [192.0.2.1]",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
        "Last-Attempt-Date": "Thu, 26 Nov 2026 12:00:00 +0000",
    }
    assert returned.get_content_type() == "text/rfc822-headers"
    assert "body" not in str(returned.get_payload())


def test_the_whole_message_goes_back_when_asked_for() -> None:
    message = parsed(compose(report(full=True)))
    (original,) = message.get_payload()[2].get_payload()
    assert original["Message-ID"] == "<1@example.test>"
    assert original.get_payload() == "body\r\n"


def test_a_delay_says_until_when_it_is_tried() -> None:
    message = parsed(compose(report(Action.DELAYED)))
    assert message["Subject"] == "Delayed: Hello world"
    group = message.get_payload()[1].get_payload()[1]
    assert group["Action"] == "delayed"
    assert group["Will-Retry-Until"] == "Thu, 26 Nov 2026 12:00:00 +0000"


def test_internationalised_addresses_have_types_of_their_own() -> None:
    raw = compose(report(recipients=[recipient("grün@example.org", orcpt=None)], full=True))
    message = parsed(raw)
    assert [part.get_content_type() for part in message.get_payload()] == [
        "text/plain",
        "message/global-delivery-status",
        "message/global",
    ]
    assert "Final-Recipient: utf-8; grün@example.org\r\n".encode() in raw


def test_a_report_without_its_message() -> None:
    message = parsed(compose(report(original=b"", envid=None)))
    assert len(message.get_payload()) == 2
    assert message["Subject"] == "Undeliverable"


def test_no_control_character_of_a_reply_is_repeated() -> None:
    reply = "550 no\x00such\x1b[31m \x7fuser\x85 here\r\n.\r\nAction: delivered"
    raw = compose(report(recipients=[recipient(reply=reply)], original=b""))
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]", raw.decode())
    assert b"said: 550 no such [31m user" in b" ".join(raw.split())


@given(st.text(max_size=80), st.text(max_size=80), st.binary(max_size=200))
def test_nothing_that_others_said_adds_a_field(reply: str, orcpt: str, original: bytes) -> None:
    raw = compose(
        report(recipients=[recipient(reply=reply, orcpt=f"rfc822;{orcpt}")], original=original)
    )
    header, _, _ = raw.partition(b"\r\n\r\n")
    names = [line.split(b":")[0] for line in header.split(b"\r\n") if line[:1] not in b" \t"]
    assert len(names) == len(set(names))
    assert set(names) <= {
        b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"MIME-Version",
        b"Content-Type", b"Content-Transfer-Encoding", b"In-Reply-To", b"References",
    }  # fmt: skip
    status = raw.split(b"delivery-status\r\n")[1].split(b"\r\n\r\n--=_abc")[0]
    assert status.count(b"\r\nAction: ") == 1
