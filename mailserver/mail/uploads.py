"""What clients upload before they make messages of it."""

import asyncio
import hashlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mailserver.errors import NotFound, OverQuota
from mailserver.model import AccountId, BlobId, QueueId
from mailserver.storage import blob_places, bodies, delivery, uploads
from mailserver.storage.bodies import NewBody
from mailserver.storage.compression import compressor

if TYPE_CHECKING:
    from mailserver.mail.context import Change, Mail
    from mailserver.storage.database import Connection

INLINE = 48 * 1024  # bytes that are hashed and compressed at once: a thread would cost as much
KEPT = timedelta(days=1)  # drafts are saved again and again from what was uploaded once
ROOM = 1024 * 1024 * 1024  # bytes of uploads of one account, quota or not
BATCH = 1000  # uploads looked at for one round of expiry


async def store(
    mail: "Mail", account: AccountId, raw: bytes, uploader: AccountId | None = None
) -> BlobId:
    """Store an upload and return its blob, durable and readable at once.

    It is kept for a day after the last time that the same bytes were uploaded, and longer when a
    message needs it. Uploads count against the quota while they last. An `uploader` who does not
    own the account may read it back. Raises OverQuota, NotFound.
    """
    if len(raw) > INLINE:
        blob, data = await asyncio.to_thread(_sealed, raw)
    else:
        blob, data = _sealed(raw)
    async with mail.database.transaction() as tx:
        room = (await delivery.lock_accounts(tx, [account])).get(account)
        if room is None:
            raise NotFound("account")
        now = mail.now()
        if await uploads.touch(tx, account, blob, now):
            used = await uploads.size(tx, account) + len(raw)
            limit = room.quota_limit
            if used > ROOM or (limit is not None and room.quota_used + used > limit):
                raise OverQuota("account")
            await bodies.insert(tx, [NewBody(account, blob, len(raw), 1, data)], now)
        if uploader not in (None, account):
            await blob_places.note_uploader(tx, account, blob, uploader)
    return blob


class Spent:
    """An upload that is forgotten in the commit in which a message takes its place.

    So whoever imports a whole archive never has more of it as uploads than is under way.
    """

    def __init__(self, account: AccountId, blob: BlobId) -> None:
        self.account_id: AccountId | None = account
        self._blob = blob

    async def admit(self, tx: "Connection") -> bool:
        """Let any message take the place."""
        return True

    async def write(self, change: "Change", queue_id: QueueId | None) -> None:
        """Forget the upload, if it is one."""
        await uploads.release(change.tx, change.account, [self._blob], change.now)


async def hold(mail: "Mail", account: AccountId, raw: bytes) -> bool:
    """Keep a body that a message of the account is about to need; False when it is kept already.

    It is forgotten like an upload when no message does. Raises NotFound.
    """
    blob, data = await asyncio.to_thread(_sealed, raw)
    async with mail.database.transaction() as tx:
        if not await delivery.lock_accounts(tx, [account]):
            raise NotFound("account")
        now = mail.now()
        new = await uploads.touch(tx, account, blob, now)
        if new:
            await bodies.insert(tx, [NewBody(account, blob, len(raw), 1, data)], now)
    return new


def _sealed(raw: bytes) -> tuple[BlobId, bytes]:
    return BlobId(hashlib.sha256(raw).digest()), compressor()(raw)


async def expire(mail: "Mail", now: datetime) -> int:
    """Forget uploads that had their time; return how many. Their blobs are collected later."""
    before = now - KEPT
    count = 0
    while accounts := await uploads.accounts_with_old(mail.database, before, BATCH):
        for account in accounts:
            async with mail.database.transaction() as tx:
                await delivery.lock_accounts(tx, [account])
                count += await uploads.expire(tx, account, before, now)
    return count
