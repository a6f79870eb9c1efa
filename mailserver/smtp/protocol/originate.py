"""What a submitted message needs before it leaves (RFC 6409 §8)."""

from collections.abc import Sequence
from datetime import datetime
from email.utils import format_datetime

from mailserver.address import Address, parse_address
from mailserver.errors import Invalid
from mailserver.mime.addresses import parse as parse_address_list
from mailserver.mime.headers import HEADER_LIMIT, Field, HeaderBlock
from mailserver.smtp.protocol.replies import Refused, Reply

NO_AUTHOR = Reply(550, "5.6.0", "The message needs exactly one From field with an address")
NO_HEADER = Reply(550, "5.6.0", "The message has no header that can be read")


class Original:
    """A submitted message: its header fields, and what is done to them."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        block = HeaderBlock(content)
        self._fields: Sequence[Field] = tuple(block)
        if not self._fields or block.end - block.start > HEADER_LIMIT:
            raise Refused(NO_HEADER)

    def authors(self) -> list[Address]:
        """Return the addresses of From and Sender (RFC 5322 §3.6.2); Refused without any."""
        senders = [field.value for field in self._fields if field.name.lower() == "sender"]
        froms = [field.value for field in self._fields if field.name.lower() == "from"]
        if len(froms) != 1 or len(senders) > 1:
            raise Refused(NO_AUTHOR)
        mailboxes = (box for value in (*froms, *senders) for box in parse_address_list(value))
        try:
            found = [
                parse_address(f"{mailbox.local.decode()}@{mailbox.domain.decode()}")
                for mailbox in mailboxes
                if mailbox.local is not None and mailbox.domain is not None
            ]
        except (Invalid, UnicodeDecodeError):
            raise Refused(NO_AUTHOR) from None
        if not found:
            raise Refused(NO_AUTHOR)
        return found

    def finished(self, *, date: datetime, message_id: str) -> bytes:
        """Return the message with Date and Message-ID, and without Bcc (RFC 5322 §3.6.3)."""
        names = {field.name.lower() for field in self._fields}
        added = b""
        if "date" not in names:
            added += f"Date: {format_datetime(date)}\r\n".encode()
        if "message-id" not in names:
            added += f"Message-ID: <{message_id}>\r\n".encode()
        return b"".join((added, *self._pieces()))

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
