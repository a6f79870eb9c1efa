"""SETACL DELETEACL GETACL LISTRIGHTS MYRIGHTS (RFC 4314): how they are read and answered.

Names of mailboxes are given as they go out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.responses import astring
from mailserver.model import (
    NO_RIGHTS,
    RIGHT_LETTERS,
    Right,
    RightsChange,
    rights_text,
)

MAX_IDENTIFIER = 1000  # octets
# rights of RFC 2086 that several later ones make up (RFC 4314 §2.1.1)
VIRTUAL = {"c": Right.CREATE | Right.DELETE_MAILBOX, "d": Right.DELETE | Right.EXPUNGE}
_CHANGES = {b"+": RightsChange.ADD, b"-": RightsChange.REMOVE}


@dataclass(frozen=True, slots=True)
class SetAcl:
    """SETACL: the rights that an identifier gets, or gets beside those it has, or loses."""

    mailbox: str
    identifier: str
    how: RightsChange
    rights: Right


@dataclass(frozen=True, slots=True)
class Identified:
    """DELETEACL and LISTRIGHTS: a mailbox and an identifier."""

    mailbox: str
    identifier: str


def parse_setacl(args: Cursor) -> SetAcl:
    """Read setacl = "SETACL" SP mailbox SP identifier SP mod-rights."""
    args.space()
    mailbox = args.mailbox()
    args.space()
    identifier = _identifier(args)
    args.space()
    text = args.astring()
    args.end()
    how = _CHANGES.get(text[:1], RightsChange.REPLACE)
    letters = text if how is RightsChange.REPLACE else text[1:]
    rights = NO_RIGHTS
    for letter in letters.decode("latin-1"):
        known = RIGHT_LETTERS.get(letter) or VIRTUAL.get(letter)
        if known is None:
            if letter.isascii() and letter.isupper():
                args.fail("Uppercase rights are not allowed")
            args.fail("A right is not supported")
        rights |= known
    return SetAcl(mailbox, identifier, how, rights)


def parse_identified(args: Cursor) -> Identified:
    """Read SP mailbox SP identifier: DELETEACL, LISTRIGHTS."""
    args.space()
    mailbox = args.mailbox()
    args.space()
    identifier = _identifier(args)
    args.end()
    return Identified(mailbox, identifier)


def _identifier(args: Cursor) -> str:
    octets = args.astring()
    try:
        identifier = octets.decode("utf-8")
    except UnicodeDecodeError:
        args.fail("Identifier is not UTF-8")
    if not identifier.removeprefix("-") or len(octets) > MAX_IDENTIFIER:
        args.fail("Identifier is empty or too long")
    return identifier


def shown(rights: Right) -> bytes:
    """Write rights, and those of RFC 2086 of which any part is there (§2.1.1)."""
    letters = rights_text(rights & ~Right.ADMINISTER)
    letters += "".join(letter for letter, parts in VIRTUAL.items() if rights & parts)
    letters += rights_text(rights & Right.ADMINISTER)
    return astring(letters.encode("ascii"))


def acl(name: bytes, entries: Iterable[tuple[str, Right]]) -> bytes:
    """Write an ACL response (§3.6)."""
    pairs = [b"%b %b" % (astring(who.encode()), shown(rights)) for who, rights in entries]
    return b"* ACL %b\r\n" % b" ".join([name, *pairs])


def list_rights(name: bytes, identifier: str, always: Right) -> bytes:
    """Write a LISTRIGHTS response: what is always granted, and each right that can be (§3.7)."""
    required = astring(rights_text(always).encode("ascii"))
    single = "".join(letter for letter, right in RIGHT_LETTERS.items() if right not in always)
    each = " ".join((*single, *VIRTUAL)).encode("ascii")
    who = astring(identifier.encode())
    return b"* LISTRIGHTS %b %b %b %b\r\n" % (name, who, required, each)


def my_rights(name: bytes, rights: Right) -> bytes:
    """Write a MYRIGHTS response (§3.8)."""
    return b"* MYRIGHTS %b %b\r\n" % (name, shown(rights))
