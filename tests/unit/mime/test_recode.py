"""8-bit mail for servers that take 7 bits: what it says does not change."""

import email
from email.message import EmailMessage
from email.policy import SMTP, default
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mime.recode import has_long_lines, to_seven_bit


def letter(text: str, attachment: bytes = b"") -> bytes:
    message = EmailMessage(policy=SMTP.clone(cte_type="8bit"))
    message["From"] = "a@example.test"
    message["Subject"] = "x"
    message.set_content(text, cte="8bit")
    if attachment:
        message.add_attachment(
            attachment, maintype="application", subtype="octet-stream", filename="x"
        )
    return message.as_bytes()


def parsed(raw: bytes) -> Any:
    return email.message_from_bytes(raw, policy=default)


def test_text_becomes_quoted_printable() -> None:
    raw = to_seven_bit(letter("grün ist die Farbe\nvon Gras und Laub, . und\n.\n"))
    assert raw is not None
    assert raw.isascii()
    message = parsed(raw)
    assert message["Content-Transfer-Encoding"] == "quoted-printable"
    assert message.get_content() == "grün ist die Farbe\r\nvon Gras und Laub, . und\r\n.\r\n"


def test_only_what_needs_it_changes() -> None:
    before = letter("日本語の手紙です", b"\x00\x01\x02" * 100)
    after = to_seven_bit(before)
    assert after is not None
    text, attachment = parsed(after).iter_parts()
    assert text["Content-Transfer-Encoding"] == "base64"
    assert text.get_content() == "日本語の手紙です\r\n"
    assert attachment.get_content() == b"\x00\x01\x02" * 100
    plain = letter("plain")
    assert to_seven_bit(plain) == plain


def test_mail_without_mime_says_what_it_is() -> None:
    raw = to_seven_bit(b"From: a@example.test\r\n\r\ngr\xfcn\r\n")
    assert raw is not None
    assert b"\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n" in raw
    assert parsed(raw).get_payload(decode=True) == b"gr\xfcn\r\n"


def test_text_around_the_parts_is_cleaned() -> None:
    raw = to_seven_bit(
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\npr\xc3\xa4\r\n--b\r\n\r\none\r\n--b--\r\n\xc3\r\n"
    )
    assert raw is not None
    assert b"Content-Transfer-Encoding: 7bit" in raw
    assert b"pr??\r\n--b" in raw


@pytest.mark.parametrize(
    "raw",
    [
        "Subject: grün\r\n\r\nx\r\n".encode(),
        "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\ngrün\r\n--b--\r\n".encode(),
    ],
)
def test_what_cannot_be_changed_is_left(raw: bytes) -> None:
    assert to_seven_bit(raw) is None


def test_long_lines_become_short() -> None:
    raw = b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 5000 + b"\r\n"
    assert has_long_lines(raw)
    short = to_seven_bit(raw)
    assert short is not None
    assert not has_long_lines(short)
    assert parsed(short).get_content() == "x" * 5000 + "\r\n"


@given(st.binary(max_size=400))
def test_any_octets_are_converted_or_not(body: bytes) -> None:
    result = to_seven_bit(b"Subject: x\r\n\r\n" + body)
    assert result is None or result.isascii()
