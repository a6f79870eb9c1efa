"""One foreground child process: spawn, wait, stop, and a log file that stays bounded."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mailserver.errors import Unavailable
from mailserver.runtime.embedded import launch

log = logging.getLogger(__name__)

LOG_LIMIT = 8 << 20  # octets; one older file of at most about this size is kept beside it
LOG_CHECK = 5.0  # seconds between looks at the size
LOCK_POLL = 0.02  # seconds


class EmbeddedError(Unavailable):
    """An embedded service cannot run; the text says why and is meant for the operator."""


@dataclass(frozen=True, slots=True)
class User:
    """The uid and gid a service runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Program:
    """What to run and as whom."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    death_signal: signal.Signals  # sent by the kernel when our process dies
    directory: Path  # the working directory
    user: User | None = None  # None: the user we are
    needs: Sequence[tuple[Path, str]] = ()  # paths it must "read" or "write"


class Child:
    """A running program in a session of its own, so that Ctrl-C at the terminal reaches only us."""

    def __init__(self, program: Program, *, lock: int | None = None) -> None:
        """Spawn it now; `lock` is a file descriptor that it and its children keep open."""
        # The kernel sends the death signal when the thread that forked ends, not the process.
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("embedded services are started from the main thread")
        self._log = program.log
        self._log_start = _size(program.log)
        self._process = _spawn(program, lock)
        self.pid = self._process.pid
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        # A pidfd and not the loop's child watcher: the same under uvloop, no thread, no SIGCHLD.
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._reap)
        self._timer = self._loop.call_later(LOG_CHECK, self._check_log)
        self._trim: asyncio.Future[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return not self._exited.done()

    async def wait(self) -> int:
        """Return the exit code, negative for a signal, once it has ended."""
        return await asyncio.shield(self._exited)

    def send(self, number: signal.Signals) -> None:
        """Send a signal if it still runs; the pidfd rules out hitting a reused pid."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):  # ended, not reaped yet
                signal.pidfd_send_signal(self._pidfd, number)

    async def stop(self, steps: Sequence[tuple[signal.Signals, float]]) -> int:
        """Send each signal in turn, with seconds to wait after it, and SIGKILL in the end."""
        for number, seconds in steps:
            self.send(number)
            try:
                return await asyncio.wait_for(self.wait(), seconds)
            except TimeoutError:
                log.warning("service ignores signal", extra={"pid": self.pid, "signal": number})
        self.send(signal.SIGKILL)
        return await self.wait()

    def output(self, limit: int = 2000) -> str:
        """Return the end of what it has written to its log since it was spawned."""
        try:
            with self._log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                start = self._log_start if self._log_start <= end else 0
                file.seek(max(start, end - limit))
                return file.read(limit).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            return ""

    def _reap(self) -> None:
        code = self._process.poll()
        if code is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._timer.cancel()
        if not self._exited.done():
            self._exited.set_result(code)

    def _check_log(self) -> None:
        if not self.running:
            return
        if _size(self._log) > LOG_LIMIT and (self._trim is None or self._trim.done()):
            self._trim = self._loop.run_in_executor(None, trim_log, self._log)
        self._timer = self._loop.call_later(LOG_CHECK, self._check_log)


async def run_to_end(program: Program, *, lock: int) -> tuple[int, str]:
    """Run a program that ends by itself; return its exit code and the end of its output."""
    child = Child(program, lock=lock)
    try:
        code = await child.wait()
    except BaseException:
        await child.stop(())
        raise
    return code, child.output()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def trim_log(path: Path) -> None:
    """Move the content of a log to `<name>.1` and empty it in place, for its writers append."""
    try:
        older = path.with_name(path.name + ".1")
        descriptor = open_private(older, os.O_WRONLY | os.O_TRUNC)
        with path.open("rb") as source, os.fdopen(descriptor, "wb") as target:
            source.seek(max(0, _size(path) - LOG_LIMIT))
            shutil.copyfileobj(source, target)
    except OSError as error:  # a full disk is the likely one: then emptying matters all the more
        log.warning("older log not kept", extra={"path": str(path), "error": str(error)})
    os.truncate(path, 0)


def open_private(path: Path, flags: int) -> int:
    """Open a file that only we may read, refusing a symbolic link in its place."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _spawn(program: Program, lock: int | None) -> "subprocess.Popen[bytes]":
    user = None if program.user is None else (program.user.uid, program.user.gid)
    spec = launch.Spec(
        parent=os.getpid(),
        death_signal=program.death_signal,
        user=user,
        needs=[(str(path), how) for path, how in program.needs],
        argv=list(program.argv),
    )
    output = open_private(program.log, os.O_WRONLY | os.O_APPEND)
    try:
        return subprocess.Popen(  # noqa: S603 (our own program and arguments)
            [sys.executable, "-I", "-S", launch.__file__, json.dumps(spec)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=program.directory,
            env=dict(program.environment),
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,
            umask=0o077,
        )
    finally:
        os.close(output)


async def acquire_lock(path: Path, seconds: float) -> int | None:
    """Return a descriptor holding the lock on `path`, or None when others keep it that long.

    The descriptor is handed to the child, whose own children inherit it: the lock is free exactly
    when the last of them is gone. A pid in a file says less, for pids are used again.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    descriptor = open_private(path, os.O_RDWR)
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            if loop.time() >= deadline:
                break
            await asyncio.sleep(LOCK_POLL)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def make_directory(path: Path, mode: int) -> None:
    """Make a directory and its missing parents; folders that exist keep their modes."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)  # mkdir's own mode is cut by the umask


def write_private(path: Path, text: str) -> None:
    """Write a 0600 file in one step that also survives a power cut."""
    new = path.with_name(path.name + ".new")
    descriptor = open_private(new, os.O_WRONLY | os.O_TRUNC)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def processes_in(directory: Path) -> list[int]:
    """Return the processes whose working directory is `directory`, as far as we may see them."""
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
    return [pid for pid in pids if works_in(pid, directory)]


def works_in(pid: int, directory: Path) -> bool:
    """Whether a live process `pid` has `directory` as its working directory."""
    try:
        return os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(directory)
    except OSError:  # gone, a zombie, or not ours to look at
        return False
