"""Which mailboxes somebody sees, by which names, and what they may do with them (RFC 4314)."""

from typing import TYPE_CHECKING

from mailserver.errors import Forbidden, NotFound
from mailserver.mail import mailboxes
from mailserver.model import ALL_RIGHTS, AccountId, Mailbox, Place, Principal, Right

if TYPE_CHECKING:
    from mailserver.mail.context import Mail


async def find(mail: "Mail", principal: Principal, path: str, *needs: Right) -> Place:
    """Return the mailbox that a principal names so, if it has one of those rights there.

    Without any given it needs LOOKUP. Raises NotFound also for what may not be seen.
    """
    found = await mailboxes.by_path(mail, principal.account_id, path)
    return _allowed(_own(principal, found), *needs)


async def visible(mail: "Mail", principal: Principal) -> list[Place]:
    """Return all mailboxes that a principal may list: INBOX first, parents before children."""
    found = await mailboxes.list_all(mail, principal.account_id)
    return [_own(principal, mailbox) for mailbox in found]


def _own(principal: Principal, mailbox: Mailbox) -> Place:
    account = principal.account_id
    return Place(account, mailbox, mailbox.path, ALL_RIGHTS, mailbox.subscribed, mailbox.role)


async def new(mail: "Mail", principal: Principal, path: str) -> tuple[AccountId, str]:
    """Return the account and the path there of a mailbox that a principal may make."""
    return principal.account_id, mailboxes.normal_path(path)


async def subscribe(mail: "Mail", principal: Principal, path: str, subscribed: bool) -> None:
    """Add a mailbox to the subscribed ones of a principal, or take it out."""
    await mailboxes.subscribe(mail, principal.account_id, path, subscribed)


def _allowed(place: Place, *needs: Right) -> Place:
    """Refuse what the rights do not allow; what may not be seen is not there (RFC 4314 §6)."""
    if any(place.rights & right for right in needs or (Right.LOOKUP,)):
        return place
    if Right.LOOKUP in place.rights:
        raise Forbidden("the rights do not suffice")
    raise NotFound("mailbox")
