"""Parameters of MAIL and RCPT: esmtp-keyword ["=" esmtp-value] (RFC 5321 §4.1.2)."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from mailserver.smtp.protocol.replies import SYNTAX, Refused, Reply

_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20=\x7f]+))?\Z")
_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})*\Z")
_HEX = re.compile(r"\+([0-9A-F]{2})")
_DIGITS = re.compile(r"[0-9]{1,20}\Z")
BODIES = ("7BIT", "8BITMIME")


def _bad(keyword: str) -> Refused:
    return Refused(Reply(501, "5.5.4", f"Bad value of {keyword}"))


def parse_size(value: str | None) -> int:
    """size-value = 1*20DIGIT (RFC 1870 §3)."""
    if value is None or not _DIGITS.match(value):
        raise _bad("SIZE")
    return int(value)


def parse_body(value: str | None) -> str:
    """body-value = "7BIT" / "8BITMIME" (RFC 6152 §2)."""
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


MAIL_PARAMETERS: dict[str, Callable[[str | None], Any]] = {
    "SIZE": parse_size,
    "BODY": parse_body,
    "SMTPUTF8": parse_smtputf8,
    "AUTH": parse_auth,
}
RCPT_PARAMETERS: dict[str, Callable[[str | None], Any]] = {}


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
            raise Refused(Reply(555, "5.5.4", "Parameter not recognized or not implemented"))
        if keyword in found:
            raise Refused(Reply(501, "5.5.4", f"{keyword} is given twice"))
        found[keyword] = known[keyword](match[2])
    return found
