"""ESEARCH: the search of several mailboxes (RFC 7377)."""

from collections.abc import Iterable
from dataclasses import replace

from mailserver.errors import Forbidden, Invalid, NotFound
from mailserver.imap.commands.context import refuse_updates
from mailserver.imap.commands.search import (
    demand_no_charset,
    follow,
    prepare,
    saving,
    tell_extended,
    wants_updates,
)
from mailserver.imap.commands.seeker import Corpus, Seeker
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.filters import Filter, Scope
from mailserver.imap.protocol.multisearch import MultiSearch, correlator
from mailserver.imap.protocol.search import Returns, Wanted, mentions
from mailserver.imap.protocol.search_keys import IsRecent
from mailserver.imap.protocol.view import View
from mailserver.imap.session import Session
from mailserver.mail import access, listings, mailboxes
from mailserver.model import Place, Right


async def esearch(session: Session, command: MultiSearch) -> None:
    """Tell what matches in each mailbox; nothing of one in which nothing does."""
    if command.needs_selected and session.selected is None:
        raise ProtocolError("No mailbox is selected")
    if command.needs_selected:
        await session.check_sharing()
    search = command.search
    demand_no_charset(session, search)
    returns = search.returns or Returns(Wanted.ALL)
    await prepare(session, search.key)
    updates = await wants_updates(session, returns, search.key)
    async with saving(session, returns):
        for place in await _chosen(session, command):
            corpus = await _corpus(session, place, recent=mentions(search.key, IsRecent))
            seeker = Seeker(session, corpus)
            found = await seeker.find(search.key)
            name = session.mailbox_name(place.path)
            where = correlator(name, place.mailbox.uidvalidity)
            if found or Wanted.SAVE in returns.wanted:
                named = replace(search, returns=returns)
                tell_extended(session, named, seeker, found, place=where, silent=not found)
            if updates and session.open.listing is corpus.listing:
                follow(session, search, seeker, found, place=where)
                updates = False
            await session.relieve()
    if updates:
        refuse_updates(session, session.tag, b"The selected mailbox is not searched")


async def _chosen(session: Session, command: MultiSearch) -> list[Place]:
    """Return the mailboxes to search, each once, with the rights that RFC 7377 §2.2 asks for."""
    selected = session.open.mailbox_id if command.needs_selected else None
    filters = with_normal_names(command.places)
    places = await access.visible(session.mail, session.user)
    names = {name for each in filters if each.scope is Scope.MAILBOXES for name in each.names}
    if command.needs_selected:
        names.add(session.open.path)
    places += await _unlisted(session, names.difference(place.path for place in places))
    return [
        place
        for place in places
        if place.mailbox.id == selected
        or (Right.READ in place.rights and any(f.matches(place, session.account) for f in filters))
    ]


async def _unlisted(session: Session, names: Iterable[str]) -> list[Place]:
    """Return mailboxes that are named, and may be read though not listed."""
    found = []
    for name in sorted(names):
        try:
            found.append(await access.find(session.mail, session.user, name, Right.READ))
        except (NotFound, Forbidden):
            continue
    return found


def with_normal_names(filters: Iterable[Filter]) -> list[Filter]:
    """Write the names of filters as mailboxes have them; what cannot be a name names nothing."""
    return [replace(each, names=tuple(_normal(each.names))) for each in filters]


def _normal(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        try:
            yield mailboxes.normal_path(name)
        except Invalid:
            continue


async def _corpus(session: Session, place: Place, *, recent: bool) -> Corpus:
    """Return what is known of a mailbox: of the selected one, what the client was told."""
    mail, account, mailbox_id = session.mail, place.account_id, place.mailbox.id
    selected = session.selected
    if selected is not None and selected.mailbox_id == mailbox_id:
        return Corpus(selected.listing, selected.view)
    listing = await listings.open_listing(mail, account, mailbox_id)
    view = View(listing.uids, listing.modseq)
    if recent and view.count:
        first = await mailboxes.peek_recent(mail, account, mailbox_id)
        view.add_recent(first, view.uids[view.count - 1])
    return Corpus(listing, view)
