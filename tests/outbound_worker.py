"""A worker of the queue in a process of its own, to be killed."""

import asyncio
import json
import sys
from datetime import UTC, datetime

from mailserver.auth.passwords import Passwords
from mailserver.config import Config
from mailserver.dns import Resolver
from mailserver.events import Hub
from mailserver.mail.context import Mail
from mailserver.metrics import Metrics
from mailserver.smtp.outbound.worker import Worker
from mailserver.storage.blobs import S3Blobs
from mailserver.storage.database import Database
from mailserver.storage.ids import Ids
from mailserver.storage.place import Bucket


def now() -> datetime:
    return datetime.now(UTC)


async def main(dsn: str, config: str, name: str) -> None:
    bucket = Bucket("http://127.0.0.1:1", "none", "none", "none", "none")  # bodies are hot
    mail = Mail(
        database=Database(lambda: dsn, 5),
        blobs=S3Blobs(lambda: bucket),
        events=Hub(),
        ids=Ids(7, now),
        metrics=Metrics("test"),
        config=Config.model_validate(json.loads(config)),
        now=now,
        passwords=Passwords(),
    )
    resolver = Resolver(mail.config.dns, asyncio.get_running_loop().time)
    await Worker(mail, resolver, name).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
