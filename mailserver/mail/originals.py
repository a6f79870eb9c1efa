"""What a submitted message needs before it leaves (RFC 6409 §8), the same for SMTP and JMAP."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from email.utils import format_datetime
from enum import Enum, auto

from mailserver.address import Address, parse_address, quoted
from mailserver.errors import Invalid, MailError
from mailserver.mime import as_message_ids
from mailserver.mime.addresses import parse as parse_address_list
from mailserver.mime.headers import HEADER_LIMIT, Field, HeaderBlock

_RECIPIENTS = ("to", "cc", "bcc")


class Flaw(Enum):
    """Why a message cannot be sent; each protocol has its words for it."""

    NO_HEADER = auto()
    NO_AUTHOR = auto()  # not exactly one From field with an address, or several Sender fields
    AUTHOR_NOT_YOURS = auto()  # an address of From or Sender
    SENDER_NOT_YOURS = auto()  # the reverse-path
    NO_SENDER = auto()  # no single address from which the reverse-path could be made
    TOO_LARGE = auto()
    NO_RECIPIENTS = auto()
    TOO_MANY_RECIPIENTS = auto()
    BAD_RECIPIENTS = auto()
    HELD_TWICE = auto()  # for a time and until one
    HELD_TOO_LONG = auto()
    BACK_BEFORE_RELEASE = auto()  # it would go back undelivered before it may leave
    ACCOUNT_HELD = auto()  # it sends like one whose password was stolen
    TOO_FAST = auto()


class Unsendable(MailError):
    """A message cannot be sent as it is; `items` are the recipients that are at fault."""

    def __init__(self, flaw: Flaw, items: Sequence[str] = ()) -> None:
        super().__init__(flaw.name)
        self.flaw = flaw
        self.items = tuple(items)


class Original:
    """A submitted message: its header fields, and what is done to them."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        block = HeaderBlock(content)
        self._fields: Sequence[Field] = tuple(block)
        if not self._fields or block.end - block.start > HEADER_LIMIT:
            raise Unsendable(Flaw.NO_HEADER)

    def authors(self) -> list[Address]:
        """Return the addresses of From and Sender (RFC 5322 §3.6.2); Unsendable without any."""
        senders, froms = self._values("sender"), self._values("from")
        if len(froms) != 1 or len(senders) > 1:
            raise Unsendable(Flaw.NO_AUTHOR)
        try:
            found = [parse_address(text) for text in _texts((*froms, *senders))]
        except (Invalid, UnicodeDecodeError):
            raise Unsendable(Flaw.NO_AUTHOR) from None
        if not found:
            raise Unsendable(Flaw.NO_AUTHOR)
        return found

    def sender(self) -> str:
        """Return the address that the reverse-path is made of (RFC 8621 §7).

        It is that of Sender, else that of From; Unsendable when there is not exactly one.
        """
        fields = self._values("sender") or self._values("from")
        try:
            found = list(_texts(fields))
        except UnicodeDecodeError:
            raise Unsendable(Flaw.NO_SENDER) from None
        if len(fields) != 1 or len(found) != 1:
            raise Unsendable(Flaw.NO_SENDER)
        return found[0]

    def recipients(self) -> list[str]:
        """Return the addresses of To, Cc and Bcc, each once (RFC 8621 §7)."""
        fields = [value for name in _RECIPIENTS for value in self._values(name)]
        return list(dict.fromkeys(_texts(fields, errors="replace")))

    def message_id(self) -> str:
        """Return the Message-ID without angle brackets; empty when there is none."""
        for value in self._values("message-id"):
            ids = as_message_ids(value)
            if ids:
                return ids[0]
        return ""

    def needs_utf8(self) -> bool:
        """Tell whether the header is such that only SMTPUTF8 carries it (RFC 6531 §3.1)."""
        return any(not field.value.isascii() for field in self._fields)

    def is_8bit(self) -> bool:
        """Tell whether the message has octets above 127 (RFC 6152 §2)."""
        return not self._content.isascii()

    def finished(self, *, date: datetime, message_id: str) -> bytes:
        """Return the message with Date and Message-ID, and without Bcc (RFC 5322 §3.6.3)."""
        names = {field.name.lower() for field in self._fields}
        added = b""
        if "date" not in names:
            added += f"Date: {format_datetime(date)}\r\n".encode()
        if "message-id" not in names:
            added += f"Message-ID: <{message_id}>\r\n".encode()
        return b"".join((added, *self._pieces()))

    def _values(self, name: str) -> list[bytes]:
        return [field.value for field in self._fields if field.name.lower() == name]

    def _pieces(self) -> list[bytes]:
        """Cut the Bcc fields out."""
        pieces = []
        position = 0
        for field in self._fields:
            if field.name.lower() == "bcc":
                pieces.append(self._content[position : field.start])
                position = field.end
        pieces.append(self._content[position:])
        return pieces


def _texts(values: Iterable[bytes], errors: str = "strict") -> Iterable[str]:
    """Return the addr-specs of fields, as they are written."""
    for value in values:
        for mailbox in parse_address_list(value):
            if mailbox.local is not None and mailbox.domain is not None:
                local = mailbox.local.decode("utf-8", errors)
                yield f"{quoted(local)}@{mailbox.domain.decode('utf-8', errors)}"


def has_line_ends(content: bytes) -> bool:
    """Tell whether no line end is a bare CR or a bare LF."""
    pairs = content.count(b"\r\n")
    return pairs == content.count(b"\r") == content.count(b"\n")


def repair_line_ends(content: bytes | bytearray) -> bytes:
    """Make every bare CR and bare LF a CR LF (RFC 6409 §8, RFC 5321 §2.3.8)."""
    whole = bytes(content).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return whole.replace(b"\n", b"\r\n")


def received(hostname: str, token: str, date: datetime) -> bytes:
    """Return the Received field of a message that came by no mail protocol (RFC 5321 §4.4)."""
    return (
        f"Received: by {hostname} with HTTP id {token};\r\n\t{format_datetime(date)}\r\n"
    ).encode()


def return_path(sender: str) -> bytes:
    """Return the field of the final delivery: the reverse-path, `<>` for the null one."""
    return f"Return-Path: <{sender}>\r\n".encode()
