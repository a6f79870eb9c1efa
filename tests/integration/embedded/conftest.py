"""Hosts: other processes that run the embedded services, as other users too."""

import json
import os
import select
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mailserver.runtime.embedded import ports

ROOT = Path(__file__).parents[3]
PACKAGES = sysconfig.get_path("purelib")


@dataclass
class Host:
    """A running host.py and what it said."""

    process: "subprocess.Popen[str]"
    facts: dict[str, Any]

    def end(self) -> int:
        """Ask it to stop everything; return its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(60)


HostFactory = Callable[..., Host]


@pytest.fixture
def start_host() -> Iterator[HostFactory]:
    """Start hosts, and kill those that are left at the end of the test."""
    started: list[subprocess.Popen[str]] = []
    directories: set[Path] = set()

    def start(
        directory: Path,
        *services: str,
        python: str = sys.executable,
        user: int | None = None,
        packages: tuple[str, ...] = (),
    ) -> Host:
        path = os.pathsep.join((*packages, str(ROOT), PACKAGES))
        process = subprocess.Popen(
            [python, str(Path(__file__).with_name("host.py")), str(directory), *services],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env={"PATH": os.defpath, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            user=user,
            group=None if user is None else 65534,
            extra_groups=None if user is None else [],
        )
        started.append(process)
        directories.add(directory)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"host ended with {process.wait(10)}\n{logs(directory)}"
        return Host(process, json.loads(line))

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()
    for directory in directories:
        remove_sockets(directory)


def logs(directory: Path) -> str:
    """Return the ends of what the services below `directory` said, which the tests remove."""
    return "\n".join(
        f"--- {path}\n{path.read_text(errors='replace')[-4000:]}"
        for pattern in ("*/*.log", "*/log/*.log.*")
        for path in sorted(directory.glob(pattern))
    )


def remove_sockets(directory: Path) -> None:
    """Remove what a killed SeaweedFS leaves in /tmp."""
    chosen = ports.load(directory / "seaweedfs" / "ports.json")
    for path in [] if chosen is None else ports.sockets(chosen):
        path.unlink(missing_ok=True)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can reach, which pytest's own are not when root runs it."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="mailserver-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def wait_gone(pids: list[int], seconds: float) -> list[int]:
    """Wait until the processes have ended; return those that have not."""
    left = []
    deadline = time.monotonic() + seconds
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        patience = max(0.0, deadline - time.monotonic())
        if not select.select([descriptor], [], [], patience)[0]:
            left.append(pid)
        os.close(descriptor)
    return left


def status_of(pid: int, field: str) -> str:
    """Return a field of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    raise KeyError(field)


@pytest.fixture
def gone() -> Callable[[list[int], float], list[int]]:
    """Give tests wait_gone; a conftest cannot be imported."""
    return wait_gone


@pytest.fixture
def process_status() -> Callable[[int, str], str]:
    """Give tests status_of; a conftest cannot be imported."""
    return status_of
