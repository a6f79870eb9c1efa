"""SCRAM-SHA-256."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.auth.scram import Keys, KeysWanted, Proven, ScramSha256, saslprep
from mailserver.errors import AuthenticationFailed, Invalid
from tests.scram_client import PLUS_HEADER, ScramClient

# RFC 7677 §3, the example
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO" + NONCE.encode() + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO"
    + NONCE.encode()
    + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
KEYS = Keys.derive("pencil", SALT)


def machine() -> ScramSha256:
    return ScramSha256(lambda: NONCE)


def asked() -> ScramSha256:
    exchange = machine()
    assert exchange.step(None) == b""
    assert exchange.step(FIRST) == KeysWanted("user")
    assert exchange.challenge(KEYS) == SERVER_FIRST
    return exchange


def test_the_example() -> None:
    exchange = asked()
    assert exchange.step(FINAL) == SERVER_FINAL
    assert exchange.step(b"") == Proven("user", KEYS)


def test_keys_are_stored_and_read_back() -> None:
    assert Keys.read(KEYS.text()) == KEYS
    assert "pencil" not in KEYS.text()
    with pytest.raises(ValueError, match="version"):
        Keys.read(KEYS.text().replace("scram-sha-256", "scram-sha-1"))


@pytest.mark.parametrize(
    "final",
    [
        FINAL.replace(b"p=dHzb", b"p=dHzc"),
        FINAL.replace(b"c=biws", b"c=eSws"),
        FINAL.replace(b"r=rOp", b"r=rOq"),
    ],
)
def test_a_wrong_proof_fails(final: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        asked().step(final)


def test_another_password_fails() -> None:
    exchange = machine()
    exchange.step(FIRST)
    exchange.challenge(Keys.derive("pen", SALT))
    with pytest.raises(AuthenticationFailed):
        exchange.step(FINAL)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,n=user",
        b"p=tls-server-end-point,,n=user,r=x",
        b"p=,,n=user,r=x",
        b"n,,n=us=er,r=x",
        b"n,,n=\xff,r=x",
        b"n,,n=a\0b,r=x",
        b"n,,n=user,r=" + b"x" * 5000,
    ],
)
def test_bad_first_messages(first: bytes) -> None:
    with pytest.raises(Invalid):
        machine().step(first)


def test_names_are_unescaped_and_nobody_acts_for_another() -> None:
    assert machine().step(b"y,a=a=2Cb=3D,n=a=2Cb=3D,r=x") == KeysWanted("a,b=")
    with pytest.raises(AuthenticationFailed):
        machine().step(b"n,a=other,n=user,r=x")


END_POINT = b"\x5a" * 32


def bound(header: bytes, binding: bytes) -> bytes:
    """Run SCRAM-SHA-256-PLUS with what a client says of its channel."""
    exchange = ScramSha256(lambda: NONCE, END_POINT, plus=True)
    client = ScramClient("user", "pencil", header=header, binding=binding)
    assert exchange.step(client.first()) == KeysWanted("user")
    said = exchange.step(client.final(exchange.challenge(KEYS)))
    assert isinstance(said, bytes)
    client.end(said)
    return said


def test_a_login_is_bound_to_the_channel() -> None:
    assert bound(PLUS_HEADER, END_POINT).startswith(b"v=")
    assert bound(b"p=tls-server-end-point,a=user,", END_POINT).startswith(b"v=")


@pytest.mark.parametrize("binding", [b"", b"\x5b" * 32, END_POINT + b"\0"])
def test_another_channel_fails(binding: bytes) -> None:
    # somebody in between has a certificate of his own
    with pytest.raises(AuthenticationFailed):
        bound(PLUS_HEADER, binding)


@pytest.mark.parametrize("header", [b"p=tls-unique,,", b"p=tls-exporter,,", b"p=TLS,,"])
def test_other_types_of_binding_fail(header: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        bound(header, END_POINT)


@pytest.mark.parametrize("header", [b"n,,", b"y,,"])
def test_plus_needs_a_binding(header: bytes) -> None:
    with pytest.raises(Invalid):
        bound(header, END_POINT)


def test_an_offer_that_was_taken_away_is_noticed() -> None:
    # RFC 5802 §6: "y" says that the client saw no PLUS, but there was one
    with pytest.raises(AuthenticationFailed):
        ScramSha256(lambda: NONCE, END_POINT).step(b"y,,n=user,r=x")
    assert ScramSha256(lambda: NONCE, END_POINT).step(b"n,,n=user,r=x") == KeysWanted("user")
    assert ScramSha256(lambda: NONCE).step(b"y,,n=user,r=x") == KeysWanted("user")


def test_the_end_is_empty() -> None:
    exchange = asked()
    exchange.step(FINAL)
    with pytest.raises(Invalid):
        exchange.step(b"more")


def test_saslprep() -> None:
    # RFC 4013 §3, the examples
    assert saslprep("I\u00adX") == "IX"
    assert saslprep("user") == "user"
    assert saslprep("USER") == "USER"
    assert saslprep("\u00aa") == "a"
    assert saslprep("\u2168") == "IX"
    for forbidden in ("\u0007", "\u0627\u0031"):
        with pytest.raises(Invalid):
            saslprep(forbidden)


@settings(max_examples=150)
@given(st.integers(0, len(FINAL)), st.integers(0, len(FINAL)), st.binary(max_size=20))
def test_a_damaged_message_is_refused(start: int, end: int, piece: bytes) -> None:
    final = FINAL[:start] + piece + FINAL[end:]
    if final == FINAL:
        return
    with pytest.raises((Invalid, AuthenticationFailed)):
        asked().step(final)
