"""Accounts that are disabled for a while, and deleted ones: what becomes of them and their mail.

A deleted account is disabled, takes no mail, and has a time from when on all of it is removed;
until then it can come back. What is removed goes in many small transactions, each of which leaves
the account consistent, so whoever is interrupted is continued by whoever comes next.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mailserver.errors import AlreadyExists, InUse, MailError
from mailserver.mail import accounts
from mailserver.mail.rights import tell_shares
from mailserver.model import Account, AccountId
from mailserver.storage import closing, leases, push, tickets

if TYPE_CHECKING:
    from mailserver.mail.context import Mail
    from mailserver.storage.database import Connection

log = logging.getLogger(__name__)

LEASE = "account removal"
LEASE_TIME = timedelta(minutes=5)
INTERVAL = 300.0  # seconds between two looks for accounts whose time has come
BATCH = 500  # emails, or rows of another kind, in one transaction
AT_ONCE = 100  # accounts that are looked for at a time


async def disable(mail: "Mail", login: str, *, refuse_mail: bool) -> Account:
    """Let nobody log in to an account, and end its sessions; mail for it is kept, or refused.

    What was queued before goes out. Raises NotFound, InUse when it is deleted.
    """
    account = await _present(mail, login)
    async with mail.database.transaction() as tx:
        await closing.set_enabled(tx, account.id, enabled=False, refuses=refuse_mail)
        await _end_access(tx, account.id)
    _tell(mail, account.id)
    return await accounts.get(mail, account.id)


async def enable(mail: "Mail", login: str) -> Account:
    """Let an account log in again, and take mail; NotFound, InUse when it is deleted."""
    account = await _present(mail, login)
    await closing.set_enabled(mail.database, account.id, enabled=True, refuses=False)
    _tell(mail, account.id)
    return await accounts.get(mail, account.id)


async def delete(mail: "Mail", login: str, after: timedelta) -> Account:
    """Delete an account: nobody logs in, its addresses are nobody's; after a time all of it goes.

    Doing it again changes only the time. Raises NotFound.
    """
    account = await accounts.find(mail, login)
    async with mail.database.transaction() as tx:
        await closing.mark(tx, account.id, mail.now() + after)
        await _end_access(tx, account.id)
    _tell(mail, account.id)
    tell_shares(mail, None)  # what it shares is not to be seen any more
    return await accounts.get(mail, account.id)


async def restore(mail: "Mail", login: str) -> Account:
    """Let a deleted account come back as a disabled one; NotFound, InUse when it is too late."""
    account = await accounts.find(mail, login)
    if account.remove_at is None:
        raise AlreadyExists(f"{account.login} is not deleted")
    if not await closing.unmark(mail.database, account.id, mail.now()):
        raise InUse(f"{account.login} is being removed: it cannot come back")
    _tell(mail, account.id)
    tell_shares(mail, None)
    return await accounts.get(mail, account.id)


async def _present(mail: "Mail", login: str) -> Account:
    account = await accounts.find(mail, login)
    if account.remove_at is not None:
        raise InUse(f"{account.login} is deleted: `mailserver account restore` brings it back")
    return account


async def _end_access(tx: "Connection", account: AccountId) -> None:
    """Take back what opens something without a password (RFC 8620 §7.2)."""
    await push.delete_all(tx, account)
    await tickets.delete_all(tx, account)


def _tell(mail: "Mail", account: AccountId) -> None:
    """Let sessions look at once whether they may still be there."""
    mail.directory.forget()
    tell_shares(mail, account)


# Removing ----------------------------------------------------------------------------------------


async def remove(
    mail: "Mail", account: AccountId, progress: Callable[[int], None] = lambda rows: None
) -> bool:
    """Remove all of a deleted account whose time has come; False when it came back or was gone.

    Several may do it at the same time, and whoever begins again goes on where the last one was.
    """
    while True:
        done = await _round(mail, account, mail.now())
        if done is None:
            return False
        if not done:
            mail.directory.forget()
            return True
        progress(done)


async def _round(mail: "Mail", account: AccountId, now: datetime) -> int | None:
    """Remove the next rows and return how many, 0 when all is gone; None: it is not to be."""
    async with mail.database.transaction() as tx:
        if not await closing.lock(tx, account, now):
            return None
        await closing.stop_indexing(tx, account)
        for step in closing.STEPS:
            done = await step(tx, account, BATCH, now)
            if done:
                return done
        await closing.remove(tx, account)
    return 0


async def run(mail: "Mail", owner: str) -> None:
    """Remove accounts whose time has come, until cancelled."""
    while True:
        try:
            await once(mail, owner)
        except MailError as error:
            mail.metrics.background_failures.labels("account removal").inc()
            log.warning("account removal: round failed", extra={"error": str(error)})
        await asyncio.sleep(INTERVAL)


async def once(mail: "Mail", owner: str) -> int:
    """Remove all accounts whose time has come, unless another process does; return how many."""
    removed = 0
    while await leases.take(mail.database, LEASE, owner, mail.now(), LEASE_TIME):
        found = await closing.due(mail.database, mail.now(), AT_ONCE)
        if not found:
            break
        for account in found:
            if await remove(mail, account.id):
                removed += 1
                log.info("account removed", extra={"account": account.login})
    return removed
