"""COPY and MOVE."""

from mailserver.errors import NotFound
from mailserver.imap.commands.condstore import after_expunge
from mailserver.imap.commands.limits import demand_few, newest_uids
from mailserver.imap.protocol.copy import Copy
from mailserver.imap.protocol.sequences import compact, flatten
from mailserver.imap.selected import EXPUNGE_ISSUED, SOME_DELETED, Refused
from mailserver.imap.session import Session
from mailserver.mail import access, optimistic
from mailserver.mail.messages import Copied
from mailserver.model import Place, Right


async def copy(session: Session, command: Copy) -> bytes | None:
    """Put messages also into another mailbox and tell their UIDs there (RFC 3501 §6.4.7)."""
    uids = _uids(session, command)
    target = await _target(session, command)
    if not uids:
        return None
    demand_few(session, uids)
    selected = session.open
    copied = await optimistic.copy(
        session.mail, selected.listing, uids, target, heard=selected.subscription.modseq
    )
    return _code(copied, command, target)


async def move(session: Session, command: Copy) -> None:
    """Take messages to another mailbox in one step; EXPUNGE follows the UIDs (RFC 6851 §4.3)."""
    selected = session.writable
    for right in (Right.DELETE, Right.EXPUNGE):  # RFC 6851 §4.2
        selected.require(right)
    uids = newest_uids(session, _uids(session, command))
    target = await _target(session, command)
    if not uids:
        return
    moved = await optimistic.move(
        session.mail, selected.listing, uids, target, heard=selected.subscription.modseq
    )
    code = _code(moved, command, target)
    if not moved.sources:
        return
    if code is not None:
        session.untagged(b"OK [%b] Moved" % code)
    code = await after_expunge(session)
    if code is not None:
        session.untagged(b"OK [%b] Highest" % code)  # RFC 6851 §4.4


def _uids(session: Session, command: Copy) -> list[int]:
    view = session.open.view
    positions = view.positions(command.messages, by_uid=command.by_uid)
    return [view.uids[position] for position in flatten(positions)]


async def _target(session: Session, command: Copy) -> Place:
    try:
        return await access.find(session.mail, session.user, command.mailbox, Right.INSERT)
    except NotFound:
        raise Refused(b"TRYCREATE", "There is no such mailbox") from None


def _code(copied: Copied, command: Copy, target: Place) -> bytes | None:
    """Return COPYUID for who may read the target (RFC 9051 §6.4.7), if anything was copied.

    When nothing was left to copy, UIDs are passed over (RFC 3501 §6.4.8).
    """
    if not copied.sources:
        if command.by_uid:
            return None
        raise Refused(EXPUNGE_ISSUED, SOME_DELETED)  # RFC 2180 §4.4.1
    if Right.READ not in target.rights:
        return None
    return b"COPYUID %d %b %b" % (
        copied.uidvalidity,
        compact(copied.sources),
        compact(copied.targets),
    )
