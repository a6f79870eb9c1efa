"""Which mailboxes somebody sees, by which names, and what they may do with them (RFC 4314).

Own mailboxes have their own paths. Those of others that entries of an access control list let
somebody see are below `Other Users/` and the login of their owner (RFC 2342).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mailserver.errors import Forbidden, NotFound
from mailserver.mail import mailboxes
from mailserver.mail.mailboxes import OTHERS, SEPARATOR
from mailserver.mail.rights import effective
from mailserver.model import (
    AccountId,
    ChangeKind,
    Grant,
    Mailbox,
    MailboxId,
    Modseq,
    Place,
    Principal,
    Right,
    Tree,
)
from mailserver.storage import acl
from mailserver.storage import mailboxes as mailbox_table

if TYPE_CHECKING:
    from mailserver.mail.context import Mail


# one of these lets somebody ask what they may do (RFC 4314 §4)
ANY = (
    Right.LOOKUP,
    Right.READ,
    Right.INSERT,
    Right.CREATE,
    Right.DELETE_MAILBOX,
    Right.ADMINISTER,
)


async def find(mail: "Mail", principal: Principal, path: str, *needs: Right) -> Place:
    """Return the mailbox that a principal names so, if they have one of those rights there.

    Without any given they need LOOKUP. Raises NotFound also for what may not be seen.
    """
    if _owner_part(path) is None:
        found = await mailboxes.by_path(mail, principal.account_id, path)
        return _allowed(_own(principal, found), *needs)
    owner, rest = await _owner(mail, principal, path)
    wanted = mailboxes.normal_path(rest)
    for place in owner.places:
        if place.mailbox.path == wanted:
            return _allowed(place, *needs)
    raise NotFound("mailbox")


async def see(mail: "Mail", principal: Principal, path: str, *needs: Right) -> Place:
    """Return what `find` does but for `recent_uid`, from memory when nothing there has changed."""
    if _owner_part(path) is not None:
        return await find(mail, principal, path, *needs)
    found = await mailboxes.numbered(mail, principal.account_id, path)
    return _allowed(_own(principal, found), *needs)


class Entry(NamedTuple):
    """A mailbox that somebody opens."""

    place: Place
    recent: range | None = None  # its \\Recent UIDs, if they were taken in the same step
    modseq: Modseq | None = None  # of the account at that moment, if it was looked at


async def enter(mail: "Mail", principal: Principal, path: str) -> Entry:
    """Return a mailbox that a principal may read, to be opened for writing, as `find` does.

    Its \\Recent UIDs are taken if that is possible in one step (RFC 3501 §2.3.2).
    """
    if _owner_part(path) is not None:
        return Entry(await find(mail, principal, path, Right.READ))
    mailbox, recent, modseq = await mailboxes.enter(mail, principal.account_id, path)
    return Entry(_allowed(_own(principal, mailbox), Right.READ), recent, modseq)


async def visible(mail: "Mail", principal: Principal) -> list[Place]:
    """Return all mailboxes that a principal may list: their own first, INBOX before all."""
    found, shares = await mailbox_table.of_principal(mail.database, principal.account_id)
    places = [_own(principal, mailbox) for mailbox in found]
    for owner in await _owners(mail, principal, None) if shares else ():
        places += [place for place in owner.places if Right.LOOKUP in place.rights]
    return places


async def tree(mail: "Mail", principal: Principal, known: Tree | None) -> Tree | None:
    """Return what has the same digest as long as `visible` says the same but for numbers.

    None when others share something: that is not looked at. `known` is what it was before.
    """
    account = principal.account_id
    if known is not None:
        sight = await mail.looks.sight(account)
        if sight is None or sight.shares:
            return None
        if mail.looks.is_same(account, None, known.modseq, sight.modseq):
            return known._replace(modseq=sight.modseq)
    return await mailbox_table.tree_of_principal(mail.database, account)


async def rights(
    mail: "Mail", principal: Principal, account: AccountId, mailbox: MailboxId
) -> Right:
    """Return what a principal may do with a mailbox now; NotFound when it was their own.

    What is gone and was another's is like what is no longer shared.
    """
    if account == principal.account_id:
        return (await mailboxes.by_id(mail, account, mailbox)).owner_rights
    grants = await acl.of_mailbox(mail.database, account, mailbox)
    return effective(grants, principal.account_id, account)


async def new(mail: "Mail", principal: Principal, path: str) -> tuple[AccountId, str]:
    """Return the account and the path there of a mailbox that a principal may make.

    They need CREATE on the nearest mailbox above it; at the top of their own ones, nothing.
    """
    if _owner_part(path) is None:
        path = mailboxes.normal_path(path)
        own = await mailboxes.list_all(mail, principal.account_id)
        above = _nearest(own, path)
        if above is not None and Right.CREATE not in above.owner_rights:
            raise Forbidden("the rights do not suffice")
        return principal.account_id, path
    try:
        owner, rest = await _owner(mail, principal, path)
    except NotFound:
        raise Forbidden("nobody of that name shares mailboxes here") from None
    path = mailboxes.normal_path(rest)
    above = _nearest(owner.mailboxes, path)
    allowed = {place.mailbox.id for place in owner.places if Right.CREATE in place.rights}
    if above is None or above.id not in allowed:
        raise Forbidden("the rights do not suffice")
    return owner.account_id, path


async def quota_of(
    mail: "Mail", principal: Principal, path: str
) -> tuple[str, AccountId, str | None]:
    """Return the normal path of a mailbox, whose quota is for it, and their login if another's.

    One's own mailbox may be one to be made; another's needs READ (RFC 9208 §6).
    """
    if _owner_part(path) is None:
        return mailboxes.normal_path(path), principal.account_id, None
    place = await find(mail, principal, path, Right.READ)
    owner, _ = await _owner(mail, principal, path)
    return place.path, owner.account_id, owner.login


async def sharer(mail: "Mail", principal: Principal, login: str) -> AccountId:
    """Return the account of that login if it lets a principal read something; NotFound."""
    for owner in await _owners(mail, principal, [login]):
        if any(Right.READ in place.rights for place in owner.places):
            return owner.account_id
    raise NotFound("account")


async def subscribe(mail: "Mail", principal: Principal, path: str, subscribed: bool) -> None:
    """Add a mailbox to the subscribed ones of a principal, or take it out."""
    if _owner_part(path) is None:
        try:
            await mailboxes.subscribe(mail, principal.account_id, path, subscribed)
        except NotFound:
            if subscribed:
                raise
            await mailboxes.forget_name(mail, principal.account_id, path)
        return
    place = await find(mail, principal, path)
    await subscribe_elsewhere(mail, principal, place.account_id, {place.mailbox.id: subscribed})


async def subscribe_elsewhere(
    mail: "Mail", principal: Principal, account: AccountId, subscribed: Mapping[MailboxId, bool]
) -> None:
    """Add mailboxes of another account to the subscribed ones, or take them out."""
    async with mail.change(principal.account_id) as change:
        for mailbox, there in subscribed.items():
            write = acl.subscribe if there else acl.unsubscribe
            await write(change.tx, principal.account_id, account, mailbox)
            change.report(ChangeKind.SHARING_UPDATED, mailbox)


def _own(principal: Principal, mailbox: Mailbox) -> Place:
    return Place(
        principal.account_id,
        mailbox,
        mailbox.path,
        mailbox.owner_rights,
        mailbox.subscribed,
        mailbox.role,
    )


def _allowed(place: Place, *needs: Right) -> Place:
    """Refuse what the rights do not allow; what may not be seen is not there (RFC 4314 §6)."""
    if any(place.rights & right for right in needs or (Right.LOOKUP,)):
        return place
    if Right.LOOKUP in place.rights:
        raise Forbidden("the rights do not suffice")
    raise NotFound("mailbox")


def _nearest(found: Sequence[Mailbox], path: str) -> Mailbox | None:
    """Return the nearest mailbox above a path."""
    known = {mailbox.path: mailbox for mailbox in found}
    while path := path.rpartition(SEPARATOR)[0]:
        if path in known:
            return known[path]
    return None


# Other people's mailboxes ------------------------------------------------------------------------


class _Owner:
    """An account of which a principal may see or use something."""

    def __init__(self, account_id: AccountId, login: str, found: list[Mailbox]) -> None:
        self.account_id = account_id
        self.login = login
        self.mailboxes = found  # all, in the order of their paths
        self.places: list[Place] = []  # those on which the principal has any right


def _owner_part(path: str) -> str | None:
    """Return what follows `Other Users/`; None for a path of one's own."""
    if path == OTHERS:
        return ""
    return path.removeprefix(OTHERS + SEPARATOR) if path.startswith(OTHERS + SEPARATOR) else None


async def _owner(mail: "Mail", principal: Principal, path: str) -> tuple[_Owner, str]:
    """Return whose mailbox a path names, and its path there; NotFound."""
    parts = (_owner_part(path) or "").split(SEPARATOR)
    # a login may have the separator in it, though hardly any has
    logins = [SEPARATOR.join(parts[:count]) for count in range(1, min(len(parts), 10))]
    logins = [login for login in logins if "@" in login]
    found = await _owners(mail, principal, logins) if logins else []
    if not found:
        raise NotFound("mailbox")
    owner = min(found, key=lambda each: len(each.login))
    return owner, SEPARATOR.join(parts)[len(owner.login) + 1 :]


async def _owners(mail: "Mail", principal: Principal, logins: Sequence[str] | None) -> list[_Owner]:
    """Return those, by login, who let a principal do anything with a mailbox."""
    shared = await acl.shared_with(mail.database, principal.account_id, logins)
    if not shared:
        return []
    grants: dict[MailboxId, list[Grant]] = {}
    for entry in shared:
        grants.setdefault(entry.mailbox_id, []).append(entry.grant)
    subscribed = {entry.mailbox_id for entry in shared if entry.subscribed}
    names = {entry.account_id: entry.login for entry in shared}
    found = await mailbox_table.of_accounts(mail.database, list(names))
    owners = []
    for account, login in sorted(names.items(), key=lambda item: item[1]):
        owner = _Owner(account, login, found.get(account, []))
        for mailbox in owner.mailboxes:
            allowed = effective(grants.get(mailbox.id, ()), principal.account_id, account)
            if allowed:
                path = SEPARATOR.join((OTHERS, login, mailbox.path))
                is_subscribed = mailbox.id in subscribed
                owner.places.append(Place(account, mailbox, path, allowed, is_subscribed, None))
        if owner.places:
            owners.append(owner)
    return owners
