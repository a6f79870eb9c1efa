"""FETCH: which messages, what of them, and what it changes.

`fetch_plan` works out what has to be read, `fetch_reading` reads it, `fetch_texts` has what is kept
of it ready to be sent, `fetch_writing` sends it.
"""

from collections.abc import Iterable, Sequence
from contextlib import aclosing, suppress

from mailserver.imap.commands import fetch_reading, fetch_writing
from mailserver.imap.commands.condstore import make_aware, send_vanished
from mailserver.imap.commands.fetch_plan import Plan
from mailserver.imap.commands.limits import newest
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.fetch import Attribute, Binary, Fetch, Item
from mailserver.imap.protocol.sequences import SequenceSet, flatten, spans
from mailserver.imap.selected import EXPUNGE_ISSUED, Refused, Selected
from mailserver.imap.session import Session
from mailserver.mail import mailboxes, optimistic
from mailserver.model import SEEN, FlagChange, Flags, Right


async def fetch(session: Session, command: Fetch) -> bytes | None:
    r"""Send data of messages; sections that are not PEEKed set \Seen first (RFC 3501 §6.4.5)."""
    selected = session.open
    if Attribute.MODSEQ in command.items:
        await make_aware(session)
    if command.vanished:
        await _tell_vanished(session, command)
    positions = _positions(session, command)
    plan = Plan.of(command.items)
    must_see = command.sets_seen and not selected.read_only and Right.SEEN in selected.rights
    tells_modseq = must_see and session.condstore  # and so the UID too (RFC 7162 §3.2.4)
    with_uid = (command.by_uid or session.qresync or tells_modseq) and not session.uidonly
    if with_uid and Attribute.UID not in plan.attributes:
        plan.attributes = (Attribute.UID, *plan.attributes)
    async with aclosing(fetch_reading.read(session, selected, positions, plan)) as chunks:
        async for chunk in chunks:
            if must_see:
                must_see = False  # with the first octets at hand, in one batch for all messages
                await _set_seen(session, selected, flatten(positions))
                if Attribute.FLAGS not in plan.attributes:
                    plan.attributes = (*plan.attributes, Attribute.FLAGS)
                if tells_modseq and Attribute.MODSEQ not in plan.attributes:
                    plan.attributes = (*plan.attributes, Attribute.MODSEQ)
            await fetch_writing.send(session, selected, plan, chunk)
    return EXPUNGE_ISSUED if plan.gone else None


async def send_unasked(session: Session, uids: Sequence[int], items: Sequence[Item]) -> None:
    """Send data of messages that have just come; what is gone or cannot be told is passed over."""
    singly = any(isinstance(item, Binary) for item in items)  # one may have an unknown encoding
    for some in [[uid] for uid in uids] if singly else [uids]:
        messages = SequenceSet(tuple((uid, uid) for uid in some))
        with suppress(Refused):
            await fetch(session, Fetch(messages, by_uid=True, items=tuple(items)))


async def tell_flags(session: Session, positions: Iterable[range], *, with_uid: bool) -> bool:
    """Send the flags of messages that a client has changed; tell whether some have left."""
    selected = session.open
    attributes = [Attribute.FLAGS]
    if session.condstore:
        attributes.append(Attribute.MODSEQ)
    # RFC 7162 §3.2.4: whoever knows mod-sequences is told UIDs with them
    if (with_uid or session.condstore) and not session.uidonly:
        attributes.insert(0, Attribute.UID)
    plan = Plan.of(attributes)
    async for chunk in fetch_reading.listed(selected, positions, plan):
        await fetch_writing.send(session, selected, plan, chunk)
    return plan.gone


def _positions(session: Session, command: Fetch) -> Sequence[range]:
    """Return the positions of what is asked for: of a stretch, what changed."""
    selected = session.open
    positions = selected.view.positions(command.messages, by_uid=command.by_uid)
    if command.partial is not None:
        positions = spans(command.partial.of(flatten(positions)))
    if command.changed_since is not None:
        positions = _changed(selected, positions, command.changed_since)
    return newest(session, positions)


async def _tell_vanished(session: Session, command: Fetch) -> None:
    """Tell what has left, before anything that has a sequence number (RFC 7162 §3.2.6)."""
    if not session.qresync:
        raise ProtocolError("VANISHED needs ENABLE QRESYNC")
    await session.synchronize(may_expunge=True, ask=True)
    mailbox = await mailboxes.by_id(session.mail, session.open.account, session.open.mailbox_id)
    since = command.changed_since or 0
    await send_vanished(session, since, command.messages, mailbox.uidnext)


def _changed(selected: Selected, positions: Sequence[range], modseq: int) -> list[range]:
    """Keep the positions of messages that changed after a mod-sequence (RFC 7162 §3.1.4.1)."""
    changed = (selected.view.position(uid) for uid in selected.listing.changed_since(modseq))
    spans = iter(positions)
    span = next(spans, None)
    found: list[range] = []
    for position in changed:
        while span is not None and position is not None and position >= span.stop:
            span = next(spans, None)
        if span is None:
            break
        if position is None or position < span.start:
            continue
        if found and found[-1].stop == position:
            found[-1] = range(found[-1].start, position + 1)
        else:
            found.append(range(position, position + 1))
    return found


async def _set_seen(session: Session, selected: Selected, positions: Sequence[int]) -> None:
    listing, view = selected.listing, selected.view
    if listing.uids is view.uids:
        unseen = [view.uids[p] for p in positions if not listing.flags[p] & SEEN]
    else:
        unseen = [view.uids[position] for position in positions]
    if not unseen:
        return
    stored = await optimistic.store(
        session.mail,
        listing,
        unseen,
        FlagChange.ADD,
        Flags(SEEN),
        heard=selected.subscription.modseq,
    )
    if stored.modseq:
        selected.own_changes.add(stored.modseq)
