"""Where PostgreSQL and S3 are: external, embedded here, or embedded in another process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailserver.config import Config
from mailserver.runtime.embedded.barrier import syncfs
from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from mailserver.runtime.embedded.supervise import keep_running
from mailserver.storage.place import Bucket

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backends:
    """How to reach both; functions, because credentials and ports change while the server runs."""

    dsn: Callable[[], str]
    direct_dsn: Callable[[], str]  # past a pooler, for LISTEN and migrations
    bucket: Callable[[], Bucket]
    barrier: Callable[[], Awaitable[None]] | None = None  # makes what S3 has durable


def external(config: Config) -> Backends:
    """Return those that the configuration names."""
    database, s3 = config.database, config.s3

    def direct_dsn() -> str:
        return database.direct_url.current() or database.url.current()

    def bucket() -> Bucket:
        return Bucket(
            endpoint=s3.endpoint,
            bucket=s3.bucket,
            region=s3.region,
            access_key=s3.access_key.current(),
            secret_key=s3.secret_key.current(),
            prefix=s3.prefix,
        )

    return Backends(database.url.current, direct_dsn, bucket)


def published(document: Mapping[str, Any]) -> Backends:
    """Return those of the process that wrote the document `dev.json`."""
    url: str = document["database_url"]
    bucket = Bucket(region="us-east-1", **document["s3"])
    return Backends(lambda: url, lambda: url, lambda: bucket)


class Embedded:
    """PostgreSQL and SeaweedFS as children of this process, below one directory."""

    def __init__(self, directory: Path) -> None:
        self.postgres = Postgres(directory / "postgresql")
        self.seaweedfs = SeaweedFS(directory / "seaweedfs")
        self.on_restart: Callable[[], Awaitable[None]] = _nothing  # ports may be others then
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start both at the same time and keep them running until `stop`."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.postgres.start())
                group.create_task(self.seaweedfs.start())
        except BaseExceptionGroup as failures:
            await self.stop()
            # One reason is enough for whoever has to repair it, and both are logged.
            raise failures.exceptions[0] from None
        except BaseException:
            await self.stop()
            raise
        for service in (self.postgres, self.seaweedfs):
            self._keepers.append(asyncio.create_task(keep_running(service, self._restarted)))

    async def stop(self) -> None:
        """Stop both; what they had is on disk afterwards."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers.clear()
        await asyncio.gather(self.seaweedfs.stop(), self.postgres.stop())

    async def _restarted(self) -> None:
        await self.on_restart()

    def backends(self) -> Backends:
        """Return how to reach them."""

        def bucket() -> Bucket:
            weed = self.seaweedfs
            return Bucket(
                endpoint=weed.endpoint,
                bucket=weed.bucket,
                region="us-east-1",
                access_key=weed.access_key,
                secret_key=weed.secret_key,
            )

        async def barrier() -> None:
            await asyncio.to_thread(syncfs, self.seaweedfs.data)

        return Backends(self.postgres.dsn, self.postgres.dsn, bucket, barrier)


async def _nothing() -> None:
    """Do nothing after a restart: pools and clients find their way back by themselves."""
