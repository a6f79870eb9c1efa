"""Make the bucket in a process of its own: aioboto3 is 40 MB that are needed once."""

import asyncio
import sys
from dataclasses import asdict

import orjson

from mailserver.app.child import run_module
from mailserver.app.exits import exit_code, reason
from mailserver.errors import MailError
from mailserver.storage import bucket
from mailserver.storage.place import Bucket


async def make(place: Bucket) -> bool:
    """Make the bucket unless it is there; return whether it is there now."""
    return await run_module("mailserver.app.bucket", orjson.dumps(asdict(place))) == 0


def main() -> int:
    """Make the bucket that comes as JSON on standard input."""
    place = Bucket(**orjson.loads(sys.stdin.buffer.read()))
    try:
        asyncio.run(bucket.ensure(place))
    except MailError as error:
        sys.stderr.write(f"mailserver: bucket {place.bucket}: {reason(error)}\n")
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
