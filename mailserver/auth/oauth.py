"""OAUTHBEARER (RFC 7628) and XOAUTH2 as machines without I/O.

XOAUTH2 is what OAUTHBEARER grew out of; many clients know only that. Both carry an access token in
one message. A token that is refused is told why, the client answers that with next to nothing, and
only then the exchange fails (RFC 7628 §3.2.3).
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from mailserver.errors import AuthenticationFailed, Invalid

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # b64token, RFC 6750 §2.1
_HEADER = re.compile(rb"[ny],(?:a=(?P<authzid>[^,]+))?,")  # gs2-header, RFC 5801 §4
_PAIR = re.compile(rb"(?P<key>[A-Za-z]+)=(?P<value>[\t\n\r\x20-\x7e]*)")
_XOAUTH2 = re.compile(rb"user=(?P<user>[^\x01]+)\x01auth=(?P<credentials>[^\x01]+)\x01\x01")


@dataclass(frozen=True, slots=True)
class Bearer:
    """An access token, and whom the client says it stands for; empty: it does not say."""

    token: str = field(repr=False)
    login: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where tokens come from, as clients whose token is refused are told."""

    configuration: str  # URL of the issuer's OpenID Connect discovery document
    scope: str  # that tokens must have; empty: none

    def refusal(self, status: str) -> bytes:
        """Return the reason for a failure (RFC 7628 §3.2.2)."""
        reason = {
            "status": status,
            "schemes": "bearer",
            "scope": self.scope,
            "openid-configuration": self.configuration,
        }
        return json.dumps({name: text for name, text in reason.items() if text}).encode()


class TokenExchange:
    """One exchange: the token, and when it is refused the reason and the client's nod."""

    def __init__(self, read: Callable[[bytes], Bearer], reason: bytes) -> None:
        self._read = read
        self._reason = reason
        self._refused = False

    def step(self, response: bytes | None) -> bytes | Bearer:
        """Take the client's next message; return the next challenge or the token."""
        if self._refused:
            raise AuthenticationFailed("the token was refused")
        if response is None:
            return b""
        return self._read(response)

    def refuse(self) -> bytes:
        """Return the challenge that says why the token is not taken."""
        self._refused = True
        return self._reason


def read_oauthbearer(message: bytes) -> Bearer:
    """Read client-resp = gs2-header kvsep *kvpair kvsep (RFC 7628 §3.1).

    One without a token asks where to get one (RFC 7628 §4.3); its token is empty.
    """
    header, *parts = message.split(b"\x01")
    found = _HEADER.fullmatch(header)
    if found is None or parts[-2:] != [b"", b""]:
        raise Invalid("malformed OAUTHBEARER")
    pairs = [_PAIR.fullmatch(pair) for pair in parts[:-2]]
    values = [pair["value"] for pair in pairs if pair is not None and pair["key"] == b"auth"]
    if None in pairs or len(values) > 1:
        raise Invalid("malformed pairs of OAUTHBEARER")
    token = _token(values[0]) if values and values[0] else ""
    return Bearer(token, _name(found["authzid"] or b""))


def read_xoauth2(message: bytes) -> Bearer:
    """Read "user=" name kvsep "auth=Bearer " token kvsep kvsep."""
    found = _XOAUTH2.fullmatch(message)
    if found is None:
        raise Invalid("malformed XOAUTH2")
    return Bearer(_token(found["credentials"]), _text(found["user"]))


def bearer_token(credentials: str) -> str:
    """Read what follows the scheme in `Authorization: Bearer` (RFC 6750 §2.1)."""
    if not _TOKEN.fullmatch(credentials):
        raise Invalid("malformed token")
    return credentials


def _token(authorization: bytes) -> str:
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        raise Invalid("only Bearer tokens are taken")
    return bearer_token(_text(credentials.strip(b" ")))


def _name(text: bytes) -> str:
    """Read a saslname: "=2C" and "=3D" stand for a comma and an equals sign."""
    if re.search(rb"=(?!2C|3D)", text):
        raise Invalid("malformed name")
    return _text(text.replace(b"=2C", b",").replace(b"=3D", b"="))


def _text(octets: bytes) -> str:
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise Invalid("names must be UTF-8") from None
    if "\0" in text:
        raise Invalid("names have no NUL")
    return text
