"""What is done right behind a delivery: vacation responses, reports filed with submissions.

The commit of a delivery writes what is to be done, so a crash loses none of it; doing it takes the
task away in the same transaction, so nothing is done twice.
"""

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from mailserver.errors import MailError, Unavailable
from mailserver.mail import reports, vacation
from mailserver.storage import delivery_tasks
from mailserver.storage.delivery_tasks import NewTask, TaskKind

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

log = logging.getLogger(__name__)

SWEEP = 60.0  # seconds between two looks for what another process left undone
BATCH = 100
GIVE_UP = timedelta(days=1)  # a task that fails for so long is dropped

_WORK = {TaskKind.VACATION: vacation.respond, TaskKind.REPORT: reports.file}


async def run(mail: "Mail") -> None:
    """Work until cancelled: at once behind the deliveries of this process."""
    while True:
        mail.delivery_tasks.clear()
        try:
            await once(mail)
        except MailError as error:
            mail.metrics.background_failures.labels("aftermath").inc()
            log.warning("aftermath: round failed", extra={"error": str(error)})
        try:
            async with asyncio.timeout(SWEEP):
                await mail.delivery_tasks.wait()
        except TimeoutError:
            continue


async def once(mail: "Mail") -> int:
    """Do all that is to be done; return how many replies and reports came of it.

    What fails is passed over, and tried again by the next round. Raises Unavailable while
    PostgreSQL is away.
    """
    done = 0
    failed: set[tuple[int, int]] = set()
    while True:
        tasks = await delivery_tasks.oldest(mail.database, BATCH + len(failed))
        tasks = [each for each in tasks if (each.kind, each.email_id) not in failed]
        if not tasks:
            return done
        for task in tasks:
            try:
                done += await _do(mail, task)
            except Unavailable as error:
                # S3 perhaps: the others may not need it. The next look tells if PostgreSQL is away.
                failed.add((task.kind, task.email_id))
                mail.metrics.background_failures.labels("aftermath").inc()
                extra = {"account": task.account_id, "error": str(error)}
                log.warning("aftermath: task put off", extra=extra)
                break
            except Exception:
                failed.add((task.kind, task.email_id))
                mail.metrics.background_failures.labels("aftermath").inc()
                log.exception("aftermath: task failed", extra={"account": task.account_id})
                if mail.now() - task.received_at > GIVE_UP:
                    await delivery_tasks.finish(mail.database, task)


async def _do(mail: "Mail", task: NewTask) -> bool:
    done = await _WORK[task.kind](mail, task)
    if not done:
        await delivery_tasks.finish(mail.database, task)
    return done
