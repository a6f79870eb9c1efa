"""The durability barrier of the mover."""

import ctypes
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def syncfs(path: Path) -> None:
    """Return when everything written so far to the file system of `path` is on disk.

    It blocks, typically for 0.1 s, so it belongs in a thread. An earlier write-back error that was
    not reported yet raises OSError too (Linux 5.8 on).
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(path))
    finally:
        os.close(descriptor)
