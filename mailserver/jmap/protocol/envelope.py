"""The Envelope of an EmailSubmission (RFC 8621 §7), and the SMTP parameters it may carry."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mailserver.jmap.protocol.dates import parse_utc
from mailserver.jmap.protocol.properties import WrongType

MAX_PATH = 1024  # characters; what is longer is no address
MAX_RECIPIENTS = 100_000  # read at all; the server's own limit has an error of its own
MAX_SECONDS = 9 * 10**8  # as many digits as RFC 4865 §4.1 has for HOLDFOR
_BY = re.compile(r"([+-]?[0-9]{1,9});([RNrn])([Tt]?)", re.ASCII)
_PRIORITY = re.compile(r"-?[1-9]|0", re.ASCII)
_ENVID = re.compile(r"[\x20-\x7e]{1,100}")  # RFC 3461 §4.4
_ORCPT = re.compile(r"[A-Za-z0-9-]+;[^\x00-\x1f\x7f]{1,500}")  # RFC 3461 §4.2
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})
_NOT_XTEXT = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x7e]")


class _Bad(Exception):
    pass


def _nothing(value: str | None) -> bool:
    if value is not None:
        raise _Bad
    return True


def _digits(value: str | None) -> int:
    if value is None or not value.isascii() or not value.isdigit() or int(value[:20]) > MAX_SECONDS:
        raise _Bad
    return int(value[:20])


def _utc(value: str | None) -> datetime:
    moment = parse_utc(value or "")
    if moment is None:
        raise _Bad
    return moment


def _one_of(*known: str) -> Callable[[str | None], str]:
    def read(value: str | None) -> str:
        if value is None or value.upper() not in known:
            raise _Bad
        return value.upper()

    return read


def _matching(pattern: re.Pattern[str]) -> Callable[[str | None], str]:
    def read(value: str | None) -> str:
        if value is None or not pattern.fullmatch(value):
            raise _Bad
        return value

    return read


def _notify(value: str | None) -> str:
    words = (value or "").upper().split(",")
    if words != ["NEVER"] and (len(set(words)) != len(words) or not _NOTIFY.issuperset(words)):
        raise _Bad
    return ",".join(words)


@dataclass(frozen=True, slots=True)
class By:
    """Within how many seconds a message has to be delivered (RFC 2852 §4)."""

    seconds: int
    returns: bool  # else it stays, and the sender is told
    traced: bool


def _by(value: str | None) -> By:
    match = _BY.fullmatch(value or "")
    if match is None or (match[2] in "rR" and int(match[1]) <= 0):
        raise _Bad
    return By(int(match[1]), match[2] in "rR", bool(match[3]))


def _priority(value: str | None) -> int:
    if value is None or not _PRIORITY.fullmatch(value):
        raise _Bad
    return int(value)


Reader = Callable[[str | None], Any]
MAIL_PARAMETERS: dict[str, Reader] = {
    "BODY": _one_of("7BIT", "8BITMIME"),  # RFC 6152
    "BY": _by,  # RFC 2852
    "ENVID": _matching(_ENVID),  # RFC 3461 §4.4
    "HOLDFOR": lambda value: timedelta(seconds=_digits(value)),  # RFC 4865 §4.1
    "HOLDUNTIL": _utc,
    "MT-PRIORITY": _priority,  # RFC 6710
    "REQUIRETLS": _nothing,  # RFC 8689
    "RET": _one_of("FULL", "HDRS"),  # RFC 3461 §4.3
    "SIZE": _digits,  # RFC 1870
    "SMTPUTF8": _nothing,  # RFC 6531
}
RCPT_PARAMETERS: dict[str, Reader] = {"NOTIFY": _notify, "ORCPT": _matching(_ORCPT)}


@dataclass(frozen=True, slots=True)
class Path:
    """An Address object: an address and the parameters that go with it."""

    email: str
    given: Mapping[str, str | None] | None = None  # as the client wrote them
    parameters: Mapping[str, Any] = field(default_factory=dict)  # by keyword, read

    def json(self) -> dict[str, object]:
        """Return it as clients see it."""
        return {"email": self.email, "parameters": self.given}


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sends, and to whom."""

    mail_from: Path
    rcpt_to: tuple[Path, ...]

    def json(self) -> dict[str, object]:
        """Return it as clients see it."""
        return {
            "mailFrom": self.mail_from.json(),
            "rcptTo": [each.json() for each in self.rcpt_to],
        }


def envelope(value: object) -> Envelope:
    """Read an Envelope; whether its addresses can be used is not asked here."""
    if not isinstance(value, dict) or value.keys() != {"mailFrom", "rcptTo"}:
        raise WrongType("an Envelope object")
    given = value["rcptTo"]
    if not isinstance(given, list) or len(given) > MAX_RECIPIENTS:
        raise WrongType("an Envelope object with an array rcptTo")
    sender = _path(value["mailFrom"], "mailFrom", MAIL_PARAMETERS)
    # an address is given once, whatever its parameters
    paths = [_path(each, "rcptTo", RCPT_PARAMETERS) for each in given]
    recipients = {each.email: each for each in paths}
    return Envelope(sender, tuple(recipients.values()))


def _path(value: object, name: str, known: Mapping[str, Reader]) -> Path:
    if not isinstance(value, dict) or not {"email"} <= value.keys() <= {"email", "parameters"}:
        raise WrongType(f"an Envelope object whose {name} has Address objects")
    email, given = value["email"], value.get("parameters")
    if not isinstance(email, str) or len(email) > MAX_PATH:
        raise WrongType(f"an Envelope object whose {name} has addresses")
    if given is None:
        return Path(email)
    if not isinstance(given, dict):
        raise WrongType(f"an Envelope object whose {name} has objects as parameters")
    return Path(email, given, {each.upper(): _read(each, given[each], known) for each in given})


def _read(name: str, value: object, known: Mapping[str, Reader]) -> object:
    reader = known.get(name.upper())
    if reader is None:
        raise WrongType(f"without the parameter {name[:50]!r}, which this server does not know")
    try:
        if value is not None and not isinstance(value, str):
            raise _Bad
        return reader(value)
    except _Bad:
        raise WrongType(f"with another value of the parameter {name[:50]}") from None


def xtext(text: str) -> str:
    """Write a value as SMTP has it (RFC 3461 §4): what JMAP shows is without this encoding."""
    return _NOT_XTEXT.sub(
        lambda found: "".join(f"+{octet:02X}" for octet in found[0].encode()), text
    )
