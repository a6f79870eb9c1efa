"""XCLIENT of Postfix: a trusted relay says for whom it speaks (the XCLIENT README of Postfix)."""

import ipaddress
import re
from dataclasses import dataclass

from mailserver.networks import plain
from mailserver.smtp.protocol.replies import SYNTAX, Refused

ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
UNKNOWN = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")  # the relay does not know, or not now
MAX_VALUE = 255  # octets, decoded
_HEX = re.compile(rb"\+([0-9A-Fa-f]{2})")
_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-Fa-f]{2})+\Z")
_IPV6 = "IPV6:"


@dataclass(frozen=True, slots=True)
class Xclient:
    """What the relay said; None where it said nothing, empty where it does not know."""

    address: str | None = None
    helo: str | None = None
    login: str | None = None
    esmtp: bool | None = None


def parse(argument: str) -> Xclient:
    """Read `name=value` words; names and ports are checked and not used."""
    found: dict[str, str] = {}
    for word in argument.split():
        name, separator, value = word.partition("=")
        name = name.upper()
        if not separator or name not in ATTRIBUTES or name in found:
            raise Refused(SYNTAX)
        found[name] = _value(value)
    if not found:
        raise Refused(SYNTAX)
    for name in ("ADDR", "DESTADDR"):
        if found.get(name):
            found[name] = _address(found[name])
    for name in ("PORT", "DESTPORT"):
        if found.get(name) and not _is_port(found[name]):
            raise Refused(SYNTAX)
    protocol = found.get("PROTO")
    if protocol and protocol.upper() not in ("SMTP", "ESMTP"):
        raise Refused(SYNTAX)
    return Xclient(
        found.get("ADDR"),
        found.get("HELO"),
        found.get("LOGIN"),
        protocol.upper() == "ESMTP" if protocol else None,
    )


def _value(text: str) -> str:
    """Return an xtext value decoded (RFC 3461 §4); empty when the relay does not know."""
    if text.upper() in UNKNOWN:
        return ""
    if not _XTEXT.match(text):
        raise Refused(SYNTAX)
    octets = _HEX.sub(lambda match: bytes([int(match[1], 16)]), text.encode())
    try:
        value = octets.decode()
    except UnicodeDecodeError:
        raise Refused(SYNTAX) from None
    if len(octets) > MAX_VALUE or not value.isprintable():
        raise Refused(SYNTAX)
    return value


def _address(text: str) -> str:
    if text.upper().startswith(_IPV6):
        text = text[len(_IPV6) :]
    if "%" in text:
        raise Refused(SYNTAX)
    try:
        return str(plain(ipaddress.ip_address(text)))
    except ValueError:
        raise Refused(SYNTAX) from None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536
