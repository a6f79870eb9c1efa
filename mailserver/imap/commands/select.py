"""SELECT EXAMINE UNSELECT CLOSE."""

from mailserver.imap.commands.condstore import resynchronize
from mailserver.imap.protocol import flags, responses
from mailserver.imap.protocol.connection import Bare
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.select import Select
from mailserver.imap.protocol.view import View
from mailserver.imap.selected import CHANGING, Selected
from mailserver.imap.session import Session
from mailserver.mail import access, listings, mailboxes, optimistic
from mailserver.mail.access import Entry
from mailserver.mail.context import Mail
from mailserver.mail.listings import Listing
from mailserver.model import SPECIAL_USES, Mailbox, Place, Right


async def select(session: Session, command: Select) -> bytes:
    """Open a mailbox for reading and writing (RFC 3501 §6.3.1)."""
    return await _open(session, command, examined=False)


async def examine(session: Session, command: Select) -> bytes:
    """Open a mailbox for reading (RFC 3501 §6.3.2)."""
    return await _open(session, command, examined=True)


def _check(session: Session, command: Select) -> None:
    """Refuse what the client has not enabled."""
    if command.resync is not None and not session.qresync:
        raise ProtocolError("QRESYNC needs ENABLE QRESYNC")
    if command.resync is not None and command.resync.match is not None and session.uidonly:
        raise ProtocolError("Messages have to be named by UID", b"UIDREQUIRED")


async def _open(session: Session, command: Select, *, examined: bool) -> bytes:
    _check(session, command)
    if command.condstore:
        session.enabled.add(b"CONDSTORE")
    if session.selected is not None:
        session.untagged(b"OK [CLOSED] The previous mailbox is closed")
    session.unselect()  # also when the new one cannot be opened
    mail = session.mail
    if examined:
        entry = Entry(await access.find(mail, session.user, command.mailbox, Right.READ))
    else:
        entry = await access.enter(mail, session.user, command.mailbox)
    place = entry.place
    account, mailbox = place.account_id, place.mailbox
    subscription = mail.events.subscribe(account)
    try:
        writable = bool(place.rights & CHANGING) and not examined
        listing, recent = await _listed(mail, entry, writable=writable)
    except BaseException:
        mail.events.unsubscribe(subscription)
        raise
    view = View(listing.uids, listing.modseq)
    view.add_recent(recent.start, recent.stop - 1)
    selected = Selected(
        account, mailbox.id, place.path, listing, view, place.rights, examined, subscription
    )
    selected.complete = selected.rights_at = listing.modseq
    if account != session.account:
        selected.rights_at = -1  # another may take them away while they are looked up
    session.select(selected)
    uidnext = _describe(session, mailbox)
    if session.rev2:
        _name(session, command.mailbox, place)
    resync = command.resync
    if resync is not None and resync.uidvalidity == mailbox.uidvalidity:
        try:
            await resynchronize(session, resync, uidnext)
        except BaseException:
            session.unselect()
            raise
    return b"READ-ONLY" if selected.read_only else b"READ-WRITE"


async def _listed(mail: Mail, entry: Entry, *, writable: bool) -> tuple[Listing, range]:
    """Return the messages, and the UIDs that are \\Recent here: taken, or only looked at."""
    place, taken, modseq = entry
    account, mailbox = place.account_id, place.mailbox
    first = mailbox.recent_uid
    if taken is None:
        taken = range(first, first)
        if writable and first < mailbox.uidnext:
            # before the messages are listed: what comes in between is for whoever asks next
            taken = await mailboxes.take_recent(mail, account, mailbox.id)
            modseq = None
    listing = await listings.open_listing(mail, account, mailbox.id, mailbox.modseq, modseq)
    if not writable:
        return listing, range(first, listing.uids[-1] + 1 if listing.uids else first)
    return listing, taken


def _describe(session: Session, mailbox: Mailbox) -> int:
    """Tell about the opened mailbox; return its next UID."""
    selected = session.open
    listing, view = selected.listing, selected.view
    unseen, selected.keywords = listing.overview()
    shown = flags.all_names(selected.keywords)
    last = listing.uids[-1] if listing.uids else 0
    session.untagged(b"FLAGS (%b)" % shown)
    session.untagged(b"%d EXISTS" % view.count)
    if not session.rev2:
        session.untagged(b"%d RECENT" % len(view.recent_positions()))
    if unseen is not None and not session.rev2 and not session.uidonly:
        session.untagged(b"OK [UNSEEN %d] First unseen message" % unseen)
    session.tell_permanent_flags()
    session.untagged(b"OK [UIDVALIDITY %d] UIDs are valid" % mailbox.uidvalidity)
    uidnext = max(mailbox.uidnext, last + 1)
    session.untagged(b"OK [UIDNEXT %d] Predicted next UID" % uidnext)
    session.untagged(b"OK [%b] Mailbox id" % responses.mailbox_id(mailbox.id))
    if session.condstore:
        session.untagged(b"OK [HIGHESTMODSEQ %d] Highest" % mailbox.modseq)
    return uidnext


def _name(session: Session, given: str, place: Place) -> None:
    """Tell how the opened mailbox is called, and what the client called it (RFC 9051 §6.3.2)."""
    attributes = ["\\Subscribed"] if place.subscribed else []
    if place.role in SPECIAL_USES:
        attributes.append(SPECIAL_USES[place.role])
    old_name = session.mailbox_name(given) if given != place.path else None
    name = session.mailbox_name(place.path)
    session.send(responses.list_line(name, attributes, old_name=old_name))


async def unselect(session: Session, command: Bare) -> None:
    """Close the mailbox and remove nothing (RFC 3691)."""
    session.unselect()


async def close(session: Session, command: Bare) -> None:
    r"""Remove what is \Deleted without a word, unless it was EXAMINE, and close (§6.4.2)."""
    selected = session.open
    if not selected.read_only and Right.EXPUNGE in selected.rights:
        heard = selected.subscription.modseq
        await optimistic.expunge(session.mail, selected.listing, None, heard=heard)
    session.unselect()
