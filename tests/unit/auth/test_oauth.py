"""OAUTHBEARER and XOAUTH2."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.auth import sasl
from mailserver.auth.oauth import (
    Bearer,
    Source,
    bearer_token,
    read_oauthbearer,
    read_xoauth2,
)
from mailserver.auth.sasl import Challenge, Terms
from mailserver.errors import AuthenticationFailed, Invalid

# RFC 7628 §4.1, the example
TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
MESSAGE = (
    b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
    b"auth=Bearer " + TOKEN.encode() + b"\x01\x01"
)
# the example of the vendor that made XOAUTH2
XOAUTH2 = (
    b"user=someuser@example.com\x01"
    b"auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01"
)
SOURCE = Source("https://login.example.test/.well-known/openid-configuration", "mail")


def test_the_examples() -> None:
    assert read_oauthbearer(MESSAGE) == Bearer(TOKEN, "user@example.com")
    assert read_xoauth2(XOAUTH2) == Bearer(
        "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg", "someuser@example.com"
    )


def test_the_name_may_be_missing_or_escaped() -> None:
    assert read_oauthbearer(b"n,,\x01auth=bearer x\x01\x01") == Bearer("x")
    assert read_oauthbearer(b"y,a=a=2Cb=3D,\x01auth=Bearer x\x01\x01") == Bearer("x", "a,b=")


def test_a_message_without_a_token_asks_where_to_get_one() -> None:
    # RFC 7628 §4.3
    assert read_oauthbearer(b"n,a=user@example.com,\x01\x01") == Bearer("", "user@example.com")
    assert read_oauthbearer(b"n,,\x01auth=\x01\x01") == Bearer("")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"n,,",
        b"n,,\x01auth=Bearer x",
        b"n,,\x01auth=Bearer x\x01",
        b"n,,\x01auth=Basic x\x01\x01",
        b"n,,\x01auth=Bearer \x01\x01",
        b"n,,\x01auth=Bearer x y\x01\x01",
        b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01",
        b"n,,\x011=2\x01\x01",
        b"n,,\x01auth=Bearer \xff\x01\x01",
        b"p=tls-unique,,\x01auth=Bearer x\x01\x01",
        b"n,a=b=c,\x01auth=Bearer x\x01\x01",
        b"n,a=\xff,\x01auth=Bearer x\x01\x01",
        b"n,a=b\0,\x01auth=Bearer x\x01\x01",
    ],
)
def test_bad_oauthbearer(message: bytes) -> None:
    with pytest.raises(Invalid):
        read_oauthbearer(message)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"user=a\x01auth=Bearer x\x01",
        b"auth=Bearer x\x01\x01",
        b"user=\x01auth=Bearer x\x01\x01",
        b"user=a\x01auth=x\x01\x01",
        b"user=\xff\x01auth=Bearer x\x01\x01",
    ],
)
def test_bad_xoauth2(message: bytes) -> None:
    with pytest.raises(Invalid):
        read_xoauth2(message)


def test_tokens_of_http() -> None:
    assert bearer_token(TOKEN) == TOKEN
    with pytest.raises(Invalid):
        bearer_token("a b")


@pytest.mark.parametrize(
    ("name", "message", "status"),
    [("OAUTHBEARER", MESSAGE, "invalid_token"), ("XOAUTH2", XOAUTH2, "401")],
)
def test_a_refused_token_is_explained(name: str, message: bytes, status: str) -> None:
    mechanism = sasl.start(name, Terms(source=SOURCE))
    assert isinstance(mechanism, sasl.Token)
    assert mechanism.step(None) == Challenge(b"")
    assert isinstance(mechanism.step(message), Bearer)
    assert json.loads(mechanism.exchange.refuse()) == {
        "status": status,
        "schemes": "bearer",
        "scope": "mail",
        "openid-configuration": SOURCE.configuration,
    }
    # whatever the client says to that, even a token that would do (RFC 7628 §3.2.3)
    with pytest.raises(AuthenticationFailed):
        mechanism.step(message)


def test_tokens_need_an_issuer() -> None:
    assert sasl.start("OAUTHBEARER", Terms()) is None
    assert sasl.start("xoauth2", Terms(b"end point")) is None
    assert sasl.offered(Terms(source=SOURCE))[-2:] == ["OAUTHBEARER", "XOAUTH2"]


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Bearer("secret"))


@settings(max_examples=200)
@given(
    st.sampled_from([MESSAGE, XOAUTH2]),
    st.integers(0, len(MESSAGE)),
    st.integers(0, len(MESSAGE)),
    st.binary(max_size=6),
)
def test_any_octets_are_a_token_or_invalid(
    message: bytes, start: int, end: int, piece: bytes
) -> None:
    for read in (read_oauthbearer, read_xoauth2):
        try:
            found = read(message[:start] + piece + message[end:])
        except Invalid:
            continue
        assert "\x01" not in found.token
        assert found.token.isascii()
