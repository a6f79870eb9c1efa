"""Mod-sequences as a client writes them (RFC 7162 §7)."""

import re

from mailserver.imap.protocol.cursor import Cursor

MAX_MODSEQ = 2**63 - 1
_MODSEQ = re.compile(rb"\d{1,19}")


def mod_sequence(args: Cursor, *, least: int = 0) -> int:
    """Read mod-sequence-valzer, or mod-sequence-value when `least` is 1."""
    value = int(args.match(_MODSEQ, "a mod-sequence"))
    if not least <= value <= MAX_MODSEQ:
        args.fail("Mod-sequence is out of range")
    return value
