"""UIDBATCHES: a mailbox cut into stretches of about as many messages (RFC 10022)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mailserver.imap.protocol.cursor import MAX_NUMBER, Cursor
from mailserver.imap.protocol.responses import string


@dataclass(frozen=True, slots=True)
class UidBatches:
    """UIDBATCHES: how many messages a batch has, and which batches are wanted, from 1 on."""

    size: int
    first: int = 1
    last: int = MAX_NUMBER


def parse_uidbatches(args: Cursor) -> UidBatches:
    """Read uidbatches = "UIDBATCHES" SP nz-number [SP nz-number ":" nz-number]."""
    args.space()
    size = _positive(args)
    if not args.take(b" "):
        args.end()
        return UidBatches(size)
    first = _positive(args)
    args.expect(b":")
    last = _positive(args)
    args.end()
    if first > last:
        args.fail("Batches are counted upwards", b"CLIENTBUG")
    return UidBatches(size, first, last)


def _positive(args: Cursor) -> int:
    return args.number() or args.fail("Zero is not possible here", b"CLIENTBUG")


def uidbatches(tag: bytes, uids: Sequence[int], command: UidBatches) -> bytes:
    """Write a UIDBATCHES response; the batch with the largest UIDs is the first."""
    response = b"UIDBATCHES (TAG %b)" % string(tag)
    ranges = b",".join(b"%d:%d" % pair for pair in _batches(uids, command))
    return response + b" " + ranges if ranges else response


def _batches(uids: Sequence[int], command: UidBatches) -> Iterator[tuple[int, int]]:
    """Return the ends of each batch, the larger one first; together they leave no UID out."""
    size = command.size
    for before in range((command.first - 1) * size, len(uids), size):
        if before >= command.last * size:
            break
        end = len(uids) - before  # of the batch, as a position
        high = uids[end] - 1 if before else uids[-1]
        yield high, uids[end - size] if end > size else 1
