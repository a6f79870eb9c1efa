"""LIST LSUB STATUS CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE."""

from collections.abc import Callable, Iterable
from operator import attrgetter

from mailserver.errors import AlreadyExists, Forbidden, NotFound
from mailserver.imap.commands.condstore import make_aware
from mailserver.imap.protocol import responses
from mailserver.imap.protocol.acl import my_rights
from mailserver.imap.protocol.listing import List, Match, Return, Selection, choose
from mailserver.imap.protocol.mailboxes import (
    Create,
    Listing,
    Named,
    Rename,
    Status,
    StatusItem,
    matcher,
)
from mailserver.imap.protocol.metadata import metadata as metadata_response
from mailserver.imap.selected import Refused
from mailserver.imap.session import Listed, Session
from mailserver.mail import access, listings, mailboxes, metadata
from mailserver.model import DELETED, SPECIAL_USES, Mailbox, MailboxId, Place, Right, Role

# what CREATE may ask for; \Flagged and \Important promise contents that nobody puts there
ASSIGNABLE = {
    SPECIAL_USES[role].lower(): role
    for role in (Role.ARCHIVE, Role.DRAFTS, Role.JUNK, Role.SENT, Role.TRASH)
}
KEPT_ANSWER = 8 * 1024  # octets of an answer to LIST that a session keeps
COUNTERS: dict[StatusItem, Callable[[Mailbox], int]] = {
    StatusItem.MESSAGES: attrgetter("total"),
    StatusItem.UIDNEXT: attrgetter("uidnext"),
    StatusItem.UIDVALIDITY: attrgetter("uidvalidity"),
    StatusItem.UNSEEN: attrgetter("unseen"),
    StatusItem.HIGHESTMODSEQ: attrgetter("modseq"),
    StatusItem.SIZE: attrgetter("size"),
    StatusItem.DELETED: attrgetter("deleted"),
}
TAKE = Right.READ | Right.DELETE | Right.EXPUNGE  # what MOVE needs of where the messages are


async def list_mailboxes(session: Session, command: List) -> None:
    """List the mailboxes that match (RFC 3501 §6.3.8, RFC 5258), with numbers (RFC 5819)."""
    if command.asks_for_root:
        session.send(responses.list_line(b'""', ["\\Noselect"]))
    elif command.is_plain:
        session.send(await _plain_list(session, command))
        await session.relieve()
    else:
        await _list(session, command)


async def _plain_list(session: Session, command: List) -> bytes:
    """Return the answer to a LIST that says nothing but which mailboxes there are.

    Clients ask it again and again; from the third time on only whether it is still the same.
    """
    before, utf8 = session.listed, session.utf8
    tree = None
    if before is not None and (before.command, before.utf8) == (command, utf8):
        tree = await access.tree(session.mail, session.user, before.tree)
        if tree is not None and before.tree is not None and tree.digest == before.tree.digest:
            session.listed = before._replace(tree=tree)
            return before.answer
    found = choose(command, await access.visible(session.mail, session.user))
    lines = [_list_line(command, each, session.mailbox_name(each.path)) for each in found]
    answer = b"".join(lines)
    kept = answer if tree is not None and len(answer) <= KEPT_ANSWER else None
    session.listed = Listed(command, utf8, tree if kept else None, kept or b"")
    return answer


async def _list(session: Session, command: List) -> None:
    found = await access.visible(session.mail, session.user)
    annotations: dict[MailboxId, dict[str, bytes]] = {}
    if command.metadata:
        names = [name.lower() for name in command.metadata]
        owners = {place.account_id for place in found}
        annotations = await metadata.of_all_mailboxes(session.mail, session.account, owners, names)
    left: list[str] = []
    if Selection.SUBSCRIBED in command.selection:
        left = await mailboxes.subscribed_names(session.mail, session.account)
    for match in choose(command, found, left):
        name = session.mailbox_name(match.path)
        try:
            details = await _details(session, command, match, name, annotations)
        except NotFound:  # it was deleted after it was found
            continue
        session.send(_list_line(command, match, name))
        session.send(details)
        await session.relieve()


async def _details(
    session: Session,
    command: List,
    match: Match,
    name: bytes,
    annotations: dict[MailboxId, dict[str, bytes]],
) -> bytes:
    """Return what LIST was asked to tell of a mailbox, as far as rights allow it."""
    place = match.place
    if place is None or not match.selected:
        return b""
    details = []
    if command.status and Right.READ in place.rights:
        shown = await _numbers(session, place, command.status)
        details.append(responses.status(name, shown))
    if Return.MYRIGHTS in command.returns:  # RFC 8440 §3
        details.append(my_rights(name, place.rights))
    if command.metadata and place.rights & metadata.ANNOTATE:
        values = annotations.get(place.mailbox.id, {})
        told = [(entry, values.get(entry.lower())) for entry in command.metadata]
        details.append(metadata_response(name, told))
    return b"".join(details)


def _list_line(command: List, match: Match, name: bytes) -> bytes:
    place = match.place
    role = place.role if place is not None else None
    attributes = responses.mailbox_attributes(role, has_children=match.has_children)
    if match.is_left:
        attributes += ["\\Subscribed", "\\NonExistent"]
    elif place is None:
        attributes += ["\\NonExistent", "\\Noselect"]  # the second for RFC 3501
    elif place.subscribed and command.shows_subscribed:
        attributes.append("\\Subscribed")
    return responses.list_line(name, attributes, child_info=match.child_info)


async def list_subscribed(session: Session, command: Listing) -> None:
    r"""List the subscribed mailboxes; a parent of one that "%" hides is \Noselect (§6.3.9)."""
    if command.pattern is None:
        return
    if not command.pattern:
        session.send(responses.list_line(b'""', ["\\Noselect"], b"LSUB"))
        return
    found = await access.visible(session.mail, session.user)
    paths = [place.path for place in found if place.subscribed]
    paths += await mailboxes.subscribed_names(session.mail, session.account)
    for path, subscribed in _subscribed(paths, command.reference + command.pattern):
        attributes = [] if subscribed else ["\\Noselect"]
        session.send(responses.list_line(session.mailbox_name(path), attributes, b"LSUB"))


def _subscribed(paths: Iterable[str], pattern: str) -> list[tuple[str, bool]]:
    matches = matcher(pattern)
    shown: dict[str, bool] = {}
    for path in paths:
        if matches(path):
            shown[path] = True
        elif pattern.endswith("%"):
            parts = path.split(responses.DELIMITER)
            for depth in range(1, len(parts)):
                parent = responses.DELIMITER.join(parts[:depth])
                if matches(parent):
                    shown.setdefault(parent, False)
    return list(shown.items())


async def status(session: Session, command: Status) -> None:
    """Tell numbers about a mailbox without opening it (RFC 3501 §6.3.10)."""
    place = await access.see(session.mail, session.user, command.mailbox, Right.READ)
    numbers = await _numbers(session, place, command.items)
    session.send(responses.status(session.mailbox_name(place.path), numbers))


async def _numbers(session: Session, place: Place, items: Iterable[StatusItem]) -> list[bytes]:
    if StatusItem.HIGHESTMODSEQ in items:
        await make_aware(session)
    told = []
    for item in items:
        counter = COUNTERS.get(item)
        if counter is not None:
            told.append(b"%b %d" % (item.value, counter(place.mailbox)))
        elif item is StatusItem.MAILBOXID:
            told.append(responses.mailbox_id(place.mailbox.id))
        else:
            told.append(b"%b %d" % (item.value, await _looked_up(session, place, item)))
    return told


async def _looked_up(session: Session, place: Place, item: StatusItem) -> int:
    """Return a number that is not kept with the mailbox."""
    if item is StatusItem.RECENT:
        return await _count_recent(session, place)
    if item is StatusItem.DELETED_STORAGE:
        return await _deleted_storage(session, place)
    assert item is StatusItem.APPENDLIMIT
    return session.mail.config.imap.max_append_size


async def _deleted_storage(session: Session, place: Place) -> int:
    if not place.mailbox.deleted:
        return 0
    listing = await listings.open_listing(session.mail, place.account_id, place.mailbox.id)
    marked = zip(listing.sizes, listing.flags, strict=True)
    return sum(size for size, bits in marked if bits & DELETED)


async def _count_recent(session: Session, place: Place) -> int:
    account, mailbox = place.account_id, place.mailbox
    first = await mailboxes.peek_recent(session.mail, account, mailbox.id)
    if first >= mailbox.uidnext:
        return 0
    listing = await listings.open_listing(session.mail, account, mailbox.id)
    return sum(uid >= first for uid in listing.uids[-(mailbox.uidnext - first) :])


async def create(session: Session, command: Create) -> bytes:
    """Make a mailbox and its missing parents (RFC 3501 §6.3.3), with a special use (RFC 6154).

    Its id is told (RFC 8474 §4.1).
    """
    role = None
    if command.uses:
        role = ASSIGNABLE.get(command.uses[0].lower())
        if role is None or len(command.uses) > 1:
            raise Refused(b"USEATTR", "Special use is not supported")
    account, path = await access.new(session.mail, session.user, command.mailbox)
    if role is not None and account != session.account:
        raise Refused(b"USEATTR", "Special uses are for one's own mailboxes")
    try:
        made = await mailboxes.create(session.mail, account, path, role)
    except AlreadyExists:
        if role is not None and not await _exists(session, command.mailbox):
            raise Refused(b"USEATTR", "Another mailbox has that special use") from None
        raise
    target = mailboxes.normal_path(command.mailbox)
    tell_name(session, command.mailbox, target, subscribed=made[-1].subscribed)
    return responses.mailbox_id(made[-1].id)


async def _exists(session: Session, path: str) -> bool:
    try:
        await access.find(session.mail, session.user, path)
    except NotFound:
        return False
    return True


async def delete(session: Session, command: Named) -> None:
    """Remove a mailbox (RFC 3501 §6.3.4); when it was open here, it is closed."""
    place = await access.find(session.mail, session.user, command.mailbox, Right.DELETE_MAILBOX)
    await mailboxes.delete(session.mail, place.account_id, place.mailbox.id)
    if session.selected is not None and session.selected.mailbox_id == place.mailbox.id:
        session.unselect()
    if session.rev2 and command.mailbox != place.path:
        _tell_old_name(session, command.mailbox, place.path, "\\NonExistent")


async def rename(session: Session, command: Rename) -> None:
    """Give a mailbox and all below it another name (RFC 3501 §6.3.5)."""
    place = await access.find(session.mail, session.user, command.mailbox, Right.DELETE_MAILBOX)
    # its messages go where another list says who may read them
    if place.mailbox.role is Role.INBOX and TAKE not in place.rights:
        raise Forbidden("the rights do not suffice")
    account, path = await access.new(session.mail, session.user, command.new)
    if account != place.account_id:
        raise Refused(b"CANNOT", "A mailbox stays with its owner")
    renamed = await mailboxes.rename(session.mail, account, place.mailbox.id, path)
    target = mailboxes.normal_path(command.new)
    if session.rev2 and (command.mailbox, command.new) != (place.path, target):
        _tell_old_name(session, command.mailbox, target, *_subscription(renamed.subscribed))


def tell_name(session: Session, given: str, path: str, *, subscribed: bool) -> None:
    """Tell a client of rev2 what a mailbox is called that it called otherwise.

    RFC 9051 §6.3.9.7; a client of rev1 expects no LIST that it did not ask for.
    """
    if session.rev2 and given != path:
        _tell_old_name(session, given, path, *_subscription(subscribed))


def _subscription(subscribed: bool) -> tuple[str, ...]:
    return ("\\Subscribed",) if subscribed else ()


def _tell_old_name(session: Session, given: str, path: str, *attributes: str) -> None:
    name, old_name = session.mailbox_name(path), session.mailbox_name(given)
    session.send(responses.list_line(name, attributes, old_name=old_name))


async def subscribe(session: Session, command: Named) -> None:
    """Add a mailbox to the subscribed ones (RFC 3501 §6.3.6)."""
    await access.subscribe(session.mail, session.user, command.mailbox, True)


async def unsubscribe(session: Session, command: Named) -> None:
    """Take a mailbox out of the subscribed ones (RFC 3501 §6.3.7)."""
    try:
        await access.subscribe(session.mail, session.user, command.mailbox, False)
    except NotFound:
        return  # of another's mailbox: it took the subscription along
