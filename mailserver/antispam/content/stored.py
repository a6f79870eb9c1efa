"""A stored message as it was when it arrived, so that it has the features it was judged by."""

from datetime import datetime

from mailserver.address import Address, parse_address
from mailserver.antispam.content.relays import is_public, read_relay
from mailserver.antispam.evidence import Client, Inquiry
from mailserver.errors import Invalid
from mailserver.mime.headers import HeaderBlock, one_line

_OUR_FIELDS = 40  # that are looked through for the client
_NOBODY = Client("")


def as_inquiry(raw: bytes, received_at: datetime) -> Inquiry:
    """Take off what servers put on top since the client connected that brought the message.

    That is the first one with a public address in the Received fields.
    """
    raw = without_from_line(raw)
    header = HeaderBlock(raw)
    sender: Address | None = None
    for field, _ in zip(header, range(_OUR_FIELDS), strict=False):
        name = field.name.lower()
        if name == "return-path":
            sender = _address(one_line(field.value))
        elif name == "received":
            relay = read_relay(one_line(field.value).decode("utf-8", "replace"))
            if relay is not None and is_public(relay.ip):
                client = Client(relay.ip, relay.helo, relay.rdns)
                return Inquiry("", client, sender, (), raw[field.end :], received_at)
    return Inquiry("", _NOBODY, sender, (), raw, received_at)


def without_from_line(raw: bytes) -> bytes:
    """Drop the line that separates messages in an mbox file."""
    if raw.startswith(b"From "):
        _, _, raw = raw.partition(b"\n")
    return raw


def _address(value: bytes) -> Address | None:
    try:
        return parse_address(value.decode("utf-8", "replace").strip("<> "))
    except Invalid:
        return None
