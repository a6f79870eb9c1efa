"""What is remembered of mail and clients is forgotten when it is old."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from mailserver.antispam import trace
from mailserver.config import Antispam
from mailserver.errors import MailError, Unavailable
from mailserver.metrics import Metrics
from mailserver.storage import greylist, leases, rates
from mailserver.storage.database import Database
from mailserver.storage.ids import Ids

log = logging.getLogger(__name__)

LEASE = "antispam"
LEASE_TIME = timedelta(minutes=10)
INTERVAL = 900.0  # seconds
SHARE_PAUSE = 1.0  # seconds between two looks at what other processes counted
PART = 10_000  # rows that are forgotten with one statement


class Sharing:
    """Tells the other processes what is known and counted here, and learns from them."""

    def __init__(self, *flushes: Callable[[], Awaitable[None]]) -> None:
        """Take what writes what waits; each raises Unavailable when that has to wait."""
        self._flushes = flushes

    async def run(self) -> None:
        """Work until cancelled; while PostgreSQL is away each process goes by what it knows."""
        is_away = False
        while True:
            await asyncio.sleep(SHARE_PAUSE)
            try:
                for flush in self._flushes:
                    await flush()
                is_away = False
            except Unavailable as error:
                if not is_away:
                    log.warning("counts are not shared now", extra={"error": str(error)})
                is_away = True


class Maintenance:
    """Forgets, in one process of all."""

    def __init__(
        self,
        settings: Antispam,
        database: Database,
        ids: Ids,
        metrics: Metrics,
        now: Callable[[], datetime],
        owner: str,
    ) -> None:
        self._settings = settings
        self._database = database
        self._ids = ids
        self._metrics = metrics
        self._now = now
        self._owner = owner

    async def run(self) -> None:
        """Work until cancelled; a round that fails is logged and tried again."""
        while True:
            try:
                await self.once()
            except MailError as error:
                self._metrics.background_failures.labels("antispam").inc()
                log.warning("antispam: round failed", extra={"error": str(error)})
            await asyncio.sleep(INTERVAL)

    async def once(self) -> None:
        """Forget what is too old, unless another process does."""
        now = self._now()
        if not await leases.take(self._database, LEASE, self._owner, now, LEASE_TIME):
            return
        kept = timedelta(seconds=self._settings.trace_time)
        forgotten = await trace.expire(self._database, self._ids, now - kept)
        while await greylist.expire(self._database, now, PART) == PART:
            pass
        while await rates.expire(self._database, now, PART) == PART:
            pass
        if forgotten:
            log.info("traces forgotten", extra={"traces": forgotten})
