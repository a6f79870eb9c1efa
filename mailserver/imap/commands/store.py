"""STORE and EXPUNGE."""

from mailserver.imap.protocol.sequences import flatten
from mailserver.imap.protocol.store import Expunge, Store
from mailserver.imap.session import Refused, Session
from mailserver.mail import listings, messages

EXPUNGE_ISSUED = Refused(b"EXPUNGEISSUED", "Some of the messages are gone")
_LINES = 2000  # lines that are put together before the client gets them


async def store(session: Session, command: Store) -> None:
    """Change flags, and tell them unless SILENT (RFC 3501 §6.4.6)."""
    selected = session.writable
    view, listing = selected.view, selected.listing
    positions = flatten(view.positions(command.messages, by_uid=command.by_uid))
    if not positions:
        return
    uids = [view.uids[position] for position in positions]
    stored = await messages.store(
        session.mail, session.account, selected.mailbox_id, uids, command.mode, command.flags
    )
    if stored.modseq:
        selected.own_changes.add(stored.modseq)
        await listings.refresh(session.mail, listing)
    session.learn_keywords(command.flags.keywords if stored.changed else ())
    gone = False
    lines: list[bytes] = []
    for position, uid in zip(positions, uids, strict=True):
        index = listing.index(uid)
        if index is None:
            gone = True
        elif not command.silent:
            shown = session.flags_text(selected, index, uid)
            lines.append(
                b"* %d FETCH (UID %d FLAGS (%b))\r\n" % (position + 1, uid, shown)
                if command.by_uid
                else b"* %d FETCH (FLAGS (%b))\r\n" % (position + 1, shown)
            )
    for start in range(0, len(lines), _LINES):
        session.send(b"".join(lines[start : start + _LINES]))
        await session.relieve()
    if gone:
        raise EXPUNGE_ISSUED


async def expunge(session: Session, command: Expunge) -> None:
    r"""Remove what is \Deleted; the responses follow with what else changed (RFC 3501 §6.4.3)."""
    selected = session.writable
    uids: list[int] | None = None
    if command.uids is not None:
        view = selected.view
        positions = view.positions(command.uids, by_uid=True)
        uids = [view.uids[position] for position in flatten(positions)]
        if not uids:
            return
    await messages.expunge(session.mail, session.account, selected.mailbox_id, uids)
