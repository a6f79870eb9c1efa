"""What is signed, by the examples of RFC 6376 and by another's verifier."""

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mime.dkim import draft, record, relaxed_body, relaxed_field, simple_body


def test_the_example_of_the_rfc() -> None:
    # RFC 6376 §3.4.5
    assert relaxed_field("A", b" X") == b"a:X"
    assert relaxed_field("B ", b" Y\t\r\n\tZ  ") == b"b :Y Z"
    assert relaxed_body(b" C \r\nD \t E\r\n\r\n\r\n") == b" C\r\nD E\r\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b"  \t\r\n", b""),
        (b"a", b"a\r\n"),
        (b"a \t", b"a\r\n"),
        (b"a\r\n\r\nb\r\n\r\n", b"a\r\n\r\nb\r\n"),
    ],
)
def test_bodies(body: bytes, expected: bytes) -> None:
    assert relaxed_body(body) == expected


def test_blanks_without_end_cost_no_more_than_their_length() -> None:
    assert relaxed_body(b" " * 1_000_000 + b"x") == b" x\r\n"
    assert relaxed_body(b"\r\n" * 500_000) == b""


@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b".", b"  "]), max_size=20))
def test_bodies_are_as_in_another_implementation(parts: list[bytes]) -> None:
    body = b"".join(parts) + b"\r\n"
    assert relaxed_body(body) == Relaxed.canonicalize_body(body)
    assert simple_body(body) == Simple.canonicalize_body(body)


def test_fields_are_signed_once_more_than_they_are_there() -> None:
    found = draft(b"From: a@b\r\nReceived: x\r\nTo: c\r\nTo: d\r\n\r\n").names
    assert found.count("from") == 2
    assert found.count("to") == 3
    assert found.count("subject") == 1
    assert "received" not in found


def test_records() -> None:
    assert record("rsa-sha256", "AAA") == "v=DKIM1; k=rsa; p=AAA"
    assert record("ed25519-sha256", "AAA") == "v=DKIM1; k=ed25519; p=AAA"
