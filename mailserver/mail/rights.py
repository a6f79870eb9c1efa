"""Access control lists of mailboxes: who was given which rights, and what that comes to (RFC 4314).

An account has all rights on its own mailboxes until an entry of the list says otherwise, and always
keeps those to see a mailbox and to say who may do what.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from mailserver.address import parse_address
from mailserver.errors import Invalid, NotFound, TooMany
from mailserver.events import shares_of
from mailserver.mail import mailboxes
from mailserver.model import (
    ALL_RIGHTS,
    NO_RIGHTS,
    AccountId,
    ChangeKind,
    Flags,
    Grant,
    MailboxId,
    Modseq,
    Right,
    RightsChange,
    flag_mask,
    rights_of,
    rights_text,
)
from mailserver.storage import accounts, acl

if TYPE_CHECKING:
    from mailserver.mail.context import Change, Mail

ANYONE = "anyone"
OWNER_KEEPS = Right.LOOKUP | Right.ADMINISTER
MAX_ENTRIES = 500  # of one mailbox


class Identifier(NamedTuple):
    """Whom an entry is about, and whether it gives or takes away."""

    grantee: AccountId | None  # None: anyone
    negative: bool


async def identify(mail: "Mail", text: str) -> Identifier:
    """Read an identifier: a login or `anyone`, after a dash for negative rights; NotFound."""
    name = text.removeprefix("-")
    negative = name != text
    if name == ANYONE:
        return Identifier(None, negative)
    try:
        login = str(parse_address(name))
    except Invalid:
        raise NotFound("account") from None
    found = await accounts.by_login(mail.database, login)
    if found is None:
        raise NotFound("account")
    return Identifier(found.id, negative)


def identifier_text(grant: Grant) -> str:
    """Return the identifier of an entry, the login in its normal form."""
    return ("-" if grant.negative else "") + (grant.login or ANYONE)


def parse(letters: str) -> Right:
    """Read the letters of rights; raise Invalid when one is none."""
    try:
        return rights_of(letters)
    except KeyError as error:
        raise Invalid(f"{error.args[0]} is no right; they are {rights_text(ALL_RIGHTS)}") from None


def effective(grants: Iterable[Grant], principal: AccountId, owner: AccountId) -> Right:
    """Return what somebody may do: all that entries give them or anyone, less what some take."""
    given = taken = NO_RIGHTS
    named = False
    for grant in grants:
        if grant.grantee not in (None, principal):
            continue
        if grant.negative:
            taken |= grant.rights
        else:
            given |= grant.rights
            named = named or grant.grantee is not None
    if principal != owner:
        return given & ~taken
    return (given if named else ALL_RIGHTS) & ~taken | OWNER_KEEPS


async def entries(mail: "Mail", account: AccountId, mailbox: MailboxId) -> list[Grant]:
    """Return the access control list of a mailbox, the owner's own entry first."""
    found = await acl.of_mailbox(mail.database, account, mailbox)
    if any(grant.grantee == account and not grant.negative for grant in found):
        return sorted(found, key=lambda grant: grant.grantee != account)
    owner = await accounts.by_id(mail.database, account)
    if owner is None:
        raise NotFound("account")
    return [Grant(account, False, ALL_RIGHTS, owner.login), *found]


async def of_account(mail: "Mail", account: AccountId) -> list[tuple[str, Grant]]:
    """Return the entries of all mailboxes of an account with the paths, in their order."""
    found = await acl.of_account(mail.database, account)
    return [
        (mailbox.path, grant)
        for mailbox in await mailboxes.list_all(mail, account)
        for grant in found.get(mailbox.id, ())
    ]


async def modify(
    mail: "Mail",
    account: AccountId,
    mailbox: MailboxId,
    identifier: Identifier,
    how: RightsChange,
    rights: Right,
) -> None:
    """Give an identifier rights on a mailbox, more or fewer; an entry without any is removed."""
    async with mail.change(account) as change:
        await mailboxes.by_id_in(change.tx, account, mailbox)
        before = await acl.of_mailbox(change.tx, account, mailbox)
        old = _entry(before, identifier)
        is_owner = identifier == (account, False)
        held = old.rights if old else ALL_RIGHTS if is_owner else NO_RIGHTS
        if how is RightsChange.ADD:
            rights |= held
        elif how is RightsChange.REMOVE:
            rights = held & ~rights
        if is_owner:
            rights |= OWNER_KEEPS
        if rights == held:
            return
        if old is None and len(before) >= MAX_ENTRIES:
            raise TooMany("the access control list is full")
        await _write(change, mailbox, identifier, rights)
    grantee = identifier.grantee
    tell_shares(mail, grantee)
    if grantee is not None and grantee != account:
        # so that whoever listens to the other account sees it come or go
        async with mail.change(grantee) as change:
            change.report(ChangeKind.SHARING_UPDATED, mailbox)


def tell_shares(mail: "Mail", grantee: AccountId | None) -> None:
    """Tell those who keep what is shared with somebody, None for everybody, that it changed."""
    stamp = int(mail.now().timestamp() * 1_000_000)
    mail.events.publish(shares_of(grantee), Modseq(stamp))


async def remove(
    mail: "Mail", account: AccountId, mailbox: MailboxId, identifier: Identifier
) -> None:
    """Remove the entry of an identifier; of the owner's, what an owner always keeps stays."""
    await modify(mail, account, mailbox, identifier, RightsChange.REPLACE, NO_RIGHTS)


async def _write(
    change: "Change", mailbox: MailboxId, identifier: Identifier, rights: Right
) -> None:
    """Write one entry, and what all of them together leave to the owner."""
    tx, account = change.tx, change.account
    default = ALL_RIGHTS if identifier == (account, False) else NO_RIGHTS
    if rights == default:
        await acl.delete(tx, account, mailbox, *identifier)
    else:
        await acl.put(tx, account, mailbox, Grant(*identifier, rights))
    left = effective(await acl.of_mailbox(tx, account, mailbox), account, account)
    await acl.set_owner_rights(tx, account, mailbox, None if left == ALL_RIGHTS else left)
    change.report(ChangeKind.MAILBOX_UPDATED, mailbox)


def _entry(grants: Iterable[Grant], identifier: Identifier) -> Grant | None:
    for grant in grants:
        if (grant.grantee, grant.negative) == identifier:
            return grant
    return None


def limited(old: Flags, new: Flags, rights: Right) -> Flags:
    r"""Return new flags where the rights allow them, and the old ones elsewhere (RFC 4314 §4)."""
    if rights == ALL_RIGHTS:
        return new
    mask = flag_mask(rights)
    keywords = new.keywords if Right.WRITE in rights else old.keywords
    return Flags(old.bits & ~mask | new.bits & mask, keywords)
