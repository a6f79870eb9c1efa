"""What CONDSTORE and QRESYNC add to several commands (RFC 7162)."""

from collections.abc import Iterable, Iterator, Sequence

from mailserver.errors import CannotCalculateChanges
from mailserver.imap.protocol.select import Resync
from mailserver.imap.protocol.sequences import SequenceSet
from mailserver.imap.selected import Selected
from mailserver.imap.session import Session
from mailserver.mail import changes, mailboxes
from mailserver.model import GONE_KINDS

_LINES = 2000  # lines that are put together before the client gets them
Span = tuple[int, int]  # the first and the last of consecutive UIDs


async def make_aware(session: Session) -> None:
    """Note that the client knows mod-sequences, and tell the one it has now (§3.1)."""
    if session.condstore:
        return
    session.enabled.add(b"CONDSTORE")
    if session.selected is not None:
        await session.synchronize(may_expunge=False, ask=False)
        session.untagged(b"OK [HIGHESTMODSEQ %d] Highest" % await highest(session))


async def highest(session: Session) -> int:
    """Return the mod-sequence up to which the client was told everything."""
    selected = session.open
    mailbox = await mailboxes.by_id(session.mail, selected.account, selected.mailbox_id)
    return min(mailbox.modseq, selected.complete)


async def after_expunge(session: Session) -> bytes | None:
    """Tell what left, and return the code with the mod-sequence that it led to (§3.2.7)."""
    if not session.condstore:
        return None
    await session.synchronize(may_expunge=True, ask=True, demanded=True)
    return b"HIGHESTMODSEQ %d" % await highest(session)


async def resynchronize(session: Session, resync: Resync, uidnext: int) -> None:
    """Tell what happened since a client was here last (§3.2.5.1)."""
    selected = session.open
    known = resync.known or SequenceSet(((1, uidnext - 1),) if uidnext > 1 else ())
    await send_vanished(session, resync.modseq, known, uidnext, _floor(selected, resync))
    view, listing = selected.view, selected.listing
    spans = _spans(known, uidnext - 1)
    lines: list[bytes] = []
    for uid in listing.changed_since(resync.modseq):
        index, position = listing.index(uid), view.position(uid)
        if index is None or position is None or not _has(spans, uid):
            continue
        items = session.changed_items(selected, index, uid, with_uid=True)
        lines.append(session.fetch_line(position, uid, items))
    for start in range(0, len(lines), _LINES):
        session.send(b"".join(lines[start : start + _LINES]))
        await session.relieve()


async def send_vanished(
    session: Session, modseq: int, known: SequenceSet, uidnext: int, floor: int = 0
) -> None:
    """Tell which of the UIDs have left since a mod-sequence (§3.2.10.1).

    When the log does not reach back, all UIDs above `floor` that are not there now have left.
    """
    selected = session.open
    view = selected.view
    try:
        entries = await changes.since(session.mail, selected.account, modseq, limit=None)
    except CannotCalculateChanges:
        gone = list(_gaps(view.uids[: view.count], floor + 1, uidnext - 1))
    else:
        left = {
            uid
            for entry in entries
            if entry.mailbox_id == selected.mailbox_id and entry.kind in GONE_KINDS
            for uid in entry.uids
        }
        # what left after the mailbox was read is told later, without EARLIER
        gone = list(_runs(sorted(uid for uid in left if view.position(uid) is None)))
    shown = _common(gone, _spans(known, uidnext - 1))
    if shown:
        session.untagged(b"VANISHED (EARLIER) " + SequenceSet(tuple(shown)).render())


def _floor(selected: Selected, resync: Resync) -> int:
    """Return the largest UID up to which the client knows what has left (§3.2.5.2)."""
    if resync.match is None:
        return 0
    view = selected.view
    numbers, uids = (_each(found, view.count) for found in resync.match)
    floor = 0
    for number, uid in zip(numbers, uids, strict=False):
        if number > view.count or view.uids[number - 1] != uid:
            break
        floor = uid
    return floor


def _each(found: SequenceSet, count: int) -> Iterator[int]:
    """Count through a set, no further than a mailbox of `count` messages can match."""
    for first, last in found.ranges:
        yield from range(first, min(last, first + count) + 1)


def _spans(found: SequenceSet, largest: int) -> list[Span]:
    """Return a set as ascending spans that do not overlap."""
    spans: list[Span] = []
    pairs = ((first or largest, last or largest) for first, last in found.ranges)
    for low, high in sorted((min(pair), max(pair)) for pair in pairs):
        if spans and low <= spans[-1][1] + 1:
            spans[-1] = spans[-1][0], max(high, spans[-1][1])
        else:
            spans.append((low, high))
    return spans


def _has(spans: Sequence[Span], uid: int) -> bool:
    low, high = 0, len(spans)
    while low < high:
        middle = (low + high) // 2
        if spans[middle][1] < uid:
            low = middle + 1
        else:
            high = middle
    return low < len(spans) and spans[low][0] <= uid


def _runs(uids: Iterable[int]) -> Iterator[Span]:
    """Join consecutive UIDs."""
    first = last = 0
    for uid in uids:
        if uid != last + 1 or not first:
            if first:
                yield first, last
            first = uid
        last = uid
    if first:
        yield first, last


def _gaps(uids: Iterable[int], start: int, end: int) -> Iterator[Span]:
    """Return what lies between UIDs, from `start` to `end`."""
    for uid in uids:
        if uid > start:
            yield start, uid - 1
        start = max(start, uid + 1)
    if start <= end:
        yield start, end


def _common(left: Sequence[Span], right: Sequence[Span]) -> list[Span]:
    """Return what two lists of ascending spans have in common."""
    found: list[Span] = []
    i = j = 0
    while i < len(left) and j < len(right):
        low, high = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if low <= high:
            found.append((low, high))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return found
