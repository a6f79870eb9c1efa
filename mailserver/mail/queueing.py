"""The outgoing queue in the hands of a person: find, retry, hold, fail, drop."""

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import TYPE_CHECKING

from mailserver.events import QUEUE
from mailserver.mail import submissions
from mailserver.model import Modseq, QueueId
from mailserver.storage import bodies, queue_admin
from mailserver.storage.queue_admin import Entry as Entry
from mailserver.storage.queue_admin import Filter as Filter

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

PAGE = 500  # recipients in one transaction
GIVEN_UP = ("550 5.0.0 Given up by the administrator", "5.0.0")


class Action(StrEnum):
    """What can be done with recipients in the queue."""

    RETRY = "retry"  # try now, also what is held
    HOLD = "hold"  # do not try until released
    RELEASE = "release"  # try what was held
    FAIL = "fail"  # give up, and tell the sender
    DROP = "drop"  # forget, and tell nobody


async def found(mail: "Mail", wanted: Filter, limit: int | None = None) -> AsyncIterator[Entry]:
    """Give the recipients that fit, oldest message first."""
    after, count = (0, ""), 0
    while page := await queue_admin.find(mail.database, wanted, after, PAGE):
        for entry in page:
            yield entry
            count += 1
            if limit is not None and count >= limit:
                return
        after = (page[-1].message_id, page[-1].recipient)


async def act(mail: "Mail", action: Action, wanted: Filter) -> int:
    """Do something to all recipients that fit; return to how many it was done."""
    entries = [entry async for entry in found(mail, wanted)]
    done = 0
    for start in range(0, len(entries), PAGE):
        part = entries[start : start + PAGE]
        done += await _act(mail, action, [(entry.message_id, entry.recipient) for entry in part])
        if action in (Action.FAIL, Action.DROP):
            for account, queue_id in sorted({(each.account_id, each.message_id) for each in part}):
                await submissions.delivery_changed(mail, account, queue_id)
    if done and action in (Action.RETRY, Action.RELEASE, Action.FAIL):
        mail.events.publish(QUEUE, Modseq(mail.ids.next()))
    return done


async def _act(mail: "Mail", action: Action, keys: list[tuple[QueueId, str]]) -> int:
    now = mail.now()
    async with mail.database.transaction() as tx:
        if action is Action.HOLD:
            return await queue_admin.hold(tx, keys)
        if action is Action.FAIL:
            return await queue_admin.fail(tx, keys, *GIVEN_UP, now)
        if action is Action.DROP:
            gone, freed = await queue_admin.drop(tx, keys)
            for account, blob in freed:
                await bodies.release(tx, account, [blob], now)
            return len(gone)
        return await queue_admin.set_due(tx, keys, now)
