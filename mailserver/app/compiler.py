"""Compile rules in a process of its own: the compiler takes 10 MB, and seconds for many rules."""

import marshal
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from mailserver.antispam.content.patterns import Compile, Database, Row, compiled

COMMAND = (sys.executable, "-P", "-m", "mailserver.app.compiler")


class CompilerEnded(OSError):
    """The process has ended before its work."""


@contextmanager
def compiler(command: Sequence[str] = COMMAND) -> Iterator[Compile]:
    """Have a process that compiles; to be used in a thread. OSError when it ends early."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
    assert child.stdin is not None
    assert child.stdout is not None
    asked, answered = child.stdin, child.stdout

    def compile_rows(rows: Sequence[Row]) -> Database:
        _put([tuple(row) for row in rows], asked)
        try:
            return Database(*marshal.load(answered))  # noqa: S302 (what our own child says)
        except (EOFError, ValueError, TypeError):
            raise CompilerEnded("the process that compiles rules has ended") from None

    with child:  # closes what it reads, at which it ends, and waits
        yield compile_rows


def _put(what: list[Any] | tuple[Any, ...], where: IO[bytes]) -> None:
    marshal.dump(what, where)
    where.flush()


def main() -> int:
    """Compile what comes on standard input, one group after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: it ends with its parent
    # its own buffer: without one (PYTHONUNBUFFERED) what is left of a write that is cut is lost
    answered = os.fdopen(sys.stdout.fileno(), "wb", closefd=False)
    while True:
        try:
            rows = marshal.load(sys.stdin.buffer)  # noqa: S302 (what our own parent says)
        except EOFError:
            return 0
        try:
            _put(tuple(compiled([Row(*row) for row in rows])), answered)
        except BrokenPipeError:  # who asked was killed; what is left unsaid is not said at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


if __name__ == "__main__":
    sys.exit(main())
