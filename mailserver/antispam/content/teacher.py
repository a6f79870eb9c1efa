"""Works behind the changes of users: learns what their moves and keywords say.

One process of all does it. A lesson goes away in the transaction that teaches it, so a crash
neither loses nor doubles one.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from mailserver.antispam.content.learning import Opinion, learn, tidy
from mailserver.antispam.content.models import Models
from mailserver.antispam.content.stored import as_inquiry
from mailserver.antispam.content.tokens import Features, features
from mailserver.antispam.content.views import Views
from mailserver.errors import Corrupt, MailError, Unavailable
from mailserver.metrics import Metrics
from mailserver.model import AccountId, BlobId
from mailserver.storage import bodies, correspondents, leases, lessons
from mailserver.storage.blobs import Blobs
from mailserver.storage.compression import decompress_in_thread
from mailserver.storage.database import Database, Executor
from mailserver.storage.lessons import Lesson
from mailserver.storage.spam_models import SERVER

log = logging.getLogger(__name__)

LEASE = "spam lessons"
LEASE_TIME = timedelta(seconds=60)
INTERVAL = 5.0  # seconds between two looks for lessons
BATCH = 50


class TakenByAnother(Exception):
    """Another process learned a lesson first."""


class Teacher:
    """Takes lessons and teaches models."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        models: Models,
        metrics: Metrics,
        now: Callable[[], datetime],
        owner: str,
        *,
        teach_server: bool = True,
    ) -> None:
        """With `teach_server` what users say also counts for all others."""
        self._database = database
        self._blobs = blobs
        self._models = models
        self._metrics = metrics
        self._now = now
        self._owner = owner
        self._teach_server = teach_server

    async def run(self) -> None:
        """Work until cancelled; every process keeps the server's model up to date for itself."""
        while True:
            try:
                now = self._now()
                if await leases.take(self._database, LEASE, self._owner, now, LEASE_TIME):
                    await self.once()
                await self._models.refresh()
            except MailError as error:
                self._metrics.background_failures.labels("spam lessons").inc()
                log.warning("spam lessons: round failed", extra={"error": str(error)})
            await asyncio.sleep(INTERVAL)

    async def once(self) -> int:
        """Learn all that waits; return how many lessons.

        A message that cannot be read now waits; one that is gone teaches nothing.
        """
        done, after = 0, 0
        while some := await lessons.oldest(self._database, after, BATCH):
            after = some[-1].id
            for account in dict.fromkeys(lesson.account_id for lesson in some):
                own = [lesson for lesson in some if lesson.account_id == account]
                try:
                    done += await self._learn(account, own)
                except Unavailable as error:
                    log.warning(
                        "spam lessons put off", extra={"account": account, "error": str(error)}
                    )
                except TakenByAnother:
                    continue
        return done

    async def _learn(self, account: AccountId, some: Sequence[Lesson]) -> int:
        """Learn lessons of one account; the newest of a message counts."""
        last = {lesson.blob_id: lesson.spam for lesson in some}
        raws = {blob: await self._content(account, blob) for blob in last}
        opinions = {}
        for blob, raw in raws.items():
            if raw is not None:
                found = await asyncio.to_thread(self._features, raw)
                opinions[blob] = Opinion(last[blob], found)
        owners = sorted({SERVER, account} if self._teach_server else {account})
        async with self._database.transaction() as tx:
            taken = await lessons.take(tx, [lesson.id for lesson in some])
            if taken != len(some):
                raise TakenByAnother
            for owner in owners:
                await learn(tx, owner, opinions)
            for blob, opinion in opinions.items():
                await self._acquaint(tx, account, raws[blob] or b"", opinion.spam)
        for owner in owners:
            await tidy(self._database, owner)
        self._metrics.spam_lessons.inc(len(some))
        return len(some)

    async def _acquaint(
        self, tx: Executor, account: AccountId, raw: bytes, spam: bool | None
    ) -> None:
        """Whoever's mail was taken out of Junk is known from then on, until it goes back there."""
        views = Views(as_inquiry(raw, self._now()))
        if views.author is None:
            return
        if spam is False:
            await correspondents.add(tx, account, [str(views.author)], self._now())
        elif spam:
            await correspondents.remove(tx, account, str(views.author))

    def _features(self, raw: bytes) -> Features:
        return features(Views(as_inquiry(raw, self._now())))

    async def _content(self, account: AccountId, blob: BlobId) -> bytes | None:
        """Return a message; None when it is gone or damaged."""
        hot = (await bodies.hot(self._database, account, [blob])).get(blob)
        try:
            if hot is not None:
                return await asyncio.to_thread(decompress_in_thread, hot)
            place = (await bodies.locations(self._database, account, [blob])).get(blob)
            if place is None or place.object is None:
                return None
            data = await self._blobs.get(place.object, place.offset, place.length)
            raw = await asyncio.to_thread(decompress_in_thread, data)
        except Corrupt:
            log.warning("spam lesson cannot be read", extra={"account": account})
            return None
        return raw if hashlib.sha256(raw).digest() == blob else None
