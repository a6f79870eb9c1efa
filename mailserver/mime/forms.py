"""Header fields in the forms of JMAP (RFC 8621 §4.1.2)."""

import re
from datetime import datetime
from typing import TypedDict

from mailserver.mime import addresses, dates, words
from mailserver.mime.addresses import Mailbox
from mailserver.mime.headers import HeaderBlock, one_line, unfold

MESSAGE_ID_LIMIT = 1000  # ids read from one field

_COMMENT = re.compile(rb"\([^()<>]*+\)")
_ANGLE = re.compile(rb"<([^<>]++)>")


class EmailAddress(TypedDict):
    """A mailbox as JMAP shows it (RFC 8621 §4.1.2.3)."""

    name: str | None
    email: str


class EmailAddressGroup(TypedDict):
    """A group, or addresses that are in none (RFC 8621 §4.1.2.4)."""

    name: str | None
    addresses: list[EmailAddress]


class EmailHeader(TypedDict):
    """A field in raw form (RFC 8621 §4.1.3)."""

    name: str
    value: str


def all_headers(block: HeaderBlock) -> list[EmailHeader]:
    """Return every field in order, raw."""
    return [
        {"name": name.decode("ascii"), "value": as_raw(value)}
        for name, value in block.pairs()
        if name
    ]


def part_headers(raw: bytes, header_start: int, body_start: int) -> list[EmailHeader]:
    """Return the fields of a part that is known by its offsets."""
    return all_headers(HeaderBlock(raw, header_start, body_start))


def as_raw(value: bytes) -> str:
    """Raw: everything between the colon and the line end (RFC 8621 §4.1.2.1)."""
    return value.decode("utf-8", "replace").replace("\0", "")


def as_text(value: bytes) -> str:
    """Text: unfolded, encoded words decoded, in NFC (RFC 8621 §4.1.2.2)."""
    return words.decode(unfold(value).strip(b" "))


def as_addresses(value: bytes) -> list[EmailAddress]:
    """Addresses: mailboxes, group names left out (RFC 8621 §4.1.2.3)."""
    return email_addresses(addresses.parse(value))


def email_addresses(mailboxes: list[Mailbox]) -> list[EmailAddress]:
    """Turn addresses that are read already into JMAP's objects."""
    return [_email_address(mailbox) for mailbox in mailboxes if mailbox.domain is not None]


def _email_address(mailbox: Mailbox) -> EmailAddress:
    name, local, domain = mailbox.name, mailbox.local or b"", mailbox.domain
    return {
        "name": (words.decode(name) or None) if name else None,
        "email": words.decode(b"%b@%b" % (local, domain) if domain else local),
    }


def as_grouped_addresses(value: bytes) -> list[EmailAddressGroup]:
    """GroupedAddresses: as Addresses, in groups (RFC 8621 §4.1.2.4)."""
    groups: list[EmailAddressGroup] = []
    open_group = False
    for mailbox in addresses.parse(value):
        if mailbox == addresses.GROUP_END:
            open_group = False
        elif mailbox.domain is None:
            groups.append({"name": words.decode(mailbox.local or b""), "addresses": []})
            open_group = True
        else:
            if not groups or (not open_group and groups[-1]["name"] is not None):
                groups.append({"name": None, "addresses": []})
            groups[-1]["addresses"].append(_email_address(mailbox))
    return groups


def as_message_ids(value: bytes) -> list[str] | None:
    """MessageIds: what stands in angle brackets, None when nothing does (RFC 8621 §4.1.2.5)."""
    if b"(" in value:
        value = _COMMENT.sub(b" ", value)
    found = _ANGLE.findall(value)[:MESSAGE_ID_LIMIT]
    ids = [_message_id(text) for text in found]
    return [text for text in ids if text] or None


def _message_id(text: bytes) -> str:
    """Drop the white space that folding put into a msg-id (RFC 5322 §3.6.4)."""
    if not text.isalnum():
        text = b"".join(text.split())
    return text.decode("utf-8", "replace").replace("\0", "")


def as_date(value: bytes) -> str | None:
    """Date: JMAP's form of the date with its zone, None when there is none (§4.1.2.6)."""
    found = read_date(value)
    return None if found is None else dates.json_text(found)


def read_date(value: bytes) -> datetime | None:
    """Read a Date field."""
    return dates.parse(one_line(value[:1000]).decode("ascii", "replace"))


def as_urls(value: bytes) -> list[str] | None:
    """URLs: what stands in angle brackets (RFC 8621 §4.1.2.7, RFC 2369 §2)."""
    if b"(" in value:
        value = _COMMENT.sub(b" ", value)
    urls = [b"".join(text.split()).decode("utf-8", "replace") for text in _ANGLE.findall(value)]
    return urls or None
