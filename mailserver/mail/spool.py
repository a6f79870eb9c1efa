"""Large messages while they are received: on disk, within a budget that a process shares."""

import asyncio
import logging
import tempfile
from typing import BinaryIO

from mailserver.errors import Unavailable
from mailserver.mail.memory import Memory

log = logging.getLogger(__name__)


class Spool:
    """A temporary file for what one client sends; it has no name, so nothing of it can be left."""

    __slots__ = ("_disk", "_file", "_size", "_timeout")

    def __init__(self, disk: Memory, timeout: float) -> None:
        """Take octets of `disk` as they are needed, and wait for them `timeout` seconds."""
        self._disk = disk
        self._timeout = timeout
        self._file: BinaryIO | None = None
        self._size = 0

    async def write(self, octets: bytes) -> bool:
        """Append octets; False when the budget or the disk has no room for them."""
        if not await self._disk.take(len(octets), self._timeout):
            return False
        self._size += len(octets)
        try:
            self._file = await asyncio.to_thread(_append, self._file, octets)
        except OSError as error:
            log.warning("cannot spool a message", extra={"reason": error.strerror})
            return False
        return True

    async def read(self, offset: int, size: int) -> bytes:
        """Return octets that were written; Unavailable when the disk does not give them back."""
        assert self._file is not None
        try:
            octets = await asyncio.to_thread(_read, self._file, offset, size)
        except OSError as error:
            raise Unavailable("spool") from error
        if len(octets) != size:
            raise Unavailable("spool")
        return octets

    def close(self) -> None:
        """Forget all that was written, and give its room back."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._disk.give(self._size)
        self._size = 0


def _open() -> BinaryIO:
    # without a buffer that could fail to be written when the file is closed
    return tempfile.TemporaryFile(prefix="mailserver-", buffering=0)


def _append(file: BinaryIO | None, octets: bytes) -> BinaryIO:
    """Write to a file, a new one if there is none, and return it."""
    opened = file or _open()
    rest = memoryview(octets)
    try:
        while rest:
            rest = rest[opened.write(rest) :]
    except OSError:
        if file is None:
            opened.close()
        raise
    return opened


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
