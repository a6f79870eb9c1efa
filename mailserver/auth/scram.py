"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS as a machine without I/O (RFC 5802, RFC 7677).

The server keeps neither the password nor what a client could log in with: only a salted key to
check proofs with, and one to prove itself.
"""

import base64
import binascii
import hashlib
import hmac
import re
import stringprep
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from mailserver.errors import AuthenticationFailed, Invalid

ITERATIONS = 4096  # RFC 7677 §4 asks for that many at least
SALT_LENGTH = 16  # octets
MAX_MESSAGE = 4096  # octets of a client's message
END_POINT = b"tls-server-end-point"  # the one type of channel binding (RFC 5929 §4)
_VERSION = "scram-sha-256"
_FIRST = re.compile(
    rb"(?P<header>(?P<flag>n|y|p=(?P<type>[A-Za-z0-9.-]+)),(?:a=(?P<authzid>[^,]+))?,)"
    rb"(?P<bare>n=(?P<login>[^,]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,]+)*)"
)
_FINAL = re.compile(
    rb"(?P<bare>c=(?P<binding>[A-Za-z0-9+/=]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)"
    rb"(?:,[A-Za-z]=[^,]+)*),p=(?P<proof>[A-Za-z0-9+/=]+)"
)
_PROHIBITED = (
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3,
    stringprep.in_table_c4, stringprep.in_table_c5, stringprep.in_table_c6,
    stringprep.in_table_c7, stringprep.in_table_c8, stringprep.in_table_c9,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Keys:
    """What is stored of a password for SCRAM (RFC 5802 §3)."""

    salt: bytes
    iterations: int
    stored: bytes = field(repr=False)
    server: bytes = field(repr=False)

    @classmethod
    def derive(cls, password: str, salt: bytes, iterations: int = ITERATIONS) -> "Keys":
        """Make the keys of a password; Invalid for one that SASLprep forbids."""
        prepared = saslprep(password).encode()
        salted = hashlib.pbkdf2_hmac("sha256", prepared, salt, iterations)
        client = _hmac(salted, b"Client Key")
        return cls(salt, iterations, hashlib.sha256(client).digest(), _hmac(salted, b"Server Key"))

    def text(self) -> str:
        """Return the form in which keys are stored."""
        octets = (self.salt, self.stored, self.server)
        salt, stored, server = (base64.b64encode(each).decode() for each in octets)
        return f"{_VERSION}${self.iterations}${salt}${stored}${server}"

    @classmethod
    def read(cls, text: str) -> "Keys":
        """Read the stored form; ValueError when it is none."""
        version, iterations, *rest = text.split("$")
        salt, stored, server = (base64.b64decode(each, validate=True) for each in rest)
        if version != _VERSION:
            raise ValueError("unknown version of stored keys")
        return cls(salt, int(iterations), stored, server)


@dataclass(frozen=True, slots=True)
class KeysWanted:
    """The exchange goes on with the keys of this login, by `ScramSha256.challenge`."""

    login: str


@dataclass(frozen=True, slots=True)
class Proven:
    """The client knows the password of this login, and has seen that the server knows it."""

    login: str
    keys: Keys  # of that password


class ScramSha256:
    """One exchange: client-first, server-first, client-final, server-final, empty.

    `end_point` is the data of the channel binding that this connection has, if any; `plus`: the
    client chose SCRAM-SHA-256-PLUS and must use it (RFC 5802 §6).
    """

    def __init__(
        self, nonce: Callable[[], str], end_point: bytes | None = None, *, plus: bool = False
    ) -> None:
        self._nonce = nonce
        self._end_point = end_point
        self._plus = plus
        self._first: re.Match[bytes] | None = None
        self._login = ""
        self._keys: Keys | None = None
        self._server_first = b""
        self._done = False

    @property
    def login(self) -> str:
        """Whom the client claims to be; empty before its first message."""
        return self._login

    def step(self, response: bytes | None) -> bytes | KeysWanted | Proven:
        """Take the client's next message; Invalid, or AuthenticationFailed for a wrong proof."""
        if self._done:
            if response:
                raise Invalid("SCRAM ends with an empty response")
            assert self._keys is not None
            return Proven(self._login, self._keys)
        if response is None:
            return b""
        if len(response) > MAX_MESSAGE:
            raise Invalid("SCRAM message is too long")
        if self._first is None:
            return self._read_first(response)
        return self._check_final(response)

    def _read_first(self, message: bytes) -> KeysWanted:
        found = _FIRST.fullmatch(message)
        if found is None:
            raise Invalid("malformed first message of SCRAM")
        self._login = _name(found["login"])
        self._check_flag(found)
        authorization = found["authzid"]
        if authorization is not None and _name(authorization) != self._login:
            raise AuthenticationFailed("nobody may act for another account")
        self._first = found
        return KeysWanted(self._login)

    def _check_flag(self, first: re.Match[bytes]) -> None:
        """Refuse a channel binding that is not there, and a client that was told of none."""
        flag = first["flag"]
        if self._plus != flag.startswith(b"p"):
            raise Invalid("SCRAM with a channel binding is SCRAM-SHA-256-PLUS, and that alone")
        if self._plus and first["type"] != END_POINT:
            raise AuthenticationFailed("unsupported type of channel binding")
        if flag == b"y" and self._end_point is not None:
            # somebody between us took the offer away (RFC 5802 §6)
            raise AuthenticationFailed("the server does support channel binding")

    def challenge(self, keys: Keys) -> bytes:
        """Go on with the keys of the login and return server-first."""
        assert self._first is not None
        self._keys = keys
        salt = base64.b64encode(keys.salt)
        nonce = self._first["nonce"] + self._nonce().encode()
        self._server_first = b"r=%b,s=%b,i=%d" % (nonce, salt, keys.iterations)
        return self._server_first

    def _check_final(self, message: bytes) -> bytes:
        assert self._first is not None
        assert self._keys is not None
        found = _FINAL.fullmatch(message)
        if found is None:
            raise Invalid("malformed final message of SCRAM")
        nonce = self._server_first[2:].split(b",", 1)[0]
        if not hmac.compare_digest(found["nonce"], nonce):
            raise AuthenticationFailed("nonce of another exchange")
        binding = self._first["header"] + (self._end_point or b"" if self._plus else b"")
        if _decoded(found["binding"]) != binding:
            raise AuthenticationFailed("the channel binding is not that of this connection")
        signed = b",".join((self._first["bare"], self._server_first, found["bare"]))
        signature = _hmac(self._keys.stored, signed)
        proof = _decoded(found["proof"])
        if len(proof) != len(signature):
            raise Invalid("malformed proof of SCRAM")
        client = bytes(left ^ right for left, right in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client).digest(), self._keys.stored):
            raise AuthenticationFailed("wrong proof")
        self._done = True
        return b"v=" + base64.b64encode(_hmac(self._keys.server, signed))


def saslprep(text: str) -> str:
    """Return the text that passwords are compared in (RFC 4013 §2); Invalid when forbidden."""
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if any(forbidden(character) for character in prepared for forbidden in _PROHIBITED):
        raise Invalid("password has a forbidden character")
    if any(map(stringprep.in_table_d1, prepared)) and (
        any(map(stringprep.in_table_d2, prepared))
        or not stringprep.in_table_d1(prepared[0])
        or not stringprep.in_table_d1(prepared[-1])
    ):
        raise Invalid("password mixes directions of writing")
    return prepared


def _name(text: bytes) -> str:
    """Read a saslname: "=2C" and "=3D" stand for a comma and an equals sign."""
    if re.search(rb"=(?!2C|3D)", text) or b"\0" in text:
        raise Invalid("malformed name in SCRAM")
    try:
        return text.replace(b"=2C", b",").replace(b"=3D", b"=").decode()
    except UnicodeDecodeError:
        raise Invalid("names must be UTF-8") from None


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Invalid("malformed base64 in SCRAM") from None


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")
