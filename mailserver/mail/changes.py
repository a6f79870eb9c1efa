"""What changed in an account since a state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailserver.errors import CannotCalculateChanges, NotFound
from mailserver.model import (
    GONE_KINDS,
    HIDDEN,
    SHOWN,
    AccountId,
    ChangeEntry,
    ChangeKind,
    Modseq,
)
from mailserver.storage import accounts, changes

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

LOG = 5000  # entries of a log that is read as a whole


@dataclass(frozen=True, slots=True)
class Log:
    """Everything that happened after a state."""

    modseq: Modseq  # up to which the entries tell it
    entries: Sequence[ChangeEntry]  # oldest first


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


async def log(mail: "Mail", account: AccountId, modseq: int) -> Log:
    """Return all that happened after `modseq`; CannotCalculateChanges also when it is too much."""
    current = await state(mail, account)
    if modseq == current:
        return Log(current, ())
    entries = await since(mail, account, modseq, limit=LOG)
    if len(entries) == LOG:
        raise CannotCalculateChanges("too much happened")
    return Log(max(current, entries[-1].modseq) if entries else current, entries)


def shown_before(entry: ChangeEntry) -> bool | None:
    """Tell whether JMAP showed an entry's emails in its mailbox before; None: as after it."""
    if entry.kind in (ChangeKind.EMAIL_CREATED, ChangeKind.EMAIL_ADDED) or SHOWN in entry.names:
        return False
    if entry.kind in GONE_KINDS:
        return HIDDEN not in entry.names
    return True if HIDDEN in entry.names else None
