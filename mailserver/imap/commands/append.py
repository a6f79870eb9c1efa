"""APPEND and REPLACE."""

import asyncio
from collections.abc import Sequence

from mailserver.errors import Forbidden, NotFound
from mailserver.imap.commands.limits import demand_few_new
from mailserver.imap.commands.mailboxes import tell_name
from mailserver.imap.protocol.append import Append, BadUrl, NewMessage, Part, Replace, Url
from mailserver.imap.protocol.framing import LITERAL_LIMIT, Spooled
from mailserver.imap.protocol.sequences import compact, flatten
from mailserver.imap.selected import Refused
from mailserver.imap.session import Session
from mailserver.mail import access, content, delivery, listings, messages, rights
from mailserver.mime import Env, section, textual
from mailserver.model import ALL_RIGHTS, EmailId, Place, Right


async def append(session: Session, command: Append) -> bytes | None:
    """Store messages in a mailbox and tell their UIDs (RFC 3501 §6.3.11, RFC 4315 §3).

    Several are stored all or none (RFC 3502 §6.3.11). Who may not read the mailbox is told no UIDs
    (RFC 9051 §6.3.12).
    """
    mail = session.mail
    demand_few_new(session, len(command.messages))
    if (stored_at_once := await _append_by_name(session, command)) is not None:
        return stored_at_once
    place = await _target(session, command.mailbox)
    tell_name(session, command.mailbox, place.path, subscribed=place.subscribed)
    account, mailbox = place.account_id, place.mailbox.id
    # QUIRK(mbsync, offlineimap): copy mail with 8-bit header fields as it is; RFC 6855 §4 wants it
    # refused, and so lost, without ENABLE UTF8=ACCEPT
    incoming = await _incoming(session, place.rights, command.messages)
    if len(incoming) > 1:
        stored = await delivery.accept_together(mail, account, mailbox, incoming)
    else:
        (only,) = incoming
        accepted = await delivery.accept(
            mail,
            only.raw,
            [delivery.Target(account, mailbox, only.flags)],
            received_at=only.received_at,
            enforce_quota=True,
        )
        stored = list(accepted.delivered)
    session.made(account, stored[0].modseq)
    plain = account == session.account and place.mailbox.parent_id is None
    if plain and place.rights == ALL_RIGHTS and place.path == command.mailbox:
        mail.committer.remember(account, place.path, mailbox)
    return _told(stored) if Right.READ in place.rights else None


async def _append_by_name(session: Session, command: Append) -> bytes | None:
    """Store a message in a mailbox of one's own that was found before, without a query for it.

    Whether it still has that name is seen when the message is written. None when it has not, and
    for what is not as simple.
    """
    mail, account = session.mail, session.account
    mailbox = mail.committer.remembered(account, command.mailbox)
    parts = command.messages[0].parts
    if mailbox is None or len(command.messages) > 1 or len(parts) > 1:
        return None
    if not isinstance(parts[0], bytes):
        return None
    (only,) = await _incoming(session, ALL_RIGHTS, command.messages)
    try:
        accepted = await delivery.accept(
            mail,
            only.raw,
            [delivery.Target(account, mailbox, only.flags, name=command.mailbox)],
            received_at=only.received_at,
            enforce_quota=True,
        )
    except NotFound:
        mail.committer.forget(account, command.mailbox)
        return None
    session.made(account, accepted.delivered[0].modseq)
    return _told(accepted.delivered)


def _told(stored: Sequence[delivery.Delivered]) -> bytes:
    return b"APPENDUID %d %b" % (stored[0].uidvalidity, compact([each.uid for each in stored]))


async def replace(session: Session, command: Replace) -> None:
    """Store a message and remove the one it replaces, both or neither (RFC 8508 §3.4)."""
    selected = session.writable
    for right in (Right.DELETE, Right.EXPUNGE):  # RFC 8508 §4.1
        selected.require(right)
    positions = flatten(selected.view.positions(command.replaced, by_uid=command.by_uid))
    place = await _target(session, command.mailbox)
    if not positions:
        raise Refused(b"NONEXISTENT", "There is no message to replace")
    incoming = await _incoming(session, place.rights, (command.message,))
    uid = selected.view.uids[positions[0]]
    replaced = delivery.Replaced(selected.account, selected.mailbox_id, uid)
    (stored,) = await delivery.accept_together(
        session.mail, place.account_id, place.mailbox.id, incoming, replaced=replaced
    )
    session.made(place.account_id, stored.modseq)
    if Right.READ in place.rights:
        # before the EXPUNGE, so that the client knows by what the message was replaced
        code = b"APPENDUID %d %d" % (stored.uidvalidity, stored.uid)
        session.untagged(b"OK [%b] Replacement is stored" % code)


async def _target(session: Session, path: str) -> Place:
    try:
        return await access.find(session.mail, session.user, path, Right.INSERT)
    except NotFound:
        raise Refused(b"TRYCREATE", "There is no such mailbox") from None


async def _incoming(
    session: Session, allowed: Right, new: Sequence[NewMessage]
) -> list[delivery.Incoming]:
    """Put messages together, with those of their flags that the user may set there."""
    mail = session.mail
    room = mail.config.imap.max_append_size + LITERAL_LIMIT  # as much as the framing lets in
    incoming = []
    for message in new:
        raw = await _octets(session, message, room)
        if not raw:
            raise Refused(b"CANNOT", "A message cannot be empty")
        room -= len(raw)
        if b"\0" in raw:
            raw = await asyncio.to_thread(textual, raw)
        flags = rights.limited(delivery.NO_FLAGS, message.flags, allowed)
        incoming.append(delivery.Incoming(raw, flags, message.received_at or mail.now()))
    return incoming


async def _octets(session: Session, message: NewMessage, room: int) -> bytes:
    """Put the parts of a message together (RFC 4469 §3)."""
    pieces = []
    for part in message.parts:
        piece = await _piece(session, part)
        pieces.append(piece)
        room -= len(piece)
        if room < 0:
            raise Refused(b"TOOBIG", "Message is too large")
    octets = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(octets) > session.mail.config.imap.max_append_size:
        raise Refused(b"TOOBIG", "Message is too large")
    return octets


async def _piece(session: Session, part: Part) -> bytes:
    if isinstance(part, bytes):
        return part
    if isinstance(part, Spooled):
        return await session.channel.spooled(part)
    return await _referred(session, part)


async def _referred(session: Session, url: Url | BadUrl) -> bytes:
    r"""Read what a URL names; it is not \Seen for that."""
    found = await _read(session, url) if isinstance(url, Url) else None
    if found is None:
        shown = bytes(
            octet if 0x20 <= octet < 0x7F and octet != 0x5D else 0x3F for octet in url.text
        )
        raise Refused(b"BADURL " + shown, "There is no such message or part")
    return found


async def _read(session: Session, url: Url) -> bytes | None:
    mail = session.mail
    try:
        if url.mailbox is None:
            if session.selected is None:
                return None
            await session.check_sharing()
            listing = session.open.listing
            await listings.refresh(mail, listing)
        else:
            found = await access.find(mail, session.user, url.mailbox, Right.READ)
            if url.uidvalidity not in (None, found.mailbox.uidvalidity):
                return None
            listing = await listings.open_listing(mail, found.account_id, found.mailbox.id)
    except (NotFound, Forbidden):
        return None
    account = listing.account
    index = listing.index(url.uid)
    if index is None:
        return None
    email_id = EmailId(listing.email_ids[index])
    email = (await messages.emails(mail, account, [email_id])).get(email_id)
    if email is None:
        return None
    octets = await content.content(mail, account, email.blob_id)
    if url.section:
        place = section(octets, Env.unpack(email.env).parts, url.section)
        if place is None:
            return None
        octets = octets[place[0] : place[1]]
    if not url.offset and url.length is None:
        return octets
    end = None if url.length is None else url.offset + url.length
    return octets[url.offset : end]
