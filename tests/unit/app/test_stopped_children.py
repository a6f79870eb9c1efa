"""Processes that answer on standard output say all of it, also when they are stopped meanwhile."""

import array
import fcntl
import marshal
import mmap
import os
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from mailserver.antispam.content.patterns import Row, available, compiled
from mailserver.app import compiler, search_maker, search_process
from mailserver.mail import making
from mailserver.mail.making import Given

PATIENCE = 60.0  # seconds


@contextmanager
def answering(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process as the container does: with an output that Python does not buffer."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


def stop_in_the_middle(child: subprocess.Popen[bytes]) -> None:
    """Stop a process for a moment while it waits until there is room for more of its answer."""
    assert child.stdin is not None
    assert child.stdout is not None
    room = fcntl.fcntl(child.stdout, fcntl.F_GETPIPE_SZ)
    until(lambda: waiting(child.stdout) > room - mmap.PAGESIZE)  # a page may be begun only
    child.send_signal(signal.SIGSTOP)
    until(lambda: state(child.pid) == "T")
    child.send_signal(signal.SIGCONT)
    child.stdin.close()  # nothing more is asked: it ends, whatever it has said


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def waiting(pipe: IO[bytes] | None) -> int:
    """Return how many octets nobody has read yet."""
    assert pipe is not None
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif("hyperscan" not in available(), reason="hyperscan is not installed")
def test_compiled_rules_are_whole() -> None:
    rows = [Row(b"%d[a-z]{1,30}%d" % (n, n), n, 0) for n in range(20)]
    with answering(compiler.COMMAND) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        compiler._put([tuple(row) for row in rows], child.stdin)
        stop_in_the_middle(child)
        assert marshal.load(child.stdout) == tuple(compiled(rows))


def test_search_text_is_whole() -> None:
    given = [Given(1, b"Subject: x\r\n\r\n" + b" ".join(b"%x" % n for n in range(20_000)), False)]
    with answering([*search_process.COMMAND, "0"]) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        search_maker.put(("index", [tuple(each) for each in given]), child.stdin)
        stop_in_the_middle(child)
        error, ([(_, words)], _, unread), _ = search_maker.get(child.stdout)
    assert (error, unread) == (None, [])
    [(_, same)] = making.index(given)[0]
    assert set(words.split()) == set(same.split())  # their order is another in each process
