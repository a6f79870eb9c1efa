"""Updates of search results: ADDTO, REMOVEFROM and CANCELUPDATE (RFC 5267 §4.3)."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.responses import string
from mailserver.imap.protocol.search_keys import And, Everything, Key, Messages, Not, Or
from mailserver.imap.protocol.sequences import STAR, SequenceSet, compact
from mailserver.imap.protocol.view import View

NOTHING = Not(Everything())


@dataclass(frozen=True, slots=True)
class CancelUpdate:
    """CANCELUPDATE: the tags of searches whose results are not to be updated any more."""

    tags: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive results, and the context position of the first; 0: in the mailbox's order."""

    position: int
    uids: Sequence[int]


def parse_cancelupdate(args: Cursor) -> CancelUpdate:
    """Read "CANCELUPDATE" 1*(SP quoted)."""
    tags = []
    while args.take(b" "):
        tags.append(args.string())
    args.end()
    if not tags:
        args.fail("Expected a tag")
    return CancelUpdate(tuple(tags))


def removals(results: Sequence[int], gone: Container[int]) -> list[Run]:
    """Return how results in an order of their own lose some: the last ones first."""
    return list(reversed(list(_runs(results, gone))))


def additions(results: Sequence[int], new: Container[int]) -> list[Run]:
    """Return how results came to have some new ones: the first ones first."""
    return list(_runs(results, new))


def _runs(results: Sequence[int], chosen: Container[int]) -> Iterator[Run]:
    run: list[int] = []
    for position, uid in enumerate(results, 1):
        if uid in chosen:
            run.append(uid)
        elif run:
            yield Run(position - len(run), run)
            run = []
    if run:
        yield Run(len(results) + 1 - len(run), run)


def update(
    tag: bytes,
    place: bytes,
    item: bytes,
    runs: Sequence[tuple[int, Sequence[int]]],
    *,
    by_uid: bool,
) -> bytes:
    """Write an ESEARCH response with ADDTO or REMOVEFROM, of positions and numbers.

    `place` tells the mailbox, for a search of several.
    """
    pairs = b" ".join(b"%d %b" % (position, compact(numbers)) for position, numbers in runs)
    uid = b"UID " if by_uid else b""
    return b"ESEARCH (TAG %b%b) %b%b (%b)" % (string(tag), place, uid, item, pairs)


def frozen(key: Key, view: View) -> Key:
    """Replace sequence numbers and "$" by the messages they mean now (RFC 5267 §4.3)."""
    if isinstance(key, And):
        return And(tuple(frozen(each, view) for each in key.keys))
    if isinstance(key, Or):
        return Or(frozen(key.left, view), frozen(key.right, view))
    if isinstance(key, Not):
        return Not(frozen(key.key, view))
    if not isinstance(key, Messages) or (key.by_uid and key.messages.ranges):
        return key
    named = key.messages
    spans = named.within(view.count) if named.ranges else view.saved_spans()
    if not spans:
        return NOTHING
    uids = view.uids  # messages that come later have larger ones
    ranges = tuple((uids[span.start], uids[span.stop - 1]) for span in spans)
    return Messages(SequenceSet(ranges), by_uid=True)


def names_last(key: Key) -> bool:
    """Whether what matches depends on which message is the last, as with "UID *"."""
    if isinstance(key, And):
        return any(map(names_last, key.keys))
    if isinstance(key, Or):
        return names_last(key.left) or names_last(key.right)
    if isinstance(key, Not):
        return names_last(key.key)
    return isinstance(key, Messages) and any(STAR in ends for ends in key.messages.ranges)
