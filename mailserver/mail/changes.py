"""What changed in an account since a state."""

from typing import TYPE_CHECKING

from mailserver.errors import CannotCalculateChanges, NotFound
from mailserver.model import AccountId, ChangeEntry, Modseq
from mailserver.storage import accounts, changes

if TYPE_CHECKING:
    from mailserver.mail.context import Mail


async def state(mail: "Mail", account: AccountId) -> Modseq:
    """Return the account's modseq: the JMAP state of every type, and IMAP's HIGHESTMODSEQ."""
    modseq = await accounts.modseq(mail.database, account)
    if modseq is None:
        raise NotFound("account")
    return modseq


async def since(
    mail: "Mail", account: AccountId, modseq: int, *, limit: int | None
) -> list[ChangeEntry]:
    """Return what happened after `modseq`, oldest first.

    Raises CannotCalculateChanges when the log has been trimmed beyond it, or when the account
    never was at that modseq.
    """
    entries = await changes.since(mail.database, account, modseq, limit)
    # asked after the rows were read: a trim in between is noticed
    if modseq < await changes.low_water_mark(mail.database, account):
        raise CannotCalculateChanges(f"nothing is known before {modseq}")
    if not entries and modseq > await state(mail, account):
        raise CannotCalculateChanges(f"{modseq} is not a state of the account")
    return entries
