"""SETACL DELETEACL GETACL LISTRIGHTS MYRIGHTS."""

from mailserver.auth.scram import saslprep
from mailserver.errors import Forbidden, Invalid, NotFound
from mailserver.imap.protocol import acl as wire
from mailserver.imap.protocol.acl import Identified, SetAcl
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.mailboxes import Named
from mailserver.imap.selected import Refused
from mailserver.imap.session import Session
from mailserver.mail import access, rights
from mailserver.model import NO_RIGHTS, Place, Right

UNKNOWN = Refused(b"CANNOT", "There is no such identifier")


async def set_acl(session: Session, command: SetAcl) -> None:
    """Give an identifier rights on a mailbox (RFC 4314 §3.1)."""
    place = await _administered(session, command.mailbox)
    identifier = await _identified(session, command.identifier)
    if identifier == (None, False) and not session.mail.config.imap.share_with_anyone:
        raise Refused(b"NOPERM", "Mailboxes are not shared with anyone here")
    await rights.modify(
        session.mail,
        place.account_id,
        place.mailbox.id,
        identifier,
        command.how,
        command.rights,
    )


async def delete_acl(session: Session, command: Identified) -> None:
    """Remove the entry of an identifier, if there is one (RFC 4314 §3.2)."""
    place = await _administered(session, command.mailbox)
    try:
        identifier = await rights.identify(session.mail, _prepared(command.identifier))
    except NotFound:
        return
    await rights.remove(session.mail, place.account_id, place.mailbox.id, identifier)


async def get_acl(session: Session, command: Named) -> None:
    """Tell all entries of a mailbox (RFC 4314 §3.3)."""
    place = await _administered(session, command.mailbox)
    entries = await rights.entries(session.mail, place.account_id, place.mailbox.id)
    shown = [(rights.identifier_text(grant), grant.rights) for grant in entries]
    session.send(wire.acl(session.mailbox_name(place.path), shown))


async def list_rights(session: Session, command: Identified) -> None:
    """Tell which rights an identifier can be given (RFC 4314 §3.4)."""
    place = await _administered(session, command.mailbox)
    identifier = await _identified(session, command.identifier)
    is_owner = identifier == (place.account_id, False)
    always = rights.OWNER_KEEPS if is_owner else NO_RIGHTS
    session.send(wire.list_rights(session.mailbox_name(place.path), command.identifier, always))


async def my_rights(session: Session, command: Named) -> None:
    """Tell what the user may do with a mailbox (RFC 4314 §3.5)."""
    place = await access.find(session.mail, session.user, command.mailbox, *access.ANY)
    session.send(wire.my_rights(session.mailbox_name(place.path), place.rights))


async def _administered(session: Session, path: str) -> Place:
    """Return a mailbox of which the user may read and change the list."""
    place = await access.find(session.mail, session.user, path)  # else its being there is told
    if Right.ADMINISTER not in place.rights:
        raise Forbidden("the rights do not suffice")
    return place


async def _identified(session: Session, text: str) -> rights.Identifier:
    try:
        return await rights.identify(session.mail, _prepared(text))
    except NotFound:
        raise UNKNOWN from None


def _prepared(identifier: str) -> str:
    """Return the form in which identifiers are compared (RFC 4314 §3)."""
    try:
        return saslprep(identifier)
    except Invalid:
        raise ProtocolError("Identifier has a forbidden character") from None
