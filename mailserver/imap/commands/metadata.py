"""GETMETADATA SETMETADATA."""

from mailserver.errors import Forbidden, TooLarge, TooMany
from mailserver.imap.protocol import metadata as wire
from mailserver.imap.protocol.metadata import GetMetadata, SetMetadata
from mailserver.imap.selected import Refused
from mailserver.imap.session import Session
from mailserver.mail import access, metadata
from mailserver.model import AccountId, MailboxId


async def get_metadata(session: Session, command: GetMetadata) -> bytes | None:
    """Tell annotations of a mailbox or of the server (RFC 5464 §4.2)."""
    path, account, mailbox = await _place(session, command.mailbox)
    values = await metadata.get(session.mail, session.account, account, mailbox)
    found = wire.chosen(command, values)
    limit = command.max_size
    if limit is None:
        shown, longest = found, 0
    else:
        shown = [(name, value) for name, value in found if value is None or len(value) <= limit]
        longest = max((len(value) for _, value in found if value is not None), default=0)
    if shown:
        session.send(wire.metadata(session.mailbox_name(path), shown))
    if limit is not None and longest > limit:
        return b"METADATA LONGENTRIES %d" % longest
    return None


async def set_metadata(session: Session, command: SetMetadata) -> None:
    """Set, replace and remove annotations, all or none (RFC 5464 §4.3)."""
    _, account, mailbox = await _place(session, command.mailbox)
    try:
        await metadata.put(session.mail, session.account, account, mailbox, command.values)
    except TooLarge:
        code = b"METADATA MAXSIZE %d" % metadata.MAX_VALUE
        raise Refused(code, "Value is too large") from None
    except TooMany:
        raise Refused(b"METADATA TOOMANY", "There are too many entries") from None


async def _place(session: Session, name: str) -> tuple[str, AccountId, MailboxId | None]:
    """Return the path, the account and the id of a mailbox; an empty name is the server."""
    if not name:
        return "", session.account, None
    place = await access.find(session.mail, session.user, name)
    if not place.rights & metadata.ANNOTATE:
        raise Forbidden("the rights do not suffice")
    return place.path, place.account_id, place.mailbox.id
