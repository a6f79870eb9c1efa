"""What is done to the header of a submitted message."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.mail.originals import Original, Unsendable

NOW = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)
DATE = b"Date: Tue, 24 Nov 2026 10:30:00 +0000\r\n"
MESSAGE_ID = b"Message-ID: <1@example.test>\r\n"


def finished(content: bytes) -> bytes:
    return Original(content).finished(date=NOW, message_id="1@example.test")


def test_what_is_missing_is_added() -> None:
    assert finished(b"From: a@b.test\r\n\r\nx") == DATE + MESSAGE_ID + b"From: a@b.test\r\n\r\nx"


def test_what_is_there_stays() -> None:
    content = b"date: yesterday\r\nMESSAGE-ID: <x@y>\r\nFrom: a@b.test\r\n\r\nDate: no\r\n"
    assert finished(content) == content


def test_bcc_goes_with_its_folded_lines_and_only_from_the_header() -> None:
    content = (
        b"Date: x\r\nBcc: a@b.test,\r\n\tc@d.test\r\nMessage-ID: <1@2>\r\nBCC: e@f.test\r\n"
        b"Subject: s\r\n\r\nBcc: body\r\n"
    )
    assert finished(content) == (b"Date: x\r\nMessage-ID: <1@2>\r\nSubject: s\r\n\r\nBcc: body\r\n")


@pytest.mark.parametrize(
    ("header", "authors"),
    [
        (b"From: a@b.test\r\n", ["a@b.test"]),
        (
            b"From: A <A@B.test>, c@d.test\r\nSender: a@b.test\r\n",
            ["a@b.test", "c@d.test", "a@b.test"],
        ),
        (b"FROM:\r\n =?utf-8?q?a?=\r\n <a@b.test>\r\n", ["a@b.test"]),
        (b"From: friends: a@b.test, c@d.test;\r\n", ["a@b.test", "c@d.test"]),
        (b'From: "x@y.test" <a@b.test>\r\n', ["a@b.test"]),
    ],
)
def test_authors(header: bytes, authors: list[str]) -> None:
    assert [str(author) for author in Original(header + b"\r\nbody").authors()] == authors


@pytest.mark.parametrize(
    "header",
    [
        b"Subject: nobody\r\n",
        b"From: a@b.test\r\nFrom: c@d.test\r\n",
        b"From: a@b.test\r\nSender: a@b.test\r\nSender: c@d.test\r\n",
        b"From: undisclosed:;\r\n",
        b"From: nobody\r\n",
        b"From: \xff@b.test\r\n",
    ],
)
def test_a_message_without_one_author_field_is_refused(header: bytes) -> None:
    with pytest.raises(Unsendable):
        Original(header + b"\r\nbody").authors()


@pytest.mark.parametrize("content", [b"", b"\r\nbody", b"no header\r\n\r\n"])
def test_a_message_without_header_is_refused(content: bytes) -> None:
    with pytest.raises(Unsendable):
        Original(content)


fields = st.lists(
    st.sampled_from([b"From: a@b.test\r\n", b"Bcc: x@y.test\r\n", b"Date: x\r\n", b"X: \r\n y\r\n"])
    | st.binary(max_size=8),
    max_size=10,
).map(b"".join)


@settings(max_examples=200)
@given(fields)
def test_any_message_is_refused_or_ends_with_all_that_is_not_bcc(header: bytes) -> None:
    content = header + b"\r\n\r\nthe body\r\n"
    try:
        result = finished(content)
    except Unsendable:
        return
    assert result.endswith(b"the body\r\n")
    assert Original(result).finished(date=NOW, message_id="other") == result
