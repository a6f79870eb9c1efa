"""Parameters of MAIL and RCPT: esmtp-keyword ["=" esmtp-value] (RFC 5321 §4.1.2)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mailserver.smtp.protocol.replies import SYNTAX, Refused, Reply

_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20=\x7f]+))?\Z")
_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})*\Z")
_HEX = re.compile(r"\+([0-9A-F]{2})")
_INTERVAL = re.compile(r"[0-9]{1,9}\Z")
_BY = re.compile(r"([+-]?[0-9]{1,9});([RN])(T?)\Z", re.IGNORECASE | re.ASCII)
_PRIORITY = re.compile(r"(?:-?[1-9]|0)\Z", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,20}\Z")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,50}\Z")
BODIES = ("7BIT", "8BITMIME", "BINARYMIME")
NOTIFICATIONS = frozenset({"SUCCESS", "FAILURE", "DELAY"})
MAX_ENVID = 100  # octets, RFC 3461 §4.4
MAX_ORCPT = 500  # octets, RFC 3461 §4.2


def _bad(keyword: str) -> Refused:
    return Refused(Reply(501, "5.5.4", f"Bad value of {keyword}"))


def parse_size(value: str | None) -> int:
    """size-value = 1*20DIGIT (RFC 1870 §3)."""
    if value is None or not _DIGITS.match(value):
        raise _bad("SIZE")
    return int(value)


def parse_body(value: str | None) -> str:
    """body-value = "7BIT" / "8BITMIME" / "BINARYMIME" (RFC 6152 §2, RFC 3030 §3)."""
    body = (value or "").upper()
    if body not in BODIES:
        raise _bad("BODY")
    return body


def parse_smtputf8(value: str | None) -> bool:
    """SMTPUTF8 has no value (RFC 6531 §3.4)."""
    if value is not None:
        raise _bad("SMTPUTF8")
    return True


def parse_auth(value: str | None) -> str:
    """`AUTH=` xtext of a mailbox, or "<>" (RFC 4954 §5)."""
    if value is None or not _XTEXT.match(value):
        raise _bad("AUTH")
    return _HEX.sub(lambda match: chr(int(match[1], 16)), value)


def parse_ret(value: str | None) -> str:
    """ret-value = "FULL" / "HDRS" (RFC 3461 §4.3)."""
    ret = (value or "").upper()
    if ret not in ("FULL", "HDRS"):
        raise _bad("RET")
    return ret


def parse_envid(value: str | None) -> str:
    """`ENVID=` xtext of up to 100 characters (RFC 3461 §4.4)."""
    if value is None or len(value) > MAX_ENVID or not _XTEXT.match(value):
        raise _bad("ENVID")
    return value


def parse_requiretls(value: str | None) -> bool:
    """REQUIRETLS has no value (RFC 8689 §3)."""
    if value is not None:
        raise _bad("REQUIRETLS")
    return True


def parse_notify(value: str | None) -> str:
    """notify-esmtp-value = "NEVER" / 1#("SUCCESS" / "FAILURE" / "DELAY") (RFC 3461 §4.1)."""
    wishes = (value or "").upper().split(",")
    if wishes != ["NEVER"] and (
        len(set(wishes)) != len(wishes) or not NOTIFICATIONS.issuperset(wishes)
    ):
        raise _bad("NOTIFY")
    return ",".join(wishes)


def parse_orcpt(value: str | None) -> str:
    """original-recipient-address = addr-type ";" xtext (RFC 3461 §4.2)."""
    kind, separator, address = (value or "").partition(";")
    if not separator or not _ATOM.match(kind) or not address or len(address) > MAX_ORCPT:
        raise _bad("ORCPT")
    if not _XTEXT.match(address) and kind.lower() != "utf-8":
        raise _bad("ORCPT")
    return f"{kind};{address}"


def parse_hold_for(value: str | None) -> timedelta:
    """hold-for = 1*9DIGIT seconds (RFC 4865 §4.1)."""
    if value is None or not _INTERVAL.match(value):
        raise _bad("HOLDFOR")
    return timedelta(seconds=int(value))


def parse_hold_until(value: str | None) -> datetime:
    """hold-until = a date-time of RFC 3339 (RFC 4865 §4.1)."""
    try:
        moment = datetime.fromisoformat(value or "")
    except ValueError:
        raise _bad("HOLDUNTIL") from None
    if moment.tzinfo is None:
        raise _bad("HOLDUNTIL")
    return moment


@dataclass(frozen=True, slots=True)
class By:
    """Within how many seconds a message has to be delivered (RFC 2852 §4)."""

    seconds: int  # may be over already, for mail that was relayed
    returns: bool
    traced: bool


def parse_by(value: str | None) -> By:
    """by-value = by-time ";" by-mode [by-trace] (RFC 2852 §4); R needs time that is left."""
    match = _BY.match(value or "")
    if match is None:
        raise _bad("BY")
    by = By(int(match[1]), match[2].upper() == "R", bool(match[3]))
    if by.returns and by.seconds <= 0:
        raise _bad("BY")
    return by


def parse_priority(value: str | None) -> int:
    """priority-value = (["-"] NZDIGIT) / "0" (RFC 6710 §3)."""
    if value is None or not _PRIORITY.match(value):
        raise _bad("MT-PRIORITY")
    return int(value)


MAIL_PARAMETERS: dict[str, Callable[[str | None], Any]] = {
    "SIZE": parse_size,
    "BODY": parse_body,
    "SMTPUTF8": parse_smtputf8,
    "AUTH": parse_auth,
    "RET": parse_ret,
    "ENVID": parse_envid,
    "REQUIRETLS": parse_requiretls,
    "HOLDFOR": parse_hold_for,
    "HOLDUNTIL": parse_hold_until,
    "BY": parse_by,
    "MT-PRIORITY": parse_priority,
}
RCPT_PARAMETERS: dict[str, Callable[[str | None], Any]] = {
    "NOTIFY": parse_notify,
    "ORCPT": parse_orcpt,
}
# Offered to users only: RFC 4865, RFC 2852, RFC 6710.
SUBMISSION_ONLY = frozenset({"HOLDFOR", "HOLDUNTIL", "BY", "MT-PRIORITY"})
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognized or not implemented")


def parse_parameters(text: str, known: Mapping[str, Callable[[str | None], Any]]) -> dict[str, Any]:
    """Read the parameters; each at most once, an unknown one is 555 (RFC 5321 §4.1.1.11).

    Values keep their case. `AUTH=<>` has an equals sign only before its value.
    """
    found: dict[str, Any] = {}
    for word in text.split(" "):
        if not word:
            continue
        match = _PARAMETER.match(word)
        if match is None:
            raise Refused(SYNTAX)
        keyword = match[1].upper()
        if keyword not in known:
            raise Refused(UNKNOWN_PARAMETER)
        if keyword in found:
            raise Refused(Reply(501, "5.5.4", f"{keyword} is given twice"))
        found[keyword] = known[keyword](match[2])
    return found
