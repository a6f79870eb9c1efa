"""A whole server in a process of its own, as a user starts it, to be talked to or killed."""

import contextlib
import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mailserver.runtime.embedded.ports import fixed_range, is_free

START_TIMEOUT = 120.0  # seconds; the machine may be busy
STOP_TIMEOUT = 120.0


class ServerFailed(Exception):
    """The server ended, or did not become ready; the text is what it printed."""


class RunningServer:
    """`mailserver dev` on free ports in a folder that outlives it."""

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.log = directory.parent / f"{directory.name}.log"
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.info: dict[str, Any] = {}

    def start(self) -> None:
        """Start it and wait until all listeners accept."""
        stale = self.directory / "dev.json"
        stale.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "mailserver", "dev",
                    "--data-dir", str(self.directory), "--ports", "free",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment,
            )  # fmt: skip
        self.info = self._ready(stale)

    def _ready(self, path: Path) -> dict[str, Any]:
        assert self._process is not None
        exited = os.pidfd_open(self._process.pid)
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while time.monotonic() < deadline:
                with contextlib.suppress(FileNotFoundError):
                    info: dict[str, Any] = json.loads(path.read_text())
                    return info
                # the file appears by a rename, which nothing announces: look every 20 ms
                if select.select([exited], [], [], 0.02)[0]:
                    break
        finally:
            os.close(exited)
        raise ServerFailed(self.log.read_text(errors="replace")[-4000:])

    def stop(self) -> int:
        """Stop it as a user does, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(STOP_TIMEOUT)

    def kill(self) -> None:
        """Kill the server process without warning; what it started must end by itself."""
        assert self._process is not None
        children = self.children()
        self._process.kill()
        self._process.wait()
        for pid in children:
            wait_gone(pid)

    def close(self) -> None:
        """End it, whatever its state."""
        if self._process is not None and self._process.poll() is None:
            self.stop()

    @property
    def pid(self) -> int:
        """Return the pid of the server process."""
        assert self._process is not None
        return self._process.pid

    def address(self, listener: str) -> tuple[str, int]:
        """Return where a listener is."""
        host, port = self.info["listeners"][listener]
        return host, port

    def password(self, login: str) -> str:
        """Return the password of an account."""
        return next(str(a["password"]) for a in self.info["accounts"] if a["login"] == login)

    def children(self) -> list[int]:
        """Return the pids of what the server started."""
        return list(descendants(self.pid))

    def workers(self) -> list[int]:
        """Return the pids of its worker processes."""
        return workers_of(self.pid)

    def child(self, name: str) -> int:
        """Return the pid of the direct child whose program has that name."""
        for pid, parent, command in processes():
            if parent == self.pid and command == name:
                return pid
        raise ServerFailed(f"no {name} runs")

    def command(self, *arguments: str, codes: Sequence[int] = (0,)) -> str:
        """Run a `mailserver` command on the same data and return what it prints."""
        return run_command(*arguments, "--data-dir", str(self.directory), codes=codes)

    def fsck(self) -> list[Any]:
        """Recount everything, once a service that was killed answers again."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            report = json.loads(self.command("fsck", "--json", codes=(0, 1, 4)))
            if "differences" in report:
                differences: list[Any] = report["differences"]
                return differences
            if time.monotonic() > deadline:
                raise ServerFailed(str(report))


def run_command(*arguments: str, codes: Sequence[int] = (0,)) -> str:
    """Run a `mailserver` command and return its output; any other exit code is a failure."""
    done = subprocess.run(
        [sys.executable, "-m", "mailserver", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode not in codes:
        raise ServerFailed(f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def processes() -> Iterator[tuple[int, int, str]]:
    """Give (pid, parent, program) of every process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                text = (entry / "stat").read_text()
                name, _, rest = text.partition("(")[2].rpartition(")")
                state, parent = rest.split()[:2]
                if state != "Z":
                    yield int(entry.name), int(parent), name


def descendants(root: int) -> Iterator[int]:
    """Give the pids below a process."""
    children: dict[int, list[int]] = {}
    for pid, parent, _ in processes():
        children.setdefault(parent, []).append(pid)
    left = [root]
    while left:  # not by number: pids begin anew, and a child may have a smaller one
        below = children.get(left.pop(), [])
        left += below
        yield from below


def workers_of(root: int) -> list[int]:
    """Return the pids of the workers below a process."""
    return [pid for pid in descendants(root) if b"mailserver.app.worker" in command_line(pid)]


def command_line(pid: int) -> bytes:
    """Return the words that a process was started with; nothing once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def usage(pids: Iterable[int]) -> tuple[int, int]:
    """Return KiB of memory and open files of processes; nothing of those that have ended."""
    memory, files = 0, 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{pid}/status").read_text()
            resident = re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)
            memory += int(resident[1]) if resident else 0
            files += len(os.listdir(f"/proc/{pid}/fd"))
    return memory, files


def wait_gone(pid: int) -> None:
    """Wait until a process that is not ours has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([handle], [], [], 60)[0]:
            raise ServerFailed(f"process {pid} is an orphan that does not end")
    finally:
        os.close(handle)


_given: set[int] = set()


def free_port() -> int:
    """Return a port on which nobody listens, by TCP or UDP, on any address.

    It is none of those that the kernel gives to connections and to servers which do not care: one
    of them may be taken before it is used, and who connects to it too early may meet itself.
    """
    low, high = fixed_range()
    while True:
        port = low + secrets.randbelow(high - low + 1)
        if port not in _given and is_free(port) and _is_free_of_datagrams(port):
            _given.add(port)
            return port


def _is_free_of_datagrams(port: int) -> bool:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
        return True
