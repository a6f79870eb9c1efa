"""Become the server process: the command line ends here and a lean process takes over."""

import ctypes
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

# With glibc's defaults every read of a TLS connection allocates and returns 256 kB to the kernel:
# 2.3 page faults a command, 35 us of CPU instead of 13. glibc reads these variables only when a
# process starts, hence the exec; it also leaves typer and rich behind. With an arena for each
# thread, what a thread has freed is of no use to others: compiling the rules left 8 MB unused.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_TOP_PAD_": "16777216",
    "MALLOC_ARENA_MAX": "1",
}


def command(arguments: Sequence[str]) -> list[str]:
    """Return the command line of a server process; -P keeps the current folder out of sys.path."""
    return [sys.executable, "-P", "-m", "mailserver.app", *arguments]


def become_server(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by a server process with the same pid; values already set are kept."""
    argv = command(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(argv[0], argv, {**MALLOC, **os.environ})  # noqa: S606 (no shell is the point)


def give_back() -> None:
    """Return memory to the kernel that was needed to start: with `MALLOC` glibc keeps it all."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)
