"""Messages without NUL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mime import Part, decode_body, parse, textual

BINARY = (
    b"From: a@example.org\r\n"
    b"Mime-Version: 1.0\r\n"
    b"Content-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding:\r\n binary\r\n"
    b"\r\n"
    b"\0-\xff\r\n"
)
MIXED = (
    b"Content-Type: multipart/mixed; boundary=b\n"
    b"\n"
    b"--b\n"
    b"\n"
    b"no NUL\n"
    b"--b\n"
    b"Content-Type: message/rfc822\n"
    b"\n"
    b"Subject: inner\n"
    b"\n"
    b"a\0b\n"
    b"--b\n"
    b"\n"
    b"\0\n"
    b"--b--\n"
)


def test_one_part() -> None:
    assert textual(BINARY) == (
        b"From: a@example.org\r\n"
        b"Mime-Version: 1.0\r\n"
        b"Content-Type: application/octet-stream\r\n"
        b"Content-Transfer-Encoding: base64\r\n"
        b"\r\n"
        b"AC3/DQo=\r\n"
    )


def test_parts_keep_their_place_and_line_ends() -> None:
    assert textual(MIXED) == (
        b"Content-Type: multipart/mixed; boundary=b\n"
        b"\n"
        b"--b\n"
        b"\n"
        b"no NUL\n"
        b"--b\n"
        b"Content-Type: message/rfc822\n"
        b"\n"
        b"Subject: inner\n"
        b"Content-Transfer-Encoding: base64\n"
        b"\n"
        b"YQBi\n"
        b"--b\n"
        b"Content-Transfer-Encoding: base64\n"
        b"\n"
        b"AA==\n"
        b"--b--\n"
    )


def test_what_is_no_mime_becomes_it() -> None:
    assert textual(b"\r\na\0") == (
        b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\nYQA=\r\n"
    )


@pytest.mark.parametrize(
    "raw",
    [
        BINARY.replace(b"\0", b""),
        b"Subject: \0\r\n\r\nx",
        BINARY.replace(b"binary", b"base64"),
        BINARY.replace(b"application/octet-stream", b"multipart/mixed"),
        BINARY.replace(b"application/octet-stream", b"message/delivery-status"),
    ],
)
def test_left_alone(raw: bytes) -> None:
    assert textual(raw) == raw


@given(
    st.lists(
        st.sampled_from([BINARY, MIXED, b"\0", b"\n", b"\r\n", b"--b\n", b"--b--"])
        | st.integers(0, len(MIXED)).map(lambda cut: MIXED[cut:])
        | st.binary(max_size=8)
    ).map(b"".join)
)
def test_nothing_is_lost(raw: bytes) -> None:
    before = [_contents(raw, part) for part in parse(raw).parts]
    changed = textual(raw)
    assert [_contents(changed, part) for part in parse(changed).parts] == before


def _contents(raw: bytes, part: Part) -> bytes | None:
    if part.children or part.type in ("message", "multipart"):
        return None
    return decode_body(raw[part.body_start : part.body_end], part.encoding)
