"""STORE and EXPUNGE."""

from collections.abc import Iterable, Sequence

from mailserver.imap.commands.condstore import after_expunge, make_aware
from mailserver.imap.commands.fetch import tell_flags
from mailserver.imap.commands.limits import newest, newest_uids
from mailserver.imap.protocol.sequences import compact, flatten
from mailserver.imap.protocol.store import Expunge, Store
from mailserver.imap.selected import EXPUNGE_ISSUED, SOME_DELETED, Refused
from mailserver.imap.session import Session
from mailserver.mail import listings, optimistic
from mailserver.model import DELETED, FlagChange, Right, flag_mask

_LINES = 2000  # lines that are put together before the client gets them


async def store(session: Session, command: Store) -> bytes | None:
    """Change flags, and tell them unless SILENT (RFC 3501 §6.4.6, RFC 7162 §3.1.3)."""
    selected = session.writable
    _check(selected.rights, command)
    if command.unchanged_since is not None:
        await make_aware(session)
    view, listing = selected.view, selected.listing
    spans = newest(session, view.positions(command.messages, by_uid=command.by_uid))
    positions = flatten(spans)
    if not positions:
        return None
    uids = [view.uids[position] for position in positions]
    stored = await optimistic.store(
        session.mail,
        listing,
        uids,
        command.mode,
        command.flags,
        heard=selected.subscription.modseq,
        rights=selected.rights,
        unchanged_since=command.unchanged_since,
    )
    if stored.modseq:
        selected.own_changes.add(stored.modseq)
    new_words = stored.changed and Right.WRITE in selected.rights
    session.learn_keywords(command.flags.keywords if new_words else ())
    refused = set(stored.refused)
    # what others did is told also to who wants to hear nothing of its own changes (RFC 3501 §6.4.6)
    loud = refused | stored.overtaken(view.modseq)
    if command.silent and not loud and not session.condstore and listing.uids is view.uids:
        return None  # nothing has left, and there is nothing to tell
    if command.silent:
        gone = await _tell(session, command, positions, uids, loud)
    else:
        gone = await tell_flags(session, spans, with_uid=command.by_uid)
    if not refused:
        return _gone(command) if gone else None
    failed = [
        uid if command.by_uid else position + 1
        for position, uid in zip(positions, uids, strict=True)
        if uid in refused
    ]
    return _modified(failed, gone=gone)


async def _tell(
    session: Session,
    command: Store,
    positions: Sequence[int],
    uids: Sequence[int],
    loud: set[int],
) -> bool:
    """Send what there is to say after SILENT: flags only of those that are `loud`.

    Returns whether some have left.
    """
    selected = session.open
    listing = selected.listing
    gone = False
    lines: list[bytes] = []
    for position, uid in zip(positions, uids, strict=True):
        index = listing.index(uid)
        if index is None:
            gone = True
        else:
            items = session.changed_items(
                selected, index, uid, with_uid=command.by_uid, silent=uid not in loud
            )
            if items:
                lines.append(session.fetch_line(position, uid, items))
    for start in range(0, len(lines), _LINES):
        session.send(b"".join(lines[start : start + _LINES]))
        await session.relieve()
    return gone


def _gone(command: Store) -> bytes:
    """Whoever wants to hear of every message hears that it was not possible (RFC 2180 §4.2)."""
    if command.silent:
        return EXPUNGE_ISSUED
    raise Refused(EXPUNGE_ISSUED, SOME_DELETED)


def _modified(failed: list[int], *, gone: bool) -> bytes:
    """Name the messages that UNCHANGEDSINCE kept from being changed (RFC 7162 §3.1.3)."""
    code = b"MODIFIED " + compact(failed)
    if gone:  # as in its example 11
        raise Refused(code, SOME_DELETED)
    return code


def _check(rights: Right, command: Store) -> None:
    """Refuse what would change nothing for want of rights; else what may be is (RFC 4314 §4)."""
    mask, given = flag_mask(rights), command.flags
    if given.bits or given.keywords:
        allowed = bool(given.bits & mask) or (bool(given.keywords) and Right.WRITE in rights)
    else:
        allowed = bool(mask) or command.mode is not FlagChange.REPLACE
    if not allowed:
        raise Refused(b"NOPERM", "Not permitted")


async def expunge(session: Session, command: Expunge) -> bytes | None:
    r"""Remove what is \Deleted; the responses follow with what else changed (RFC 3501 §6.4.3)."""
    selected = session.writable
    selected.require(Right.EXPUNGE)
    uids: Sequence[int] | None = None
    if command.uids is not None:
        view = selected.view
        positions = view.positions(command.uids, by_uid=True)
        uids = [view.uids[position] for position in flatten(positions)]
        if session.mail.config.imap.message_limit:
            uids = newest_uids(session, await _marked(session, uids))
        if not uids:
            return None
    gone = await optimistic.expunge(
        session.mail, selected.listing, uids, heard=selected.subscription.modseq
    )
    return await after_expunge(session) if gone else None


async def _marked(session: Session, uids: Iterable[int]) -> list[int]:
    r"""Return the UIDs of messages that are \Deleted now; only they count (RFC 9738 §3)."""
    listing = session.open.listing
    await listings.refresh(session.mail, listing)
    indexes = ((uid, listing.index(uid)) for uid in uids)
    return [uid for uid, index in indexes if index is not None and listing.flags[index] & DELETED]
