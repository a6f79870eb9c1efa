"""Identities: the addresses an account sends from, and what goes into mail from them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mailserver.address import Address, parse_address
from mailserver.errors import Forbidden, Invalid, NotFound, TooMany
from mailserver.mail import recipients
from mailserver.mail.context import Change
from mailserver.mail.metadata import OF_ACCOUNT
from mailserver.model import AccountId, ChangeKind, Identity, IdentityId
from mailserver.storage import accounts, identities

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

MAX_IDENTITIES = 1000  # of one account
ANYBODY = "*"  # stands for every local part (RFC 8621 §6)


async def list_all(mail: "Mail", account: AccountId) -> list[Identity]:
    """Return the identities of an account, those that came with its addresses first."""
    return await identities.of_account(mail.database, account)


async def locked(change: Change) -> dict[IdentityId, Identity]:
    """Return the identities of the account that is being changed."""
    found = await identities.of_account(change.tx, change.account)
    return {each.id: each for each in found}


async def get(mail: "Mail", account: AccountId, identity: int) -> Identity:
    """Return one identity; NotFound."""
    found = await identities.by_id(mail.database, account, identity)
    if found is None:
        raise NotFound("identity")
    return found


async def create(change: Change, mail: "Mail", identity: Identity) -> Identity:
    """Add an identity and return it with its id.

    Raises Forbidden when the account may not send from its address, Invalid when that is none,
    TooMany.
    """
    if not await may_use(mail, change.account, identity.email):
        raise Forbidden("the account may not send from this address")
    if await identities.count(change.tx, change.account) >= MAX_IDENTITIES:
        raise TooMany("identities")
    made = replace(identity, id=IdentityId(mail.ids.next()), standard=False)
    await identities.insert(change.tx, change.account, made)
    change.report(ChangeKind.IDENTITY_CREATED, OF_ACCOUNT, email_ids=(made.id,))
    return made


async def update(change: Change, identity: Identity) -> None:
    """Write an identity that is there."""
    await identities.update(change.tx, change.account, identity)
    change.report(ChangeKind.IDENTITY_UPDATED, OF_ACCOUNT, email_ids=(identity.id,))


async def destroy(change: Change, identity: Identity) -> None:
    """Remove an identity; Forbidden when it came with an address."""
    if identity.standard:
        raise Forbidden("it belongs to an address of the account")
    await identities.delete(change.tx, change.account, [identity.id])
    change.report(ChangeKind.IDENTITY_DESTROYED, OF_ACCOUNT, email_ids=(identity.id,))


async def may_use(mail: "Mail", account: AccountId, email: str) -> bool:
    """Tell whether an account may send from an address, or from all of a domain ("*@domain")."""
    local, _, domain = email.rpartition("@")
    if local == ANYBODY:
        known = await recipients.send_addresses(mail, account)
        return f"@{parse_address(f'x@{domain}').domain}" in known
    return await recipients.may_send_as(mail, account, parse_address(email))


def covers(identity: Identity, address: Address, separator: str) -> bool:
    """Tell whether an address, its subaddress aside, is that of an identity."""
    local, _, domain = identity.email.rpartition("@")
    try:
        if local == ANYBODY:
            return parse_address(f"x@{domain}").domain == address.domain
        own = parse_address(identity.email)
    except Invalid:
        return False
    return own in (address, address.without_subaddress(separator))


async def follow_addresses(change: Change, mail: "Mail", name: str) -> None:
    """Give every address that may send its identity, and take it from those that are gone."""
    sending = await accounts.addresses(change.tx, change.account)
    emails = [ANYBODY + each if each.startswith("@") else each for each in sending]
    standard = {
        each.email: each
        for each in await identities.of_account(change.tx, change.account)
        if each.standard
    }
    made = []
    for email in emails:
        if email not in standard:
            new = Identity(IdentityId(mail.ids.next()), email, name, None, None, "", "", True)
            await identities.insert(change.tx, change.account, new)
            made.append(new.id)
    gone = [each.id for email, each in standard.items() if email not in emails]
    if gone:
        await identities.delete(change.tx, change.account, gone)
    _report(change, ChangeKind.IDENTITY_CREATED, made)
    _report(change, ChangeKind.IDENTITY_DESTROYED, gone)


def _report(change: Change, kind: ChangeKind, ids: Sequence[int]) -> None:
    if ids:
        change.report(kind, OF_ACCOUNT, email_ids=tuple(ids))
