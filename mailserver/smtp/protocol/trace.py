"""Trace fields that this server puts on top of a message (RFC 5321 §4.4)."""

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

_UNSAFE = re.compile(r"[\x00-\x20()\\\x7f]")  # what would open a comment or end the line


@dataclass(frozen=True, slots=True)
class Trace:
    """What a Received field tells."""

    helo: str  # as the client said, or empty
    peer: str  # IP address
    hostname: str  # of this server
    protocol: str  # ESMTPS and the like
    tls: str  # "TLSv1.3 TLS_AES_256_GCM_SHA384"; empty without TLS
    id: str  # of the session
    date: datetime
    recipient: str  # empty unless there is exactly one, so that nobody learns of the others

    def __bytes__(self) -> bytes:
        """Return the field, folded, in UTF-8 when the names are (RFC 6531 §3.7.3)."""
        helo = _UNSAFE.sub("_", self.helo or "unknown")
        tls = f" ({self.tls})" if self.tls else ""
        recipient = f"\r\n\tfor <{self.recipient}>" if self.recipient else ""
        return (
            f"Received: from {helo} ([{_tagged(self.peer)}])\r\n"
            f"\tby {self.hostname} with {self.protocol}{tls} id {self.id}{recipient};\r\n"
            f"\t{format_datetime(self.date)}\r\n"
        ).encode()


def with_protocol(
    *, esmtp: bool, tls: bool, authenticated: bool, smtputf8: bool, lmtp: bool = False
) -> str:
    """Return the value of the `with` clause (RFC 3848, RFC 6531 §4.3)."""
    if not esmtp:
        return "SMTP"
    name = "LMTP" if lmtp else "SMTP" if smtputf8 else "ESMTP"
    name = f"UTF8{name}" if smtputf8 else name
    return f"{name}{'S' if tls else ''}{'A' if authenticated else ''}"


def _tagged(peer: str) -> str:
    """Return the address as in an address literal (RFC 5321 §4.1.3)."""
    return f"IPv6:{peer}" if ":" in peer else peer
