"""Messages as the filter gets them."""

from datetime import UTC, datetime

from mailserver.address import parse_address
from mailserver.antispam.evidence import Client, Inquiry

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


def inquiry(raw: bytes, *, sender: str = "sender@example.net", ip: str = "192.0.2.7") -> Inquiry:
    """Return a message that arrives from a client without a name."""
    return Inquiry(
        "s1",
        Client(ip, "mail.example.net"),
        parse_address(sender) if sender else None,
        (parse_address("alice@example.test"),),
        raw,
        datetime(2026, 11, 1, 12, tzinfo=UTC),
    )


def mail(body: str, *, subject: str = "Hello", fields: str = "", subtype: str = "plain") -> bytes:
    """Return a message of one part."""
    text = (
        "From: Sender <sender@example.net>\r\nTo: alice@example.test\r\n"
        f"Date: Sun, 1 Nov 2026 11:59:00 +0000\r\nSubject: {subject}\r\n"
        "Message-ID: <1@example.net>\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/{subtype}; charset=utf-8\r\n{fields}\r\n{body}"
    )
    return text.encode()
