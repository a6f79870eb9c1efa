"""COPY and MOVE."""

from dataclasses import dataclass

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.sequences import SequenceSet


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY or MOVE: messages and the mailbox they go to."""

    messages: SequenceSet
    by_uid: bool
    mailbox: str


def parse_copy(args: Cursor) -> Copy:
    """Read copy = "COPY" SP sequence-set SP mailbox; MOVE is the same (RFC 6851 §4)."""
    return _copy(args, by_uid=False)


def parse_uid_copy(args: Cursor) -> Copy:
    """Read "UID" SP copy."""
    return _copy(args, by_uid=True)


def _copy(args: Cursor, *, by_uid: bool) -> Copy:
    args.space()
    messages = args.sequence_set()
    args.space()
    mailbox = args.mailbox()
    args.end()
    return Copy(messages, by_uid, mailbox)
