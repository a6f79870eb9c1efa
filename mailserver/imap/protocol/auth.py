"""LOGIN and AUTHENTICATE."""

from dataclasses import dataclass, field

from mailserver.imap.protocol.cursor import Cursor


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN: a name and a password."""

    user: bytes
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE: a SASL mechanism and perhaps its first response, still base64."""

    mechanism: str
    initial: bytes | None = field(repr=False)


def parse_login(args: Cursor) -> Login:
    """Read login = "LOGIN" SP userid SP password."""
    args.space()
    user = args.astring()
    args.space()
    password = args.astring()
    args.end()
    return Login(user, password)


def parse_authenticate(args: Cursor) -> Authenticate:
    """Read authenticate = "AUTHENTICATE" SP auth-type [SP initial-resp] (RFC 4959 §7)."""
    args.space()
    mechanism = args.word().decode("ascii")
    initial = args.astring() if args.take(b" ") else None
    args.end()
    return Authenticate(mechanism, initial)
