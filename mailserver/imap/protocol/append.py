"""APPEND."""

from dataclasses import dataclass, field
from datetime import datetime

from mailserver.imap.protocol import flags
from mailserver.imap.protocol.cursor import Cursor
from mailserver.model import Flags


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND: a message for a mailbox."""

    mailbox: str
    flags: Flags
    received_at: datetime | None  # None: now
    message: bytes = field(repr=False)


def parse_append(args: Cursor) -> Append:
    """Read append = "APPEND" SP mailbox [SP flag-list] [SP date-time] SP literal."""
    args.space()
    mailbox = args.mailbox()
    args.space()
    names: list[str] = []
    if args.peek(b"("):
        names = args.flag_list()
        args.space()
    received_at = None
    if args.peek(b'"'):
        received_at = args.date_time()
        args.space()
    message = args.literal()
    args.end()
    # QUIRK(several): \Recent among the flags of a copied message is dropped, not refused
    kept = flags.read([name for name in names if name.lower() != "\\recent"])
    return Append(mailbox, kept, received_at, message)
