"""Development servers as people start them, and the commands that work on them."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.running import descendants

PROGRAM = [sys.executable, "-m", "mailserver"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("MAILSERVER_")}
LAST_LINE = "Mail to other domains is caught"
PATIENCE = 120  # seconds until a test that waits is called failed


@dataclass
class Program:
    """A running `mailserver dev` or `serve`."""

    process: "subprocess.Popen[str]"
    directory: Path
    errors: Path

    @property
    def document(self) -> dict[str, Any]:
        """What dev.json says."""
        found: dict[str, Any] = json.loads((self.directory / "dev.json").read_text())
        return found

    def read_until(self, text: str) -> str:
        """Return standard output up to a line that contains `text`."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if text in line:
                return "".join(lines)
        self.process.wait(PATIENCE)
        raise AssertionError(f"ended with {self.process.returncode}: {self.errors.read_text()}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


Start = Callable[..., Program]


def hold_descendants(pid: int) -> list[int]:
    """Return pidfds of all descendants that have not ended, as some do at any time."""
    held = []
    for child in descendants(pid):
        with contextlib.suppress(ProcessLookupError):
            held.append(os.pidfd_open(child))
    return held


def wait_gone(descriptors: list[int]) -> None:
    """Wait until the processes of these pidfds have ended."""
    for descriptor in descriptors:
        ready, _, _ = select.select([descriptor], [], [], PATIENCE)
        os.close(descriptor)
        assert ready, "a process lives on"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start servers; those that are left at the end are killed."""
    started: list[Program] = []

    def launch(directory: Path, *arguments: str, **environment: str) -> Program:
        errors = tmp_path_factory.mktemp("errors") / "stderr"
        with errors.open("w") as stream:
            process = subprocess.Popen(
                [*PROGRAM, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env=CLEAN | environment,
            )
        program = Program(process, directory, errors)
        started.append(program)
        return program

    yield launch
    for program in started:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()
        assert program.process.stdout is not None
        program.process.stdout.close()


def start_dev(start: Start, directory: Path, **environment: str) -> tuple[Program, str]:
    """Start `mailserver dev` and return it with what it printed, once it is ready."""
    arguments = ("dev", "--data-dir", str(directory), "--ports", "free")
    program = start(directory, *arguments, **environment)
    return program, program.read_until(LAST_LINE)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        """Standard output, which must be JSON."""
        return json.loads(self.output)


def command(*arguments: str, stdin: str = "", **environment: str) -> Outcome:
    """Run a command of the program to its end."""
    done = subprocess.run(
        [*PROGRAM, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env=CLEAN | environment,
        timeout=PATIENCE,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
