"""Who runs on a data directory, and how to reach it: `dev.lock` and `dev.json`.

The lock is the truth: the kernel releases it however its holder dies. The document is only
believed while somebody holds the lock.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from mailserver.errors import ConfigurationError, InUse, Unavailable

DOCUMENT = "dev.json"
LOCK = "dev.lock"
_POLL = 0.05  # seconds


class Presence:
    """The claim of one process on a data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock: int | None = None

    async def claim(self, patience: float = 1.0) -> None:
        """Take the directory; raise InUse when somebody holds it longer than `patience` seconds.

        A short wait lets a predecessor that is stopping, or a command that just looks, go first.
        A directory that cannot be written is a ConfigurationError.
        """
        try:
            self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            file = self.directory / LOCK
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            why = error.strerror
            raise ConfigurationError(f"cannot use the folder {self.directory}: {why}") from None
        try:
            deadline = asyncio.get_running_loop().time() + patience
            while not _try_lock(descriptor):
                if asyncio.get_running_loop().time() >= deadline:
                    holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                    raise InUse(f"{self.directory} is in use by process {holder or 'unknown'}")
                await asyncio.sleep(_POLL)
        except BaseException:
            os.close(descriptor)
            raise
        self._lock = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self.withdraw()

    def publish(self, document: Mapping[str, Any]) -> None:
        """Write the document at once and whole; it holds passwords, so it is for its owner only."""
        write_private(self.directory / DOCUMENT, orjson.dumps(document, option=orjson.OPT_INDENT_2))

    def withdraw(self) -> None:
        """Remove the document: whoever looks from now on finds nobody ready."""
        with contextlib.suppress(FileNotFoundError):
            (self.directory / DOCUMENT).unlink()

    def release(self) -> None:
        """Remove the document and give the directory back."""
        if self._lock is not None:
            self.withdraw()
            os.close(self._lock)
            self._lock = None


async def find(directory: Path, patience: float = 10.0) -> dict[str, Any] | None:
    """Return the document of whoever runs there; None when nobody does.

    Raise Unavailable when somebody has the directory but does not get ready in time.
    """
    deadline = asyncio.get_running_loop().time() + patience
    while _is_held(directory / LOCK):
        with contextlib.suppress(FileNotFoundError, orjson.JSONDecodeError):
            document: dict[str, Any] = orjson.loads((directory / DOCUMENT).read_bytes())
            return document
        if asyncio.get_running_loop().time() >= deadline:
            raise Unavailable(f"{directory} is in use, but nothing serves there yet")
        await asyncio.sleep(_POLL)
    return None


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step by one that only its owner can read."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A shared lock: two commands that look at the same time do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
