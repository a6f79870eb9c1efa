"""Addresses and their one normal form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.address import Address, normal_domain, parse_address
from mailserver.errors import Invalid


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Alice@Example.TEST", "alice@example.test"),
        ("alice@example.test.", "alice@example.test"),
        ('"Alice B"@example.test', "alice b@example.test"),
        (r'"a\"b"@example.test', 'a"b@example.test'),
        ("Straße@example.test", "strasse@example.test"),
        ("e\u0301@example.test", "\u00e9@example.test"),
        ("info@b\u00fccher.example", "info@xn--bcher-kva.example"),
        ("root@[192.0.2.1]", "root@[192.0.2.1]"),
    ],
)
def test_the_normal_form(text: str, normal: str) -> None:
    assert str(parse_address(text)) == normal


@pytest.mark.parametrize(
    "text",
    [
        "", "@", "alice", "alice@", "@example.test", "a b@example.test", "a..b@example.test",
        "a@b@example.test", "alice@exa mple.test", "alice@-example.test", "alice@.test",
        "alice@" + "a" * 64 + ".test", "a" * 65 + "@example.test", '"a\x00"@example.test',
        "alice@" + "a." * 130 + "test", "alice@\ud800.test",
    ],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(Invalid):
        parse_address(text)


@pytest.mark.parametrize(
    ("local_part", "user"), [("alice+lists", "alice"), ("alice", "alice"), ("+x", "+x")]
)
def test_the_subaddress_is_dropped(local_part: str, user: str) -> None:
    assert Address(local_part, "example.test").without_subaddress().local_part == user


@given(st.text(max_size=80))
def test_anything_is_an_address_or_invalid(text: str) -> None:
    for candidate in (text, f"{text}@example.test", f"alice@{text}"):
        try:
            address = parse_address(candidate)
        except Invalid:
            continue
        if not set(address.local_part) & set('"\\ ()<>@,;:[].'):
            assert parse_address(str(address)) == address


@given(st.text(max_size=80))
def test_a_normal_domain_is_normal(text: str) -> None:
    try:
        domain = normal_domain(text)
    except Invalid:
        return
    assert normal_domain(domain) == domain
