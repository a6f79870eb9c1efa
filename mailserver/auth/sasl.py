"""SASL mechanisms as machines without I/O, for SMTP, IMAP and ManageSieve alike.

A machine gets what the client sent, decoded from base64 by the protocol, and answers with the next
challenge or with the credentials to verify. `None` is "no initial response" (RFC 4422 §3).
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

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

    def step(self, response: bytes | None) -> Challenge | Credentials | KeysWanted | Proven:
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


# each is begun with the channel binding of its connection, if that has one
MECHANISMS: dict[str, Callable[[bytes | None], Mechanism]] = {
    "SCRAM-SHA-256-PLUS": lambda end_point: Scram(end_point, plus=True),
    "SCRAM-SHA-256": Scram,
    "PLAIN": lambda _: Plain(),
    "LOGIN": lambda _: Login(),
}
BINDING = frozenset({"SCRAM-SHA-256-PLUS"})  # those that need a channel binding


def offered(end_point: bytes | None) -> list[str]:
    """Return the names of the mechanisms of a connection, the best first."""
    return [name for name in MECHANISMS if end_point is not None or name not in BINDING]


def start(name: str, end_point: bytes | None = None) -> Mechanism | None:
    """Begin an exchange; None when no mechanism of that name, in whatever case, is offered."""
    name = name.upper()
    return MECHANISMS[name](end_point) if name in offered(end_point) else None


def _text(part: bytes) -> str:
    try:
        text = part.decode()
    except UnicodeDecodeError:
        raise Invalid("credentials must be UTF-8") from None
    if "\0" in text:
        raise Invalid("credentials have a NUL")
    return text
