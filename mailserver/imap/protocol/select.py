"""SELECT and EXAMINE."""

import re
from dataclasses import dataclass

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.modseq import mod_sequence
from mailserver.imap.protocol.sequences import SequenceSet

_NAME = re.compile(rb"[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Resync:
    """What a client remembers of a mailbox (RFC 7162 §3.2.5)."""

    uidvalidity: int
    modseq: int
    known: SequenceSet | None = None  # UIDs that the client has; None: all there ever were
    match: tuple[SequenceSet, SequenceSet] | None = None  # sequence numbers and their UIDs


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT or EXAMINE: the mailbox to open, and what the client remembers of it."""

    mailbox: str
    condstore: bool = False
    resync: Resync | None = None


def parse_select(args: Cursor) -> Select:
    """Read select = "SELECT" SP mailbox [SP "(" select-param *(SP select-param) ")"]."""
    args.space()
    mailbox = args.mailbox()
    condstore, resync = False, None
    if args.take(b" ("):
        while True:
            name = args.match(_NAME, "a parameter").upper()
            if name == b"CONDSTORE":
                condstore = True
            elif name == b"QRESYNC" and resync is None:
                resync = _resync(args)
            else:
                args.fail("Unknown parameter")
            if args.take(b")"):
                break
            args.space()
    args.end()
    return Select(mailbox, condstore, resync)


def _resync(args: Cursor) -> Resync:
    """Read SP "(" uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data] ")"."""
    args.space()
    args.expect(b"(")
    uidvalidity = args.number()
    args.space()
    modseq = mod_sequence(args, least=1)
    known, match = None, None
    if not args.peek(b" (") and args.take(b" "):
        known = _plain_set(args)
    if args.take(b" ("):
        numbers = _plain_set(args)
        args.space()
        match = numbers, _plain_set(args)
        args.expect(b")")
    args.expect(b")")
    return Resync(uidvalidity, modseq, known, match)


def _plain_set(args: Cursor) -> SequenceSet:
    """Read a sequence set in which "*" is not allowed."""
    found = args.sequence_set()
    if not found.ranges or any(not first or not last for first, last in found.ranges):
        args.fail("* and $ are not possible here")
    return found
