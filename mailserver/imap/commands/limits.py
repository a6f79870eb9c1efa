"""How many messages one command may touch (RFC 9738): the newest ones, or none at all."""

from collections.abc import Sequence

from mailserver.imap.protocol import search as search_wire
from mailserver.imap.protocol.search import Returns
from mailserver.imap.protocol.sequences import last
from mailserver.imap.selected import Refused
from mailserver.imap.session import Session


def newest(session: Session, positions: Sequence[range]) -> Sequence[range]:
    """Return the positions of the newest messages, when there are more than are allowed."""
    limit = session.mail.config.imap.message_limit
    if not limit or sum(map(len, positions)) <= limit:
        return positions
    kept = last(positions, limit)
    _tell(session, limit, session.open.view.uids[kept[0].start])
    return kept


def newest_uids(session: Session, uids: Sequence[int]) -> Sequence[int]:
    """Return the largest of ascending UIDs, when there are more than are allowed."""
    limit = session.mail.config.imap.message_limit
    if not limit or len(uids) <= limit:
        return uids
    _tell(session, limit, uids[-limit])
    return uids[-limit:]


def newest_found(
    session: Session, returns: Returns | None, found: Sequence[int], uids: Sequence[int]
) -> Sequence[int]:
    """Return which of the found positions a search may tell; `uids` are those of the mailbox."""
    limit = session.mail.config.imap.message_limit
    kept = search_wire.newest(returns, found, limit) if limit else found
    if len(kept) < len(found):
        _tell(session, limit, uids[kept[0]])
    return kept


def demand_few(session: Session, uids: Sequence[int]) -> None:
    """Refuse to copy too many messages: all are copied or none."""
    limit = save_limit(session)
    if limit and len(uids) > limit:
        code = b"MESSAGELIMIT %d %d" % (limit, uids[-limit])
        raise Refused(code, "Too many messages to copy, try fewer")


def demand_few_new(session: Session, count: int) -> None:
    """Refuse to store too many messages: all are stored or none."""
    limit = save_limit(session)
    if limit and count > limit:
        raise Refused(b"MESSAGELIMIT %d" % limit, "Too many messages to store, try fewer")


def save_limit(session: Session) -> int:
    """Return how many messages may be stored at once; 0: any number."""
    imap = session.mail.config.imap
    return imap.save_limit or imap.message_limit


def _tell(session: Session, limit: int, uid: int) -> None:
    session.limited = b"MESSAGELIMIT %d %d" % (limit, uid)
