"""A program that runs embedded services until its standard input ends; not a test itself.

Usage: host.py DIRECTORY postgres|seaweedfs... It prints one line of JSON when all of them serve.
"""

import asyncio
import json
import sys
from pathlib import Path

from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.seaweedfs import SeaweedFS


async def main(directory: Path, names: list[str]) -> None:
    facts: dict[str, str | int | None] = {}
    postgres = Postgres(directory / "postgres", sync=False)
    seaweedfs = SeaweedFS(directory / "seaweedfs")
    known: dict[str, Postgres | SeaweedFS] = {"postgres": postgres, "seaweedfs": seaweedfs}
    services = [known[name] for name in names]
    await asyncio.gather(*(service.start() for service in services))
    facts["postgres"] = postgres.pid
    facts["seaweedfs"] = seaweedfs.pid
    if postgres.pid is not None:
        facts["dsn"] = postgres.dsn()
    print(json.dumps(facts), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await asyncio.gather(*(service.stop() for service in services))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
