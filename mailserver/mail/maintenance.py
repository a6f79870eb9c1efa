"""What keeps the store small: old entries of the change log go, and what is not needed any more."""

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from mailserver.errors import MailError
from mailserver.mail import submissions, uploads, vacation
from mailserver.storage import changes, feedback, leases, push, tickets

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

log = logging.getLogger(__name__)

LEASE = "maintenance"
LEASE_TIME = timedelta(minutes=30)
INTERVAL = 3600.0  # seconds
COUNTED = timedelta(days=7)  # that counts for reports are kept: they are sent the next day


async def run(mail: "Mail", owner: str) -> None:
    """Work every hour until cancelled; a round that fails is logged and tried again."""
    while True:
        try:
            await once(mail, owner)
        except MailError as error:
            mail.metrics.background_failures.labels("maintenance").inc()
            log.warning("maintenance: round failed", extra={"error": str(error)})
        await asyncio.sleep(INTERVAL)


async def once(mail: "Mail", owner: str) -> int:
    """Trim the change log, forget uploads and old submissions, unless another process does.

    Return how many entries of the change log went.

    A client that was away longer reads its mailboxes anew: JMAP cannotCalculateChanges
    (RFC 8620 §5.2), QRESYNC without VANISHED EARLIER (RFC 7162 §3.2.5.2).
    """
    now = mail.now()
    if not await leases.take(mail.database, LEASE, owner, now, LEASE_TIME):
        return 0
    await push.expire(mail.database, now)
    await tickets.expire(mail.database, now)
    expired = await uploads.expire(mail, now)
    if expired:
        log.info("uploads forgotten", extra={"uploads": expired})
    await submissions.catch_up(mail)
    await submissions.expire(mail, now)
    await vacation.trim(mail, now)
    kept = timedelta(seconds=mail.config.reports.keep)
    await feedback.expire(mail.database, now - kept, now - min(kept, COUNTED), now)
    kept = timedelta(seconds=mail.config.store.change_log)
    trimmed = await changes.trim(mail.database, now - kept)
    if trimmed:
        log.info("change log trimmed", extra={"entries": trimmed})
    return trimmed
