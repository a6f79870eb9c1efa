"""Who wrote a message, by its header."""

from mailserver.address import Address, parse_address, quoted
from mailserver.errors import Invalid
from mailserver.mime import HeaderBlock
from mailserver.mime.addresses import parse

MAX_AUTHORS = 10


def authors(raw: bytes) -> list[Address]:
    """Return the addresses in From, as far as they can be read."""
    found = []
    for value in HeaderBlock(raw).all("From")[:1]:
        for mailbox in parse(value)[:MAX_AUTHORS]:
            if mailbox.local is None or not mailbox.domain:
                continue
            local = mailbox.local.decode("utf-8", "replace")
            domain = mailbox.domain.decode("utf-8", "replace")
            try:
                found.append(parse_address(f"{quoted(local)}@{domain}"))
            except Invalid:
                continue
    return found
