"""SELECT and EXAMINE."""

from dataclasses import dataclass

from mailserver.imap.protocol.cursor import Cursor


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT or EXAMINE: the mailbox to open."""

    mailbox: str


def parse_select(args: Cursor) -> Select:
    """Read select = "SELECT" SP mailbox; EXAMINE is the same."""
    args.space()
    mailbox = args.mailbox()
    args.end()
    return Select(mailbox)
