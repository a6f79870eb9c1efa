"""The process that makes search text: requests on standard input, answers on standard output.

It imports little, for it is started often. See `mailserver.app.search_process`.
"""

import marshal
import os
import signal
import struct
import sys
import time
from typing import IO, Any

from mailserver.errors import Corrupt
from mailserver.mail import making
from mailserver.mail.making import Given

_SIZE = struct.Struct(">Q")


def put(what: tuple[Any, ...], where: IO[bytes]) -> None:
    """Write plain values; OSError when nobody reads them."""
    octets = marshal.dumps(what)
    where.write(_SIZE.pack(len(octets)))
    where.write(octets)
    where.flush()


def get(where: IO[bytes]) -> Any:
    """Read what `put` wrote; EOFError when there is nothing more."""
    head = where.read(_SIZE.size)
    if len(head) < _SIZE.size:
        raise EOFError
    return marshal.loads(where.read(_SIZE.unpack(head)[0]))  # noqa: S302 (of our own process)


def answer(kind: str, messages: list[tuple[int, bytes, bool]]) -> tuple[str | None, Any]:
    """Return what is wrong with the messages, and what was made of them, as plain values."""
    given = [Given(*each) for each in messages]
    try:
        if kind == "vocabulary":
            return None, making.whole_vocabulary(given)
        words, frames, unread = making.index(given)
        return None, (words, [tuple(frame) for frame in frames], unread)
    except Corrupt as error:
        return str(error), None


def timed(kind: str, messages: list[tuple[int, bytes, bool]]) -> tuple[str | None, Any, float]:
    """Return the answer, and which share of the time it took we were let work."""
    started, worked = time.monotonic(), time.process_time()
    error, made = answer(kind, messages)
    took = time.monotonic() - started
    return error, made, min((time.process_time() - worked) / took, 1.0) if took > 0 else 1.0


def main(nice: int) -> int:
    """Answer until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: it ends with its parent
    os.nice(nice)
    asked = sys.stdin.buffer
    # its own buffer: without one (PYTHONUNBUFFERED) what is left of a write that is cut is lost
    answered = os.fdopen(sys.stdout.fileno(), "wb", closefd=False)
    try:
        while True:
            put(timed(*get(asked)), answered)
    except EOFError:
        return 0
    except BrokenPipeError:  # who asked was killed; what is left unsaid is not said at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
