"""Who gets an automatic reply, and what it looks like."""

from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.address import parse_address
from mailserver.mail import autoreply
from mailserver.mime import HeaderBlock
from mailserver.model import Vacation

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
OWN = ["alice@example.test", "sales@example.test"]


def block(*fields: str) -> HeaderBlock:
    return HeaderBlock("".join(f"{each}\r\n" for each in (*fields, "")).encode())


@pytest.mark.parametrize(
    ("vacation", "due"),
    [
        (Vacation(), False),
        (Vacation(enabled=True), True),
        (Vacation(enabled=True, from_date=NOW), True),
        (Vacation(enabled=True, from_date=NOW + timedelta(seconds=1)), False),
        (Vacation(enabled=True, to_date=NOW), False),
        (Vacation(enabled=True, to_date=NOW + timedelta(seconds=1)), True),
    ],
)
def test_the_dates_bound_what_is_answered(vacation: Vacation, due: bool) -> None:
    assert autoreply.is_due(vacation, NOW) is due


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nobody",
        "MAILER-DAEMON@example.org",
        "owner-list@example.org",
        "list-owner@example.org",
        "list-request@example.org",
        "list-bounces@example.org",
        "list-bounces+alice=example.test@example.org",
        "bounce-1234@example.org",
        "noreply@example.org",
        "no-reply@example.org",
        "do-not-reply@example.org",
        "donotreply@example.org",
        "service.no-reply@example.org",
        "LISTSERV@example.org",
        "majordomo@example.org",
        "alice@example.test",
        "Alice+x@Example.Test",
    ],
)
def test_robots_and_oneself_are_not_answered(path: str) -> None:
    assert autoreply.sender_of(path, OWN, "+") is None


@pytest.mark.parametrize("path", ["bob@example.test", "owner@example.org", "reply@example.org"])
def test_people_are_answered(path: str) -> None:
    assert autoreply.sender_of(path, OWN, "+") == parse_address(path)


@pytest.mark.parametrize(
    ("field", "personal"),
    [
        ("Subject: hello", True),
        ("Auto-Submitted: no", True),
        ("Auto-Submitted: NO (a person)", True),
        ("Auto-Submitted: auto-generated", False),
        ("Auto-Submitted: auto-replied; owner-email=x", False),
        ("Precedence: bulk", False),
        ("Precedence: list", False),
        ("Precedence: junk", False),
        ("Precedence: first-class", True),
        ("List-Id: <x.example.org>", False),
        ("list-unsubscribe: <mailto:x@example.org>", False),
        ("X-Auto-Response-Suppress: DR, OOF, AutoReply", False),
        ("X-Auto-Response-Suppress: DR", True),
    ],
)
def test_what_no_person_wrote_is_not_answered(field: str, personal: bool) -> None:
    assert autoreply.is_personal(block("From: bob@example.org", field)) is personal


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (["To: Alice <ALICE@example.test>"], "alice@example.test"),
        (["To: x@example.org", "Cc: y@example.org, sales@example.test"], "sales@example.test"),
        (["Bcc: alice+news@example.test"], "alice+news@example.test"),
        (["To: x@example.org", "Resent-To: alice@example.test"], "alice@example.test"),
        (["To: undisclosed-recipients:;"], None),
        (["To: bob@example.test"], None),
        ([], None),
    ],
)
def test_only_who_is_addressed_answers(fields: list[str], found: str | None) -> None:
    expected = None if found is None else parse_address(found)
    assert autoreply.addressed(block("From: a@b.test", *fields), OWN, "+") == expected


def test_a_catch_all_answers_for_its_whole_domain() -> None:
    header = block("To: anybody@example.net")
    assert autoreply.addressed(header, ["@example.net"], "+") == parse_address(
        "anybody@example.net"
    )


def composed(vacation: Vacation, *fields: str) -> bytes:
    return autoreply.compose(
        vacation,
        block(*fields),
        name="Älice",
        own=parse_address("alice@example.test"),
        sender=parse_address("bob@example.org"),
        now=NOW,
        message_id="1@mail.example.test",
    )


def test_the_reply_names_what_it_answers() -> None:
    raw = composed(
        Vacation(enabled=True, text_body="Away until\nmonday — really."),
        "Message-ID: <m2@example.org>",
        "References: <m0@example.org> <m1@example.org>",
        "Subject: =?utf-8?q?Caf=C3=A9?=",
    )
    reply = message_from_bytes(raw, policy=default)
    assert reply["subject"] == "Auto: Café"
    assert reply["from"] == "Älice <alice@example.test>"
    assert reply["to"] == "bob@example.org"
    assert reply["in-reply-to"] == "<m2@example.org>"
    assert reply["references"] == "<m0@example.org> <m1@example.org> <m2@example.org>"
    assert reply["auto-submitted"] == "auto-replied"
    assert reply["date"] == "Thu, 26 Nov 2026 12:00:00 +0000"
    assert reply.get_content_type() == "text/plain"
    assert reply.get_content() == "Away until\r\nmonday — really.\r\n"
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert raw.isascii()


def test_both_bodies_are_alternatives_and_html_alone_gets_a_text() -> None:
    reply = message_from_bytes(
        composed(
            Vacation(enabled=True, subject="Out", html_body="<p>Gone <b>fishing</b></p>Bye<br>A")
        ),
        policy=default,
    )
    assert reply["subject"] == "Out"
    assert reply.get_content_type() == "multipart/alternative"
    text, html = reply.iter_parts()
    assert text.get_content() == "Gone fishing\r\nBye\r\nA\r\n"
    assert html.get_content() == "<p>Gone <b>fishing</b></p>Bye<br>A\r\n"


def test_there_are_defaults_for_everything() -> None:
    reply = message_from_bytes(composed(Vacation(enabled=True)), policy=default)
    assert reply["subject"] == autoreply.DEFAULT_SUBJECT
    assert reply.get_content().startswith("This is an automatic reply.")
    assert "in-reply-to" not in reply


@given(
    subject=st.none() | st.text(max_size=300),
    body=st.none() | st.text(max_size=300),
    fields=st.binary(max_size=200),
)
def test_nothing_forges_a_header(subject: str | None, body: str | None, fields: bytes) -> None:
    header = HeaderBlock(b"Subject: " + fields + b"\r\nMessage-ID: " + fields + b"\r\n\r\n")
    raw = autoreply.compose(
        Vacation(enabled=True, subject=subject, text_body=body, html_body=body),
        header,
        name=subject or "",
        own=parse_address("alice@example.test"),
        sender=parse_address("bob@example.org"),
        now=NOW,
        message_id="1@mail.example.test",
    )
    names = [field.name.lower() for field in HeaderBlock(raw)]
    assert names.count("to") == names.count("from") == names.count("auto-submitted") == 1
    assert set(names) <= {
        "from", "to", "subject", "date", "message-id", "in-reply-to", "references",
        "auto-submitted", "x-auto-response-suppress", "mime-version", "content-type",
        "content-transfer-encoding",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sender", "shown"),
    [
        ("jürgen@example.org", "jürgen@example.org"),
        ("jürgen@münchen.example", "jürgen@xn--mnchen-3ya.example"),
        ('"a b"@example.org', '"a b"@example.org'),
    ],
)
def test_every_address_that_mail_comes_from_can_be_answered(sender: str, shown: str) -> None:
    reply = autoreply.compose(
        Vacation(enabled=True, text_body="Away"),
        block("Subject: hello"),
        name="Älice",
        own=parse_address(OWN[0]),
        sender=parse_address(sender),
        now=NOW,
        message_id="reply@example.test",
    )
    assert f"To: {shown}\r\n".encode() in reply
    head, _, _ = reply.partition(b"\r\n\r\n")
    assert head.isascii() == ("jürgen" not in sender)
