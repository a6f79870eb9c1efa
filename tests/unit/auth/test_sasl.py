"""The SASL machines."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.auth import sasl
from mailserver.auth.sasl import Challenge, Credentials, Terms
from mailserver.errors import Invalid


def machine(name: str) -> sasl.Mechanism:
    found = sasl.start(name, Terms())
    assert found is not None
    return found


def test_mechanisms_have_names_in_any_case() -> None:
    assert sasl.start("plain", Terms()) is not None
    assert sasl.start("Login", Terms()) is not None
    assert sasl.start("CRAM-MD5", Terms()) is None


def test_plus_needs_a_channel_to_bind_to() -> None:
    assert sasl.start("SCRAM-SHA-256-PLUS", Terms()) is None
    assert sasl.start("scram-sha-256-plus", Terms(b"end point")) is not None
    assert sasl.offered(Terms(b"end point")) == ["SCRAM-SHA-256-PLUS", *sasl.offered(Terms())]


def test_plain_with_and_without_initial_response() -> None:
    # RFC 4616 §4, the examples
    assert machine("PLAIN").step(b"\0tim\0tanstaaftanstaaf") == Credentials(
        "tim", "tanstaaftanstaaf"
    )
    waiting = machine("PLAIN")
    assert waiting.step(None) == Challenge(b"")
    assert waiting.step(b"Ursel\0Kurt\0xipj3plmq") == Credentials("Kurt", "xipj3plmq", "Ursel")


def test_an_authorization_equal_to_the_login_is_none() -> None:
    assert machine("PLAIN").step(b"tim\0tim\0x") == Credentials("tim", "x")


@pytest.mark.parametrize(
    "response", [b"", b"\0", b"\0tim", b"\0tim\0", b"\0\0x", b"a\0b\0c\0d", b"\0\xff\0x"]
)
def test_bad_plain(response: bytes) -> None:
    with pytest.raises(Invalid):
        machine("PLAIN").step(response)


def test_login_asks_twice() -> None:
    exchange = machine("LOGIN")
    assert exchange.step(None) == Challenge(b"Username:")
    assert exchange.step(b"tim") == Challenge(b"Password:")
    assert exchange.step("pä".encode()) == Credentials("tim", "pä")
    early = machine("LOGIN")
    assert early.step(b"tim") == Challenge(b"Password:")
    with pytest.raises(Invalid):
        early.step(b"")


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Credentials("tim", "secret"))


@settings(max_examples=200)
@given(
    st.sampled_from(["PLAIN", "LOGIN"]),
    st.lists(st.none() | st.binary(max_size=20) | st.just(b"\0a\0b"), min_size=3, max_size=3),
)
def test_any_exchange_ends_in_credentials_or_invalid(
    name: str, responses: list[bytes | None]
) -> None:
    exchange = machine(name)
    for response in responses:
        try:
            outcome = exchange.step(response)
        except Invalid:
            return
        if isinstance(outcome, Credentials):
            assert outcome.login
            assert outcome.password
            return
