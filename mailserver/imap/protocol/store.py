"""STORE and EXPUNGE."""

from dataclasses import dataclass

from mailserver.imap.protocol import flags
from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.modseq import mod_sequence
from mailserver.imap.protocol.sequences import SequenceSet
from mailserver.model import FlagChange, Flags

_MODES = (
    (b"+FLAGS", FlagChange.ADD),
    (b"-FLAGS", FlagChange.REMOVE),
    (b"FLAGS", FlagChange.REPLACE),
)


@dataclass(frozen=True, slots=True)
class Store:
    """STORE: how to change the flags of some messages."""

    messages: SequenceSet
    by_uid: bool
    mode: FlagChange
    flags: Flags
    silent: bool
    unchanged_since: int | None = None  # a mod-sequence (RFC 7162 §3.1.3)


@dataclass(frozen=True, slots=True)
class Expunge:
    r"""EXPUNGE: remove what is \Deleted, all of it or only among some UIDs."""

    uids: SequenceSet | None


def parse_store(args: Cursor) -> Store:
    """Read store = "STORE" SP sequence-set SP store-att-flags."""
    return _store(args, by_uid=False)


def parse_uid_store(args: Cursor) -> Store:
    """Read "UID" SP store."""
    return _store(args, by_uid=True)


def _store(args: Cursor, *, by_uid: bool) -> Store:
    args.space()
    messages = args.sequence_set()
    args.space()
    unchanged_since = None
    if args.take(b"(UNCHANGEDSINCE "):
        unchanged_since = mod_sequence(args)
        args.expect(b") ")
    mode = next((mode for word, mode in _MODES if args.take(word)), None)
    if mode is None:
        args.fail("Expected FLAGS, +FLAGS or -FLAGS")
    silent = args.take(b".SILENT")
    args.space()
    names = args.flag_list() if args.peek(b"(") else _bare_flags(args)
    args.end()
    return Store(messages, by_uid, mode, flags.read(names), silent, unchanged_since)


def _bare_flags(args: Cursor) -> list[str]:
    names = [args.flag()]
    while args.take(b" "):
        names.append(args.flag())
    return names


def parse_expunge(args: Cursor) -> Expunge:
    """Read expunge = "EXPUNGE"."""
    args.end()
    return Expunge(None)


def parse_uid_expunge(args: Cursor) -> Expunge:
    """Read uid-expunge = "UID" SP "EXPUNGE" SP sequence-set (RFC 4315 §2.1)."""
    args.space()
    uids = args.sequence_set()
    args.end()
    return Expunge(uids)
