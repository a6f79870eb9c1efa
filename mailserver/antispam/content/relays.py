"""Servers that a message came through, as Received fields tell; the newest we saw ourselves."""

import ipaddress
import re
from collections.abc import Sequence
from typing import NamedTuple

from mailserver.antispam.evidence import Inquiry
from mailserver.mime.headers import one_line

_IP = r"(?:\d{1,3}(?:\.\d{1,3}){3}|(?:IPv6:)?[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})"
_FROM = re.compile(r"\bfrom\s+(\[?[^\s()\[\];]{1,255}\]?)", re.IGNORECASE)
_ADDRESS = re.compile(rf"[\[(@]({_IP})[\])]")
_NAME_BEFORE_ADDRESS = re.compile(
    rf"\(\s*(?:[^\s()@]{{1,64}}@)?([A-Za-z0-9_.-]{{1,255}})\s*[\[(]{_IP}"
)
_HELO = re.compile(r"\b(?:HELO|EHLO)[\s=]+([^\s()\[\];]{1,255})", re.IGNORECASE)
_BY = re.compile(r"\bby\s+([A-Za-z0-9_.-]{1,255})", re.IGNORECASE)
_ID = re.compile(r"\bid\s+<?([^\s<>;]{1,100})", re.IGNORECASE)
_AUTHENTICATED = re.compile(r"\b(?:with\s+(?:E|UTF8)?SMTPS?A\b|authenticated|auth=)", re.IGNORECASE)


class Relay(NamedTuple):
    """One hand-over."""

    ip: str
    rdns: str
    helo: str
    by: str = ""
    id: str = ""
    sender: str = ""
    authenticated: bool = False

    def text(self) -> bytes:
        """Return it as rules for X-Spam-Relays-Untrusted expect it."""
        auth = "esmtpa" if self.authenticated else ""
        return (
            f"[ ip={self.ip} rdns={self.rdns} helo={self.helo} by={self.by} ident= "
            f"envfrom={self.sender} intl=0 id={self.id} auth={auth} msa=0 ]"
        ).encode("utf-8", "replace")


def read_relays(inquiry: Inquiry, received: Sequence[bytes]) -> list[Relay]:
    """Return the client of this session, then what the fields say, the newest first.

    Hand-overs within a network of somebody say nothing, and are left out.
    """
    client = inquiry.client
    relays = []
    if client.ip:
        sender = str(inquiry.sender) if inquiry.sender is not None else ""
        relays.append(Relay(client.ip, client.name, client.helo, sender=sender))
    for value in received:
        relay = read_relay(one_line(value).decode("utf-8", "replace"))
        if relay is not None and is_public(relay.ip):
            relays.append(relay)
    return relays


def is_public(ip: str) -> bool:
    """Tell whether an address can be that of another server on the Internet."""
    try:
        return ipaddress.ip_address(ip).is_global
    except ValueError:
        return False


def read_relay(value: str) -> Relay | None:
    """Read one Received field; None when it does not say from where."""
    address = _ADDRESS.search(value)
    origin = _FROM.search(value)
    if address is None or origin is None:
        return None
    ip = address[1].removeprefix("IPv6:").lower()
    named = _NAME_BEFORE_ADDRESS.search(value)
    rdns = named[1].lower() if named and named[1].lower() not in ("unknown", "helo", "ehlo") else ""
    helo = _HELO.search(value)
    by = _BY.search(value, origin.end())
    identifier = _ID.search(value, origin.end())
    if helo is not None and not rdns:
        rdns = "" if origin[1].lower() == "unknown" or "[" in origin[1] else origin[1].lower()
    return Relay(
        ip,
        rdns,
        (helo[1] if helo else origin[1]).lower(),
        by[1].lower() if by else "",
        identifier[1] if identifier else "",
        authenticated=_AUTHENTICATED.search(value) is not None,
    )
