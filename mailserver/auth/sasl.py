"""SASL mechanisms as machines without I/O, for SMTP, IMAP and ManageSieve alike.

A machine gets what the client sent, decoded from base64 by the protocol, and answers with the next
challenge or with the credentials to verify. `None` is "no initial response" (RFC 4422 §3).
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from mailserver.auth.oauth import (
    Bearer,
    Source,
    TokenExchange,
    read_oauthbearer,
    read_xoauth2,
)
from mailserver.auth.scram import KeysWanted, Proven, ScramSha256
from mailserver.errors import Invalid

MAX_RESPONSE = 12288  # octets before decoding; RFC 4954 §4 asks for lines of that length


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the server sends next."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client claims, ready to be verified."""

    login: str
    password: str = field(repr=False)
    authorization: str = ""  # whom to act for; empty: the login itself


class Mechanism(Protocol):
    """One exchange under way."""

    def step(
        self, response: bytes | None
    ) -> Challenge | Credentials | KeysWanted | Proven | Bearer:
        """Take the client's next message; raise Invalid when it breaks the mechanism's grammar."""
        ...


class Plain:
    """PLAIN: message = [authzid] NUL authcid NUL passwd (RFC 4616 §2)."""

    def step(self, response: bytes | None) -> Challenge | Credentials:
        """Ask for the one message, or read it."""
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise Invalid("PLAIN needs an authorization identity, a login and a password")
        authorization, login, password = (_text(part) for part in parts)
        if not login or not password:
            raise Invalid("PLAIN needs a login and a password that are not empty")
        return Credentials(login, password, "" if authorization == login else authorization)


class Login:
    """LOGIN: the login, then the password, each asked for (draft-murchison-sasl-login)."""

    def __init__(self) -> None:
        self._login: str | None = None

    def step(self, response: bytes | None) -> Challenge | Credentials:
        """Ask for the login, take it and ask for the password, take that."""
        if response is None:
            return Challenge(b"Username:")
        if self._login is None:
            self._login = _text(response)
            return Challenge(b"Password:")
        password = _text(response)
        if not self._login or not password:
            raise Invalid("LOGIN needs a login and a password that are not empty")
        return Credentials(self._login, password)


class Scram:
    """SCRAM-SHA-256: the password is proven and not told (RFC 7677)."""

    def __init__(self, end_point: bytes | None, *, plus: bool = False) -> None:
        self.exchange = ScramSha256(lambda: secrets.token_urlsafe(18), end_point, plus=plus)

    def step(self, response: bytes | None) -> Challenge | KeysWanted | Proven:
        """Go on with the exchange; AuthenticationFailed for a wrong proof."""
        outcome = self.exchange.step(response)
        return Challenge(outcome) if isinstance(outcome, bytes) else outcome


class Token:
    """OAUTHBEARER and XOAUTH2: somebody else has seen to who the client is."""

    def __init__(self, exchange: TokenExchange) -> None:
        self.exchange = exchange

    def step(self, response: bytes | None) -> Challenge | Bearer:
        """Ask for the token, or read it; AuthenticationFailed after a refusal."""
        outcome = self.exchange.step(response)
        return Challenge(outcome) if isinstance(outcome, bytes) else outcome


@dataclass(frozen=True, slots=True)
class Terms:
    """What a connection and the configuration allow."""

    end_point: bytes | None = None  # the connection's channel binding
    source: Source | None = None  # of tokens


def _oauthbearer(terms: Terms) -> Mechanism:
    assert terms.source is not None
    return Token(TokenExchange(read_oauthbearer, terms.source.refusal("invalid_token")))


def _xoauth2(terms: Terms) -> Mechanism:
    assert terms.source is not None
    return Token(TokenExchange(read_xoauth2, terms.source.refusal("401")))


MECHANISMS: dict[str, Callable[[Terms], Mechanism]] = {
    "SCRAM-SHA-256-PLUS": lambda terms: Scram(terms.end_point, plus=True),
    "SCRAM-SHA-256": lambda terms: Scram(terms.end_point),
    "PLAIN": lambda _: Plain(),
    "LOGIN": lambda _: Login(),
    "OAUTHBEARER": _oauthbearer,
    "XOAUTH2": _xoauth2,
}
_NEEDS_BINDING = frozenset({"SCRAM-SHA-256-PLUS"})
_NEEDS_SOURCE = frozenset({"OAUTHBEARER", "XOAUTH2"})


def offered(terms: Terms) -> list[str]:
    """Return the names of the mechanisms that can be had."""
    missing: frozenset[str] = frozenset()
    if terms.end_point is None:
        missing |= _NEEDS_BINDING
    if terms.source is None:
        missing |= _NEEDS_SOURCE
    return [name for name in MECHANISMS if name not in missing]


def start(name: str, terms: Terms) -> Mechanism | None:
    """Begin an exchange; None when no mechanism of that name, in whatever case, can be had."""
    name = name.upper()
    return MECHANISMS[name](terms) if name in offered(terms) else None


def _text(part: bytes) -> str:
    try:
        text = part.decode()
    except UnicodeDecodeError:
        raise Invalid("credentials must be UTF-8") from None
    if "\0" in text:
        raise Invalid("credentials have a NUL")
    return text
