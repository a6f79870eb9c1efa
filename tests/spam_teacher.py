"""Who learns lessons about spam, in a process of its own, to be killed."""

import asyncio
import sys
from datetime import UTC, datetime

from mailserver.antispam.content.models import Models
from mailserver.antispam.content.teacher import Teacher
from mailserver.metrics import Metrics
from mailserver.storage.blobs import S3Blobs
from mailserver.storage.database import Database
from mailserver.storage.place import Bucket


def now() -> datetime:
    return datetime.now(UTC)


async def main(dsn: str, name: str) -> None:
    database = Database(lambda: dsn, 3)
    bucket = Bucket("http://127.0.0.1:1", "none", "none", "none", "none")  # bodies are hot
    models = Models(database)
    teacher = Teacher(database, S3Blobs(lambda: bucket), models, Metrics("test"), now, name)
    print("begins", flush=True)
    await teacher.once()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
