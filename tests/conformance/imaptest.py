"""How imaptest is run: one process a run, with a time limit, never left behind."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.running import RunningServer


@dataclass(frozen=True)
class Imaptest:
    """The program and the folder of its scripts, as `IMAPTEST` and `IMAPTEST_TESTS` name them."""

    program: Path
    scripts: Path
    password: str  # of all accounts

    @classmethod
    def found(cls, password: str) -> "Imaptest":
        """Return what the environment names; the test is skipped without it."""
        program = shutil.which(os.environ.get("IMAPTEST", "imaptest"))
        scripts = os.environ.get("IMAPTEST_TESTS", "")
        if program is None or not Path(scripts, "default.mbox").is_file():
            pytest.skip("set IMAPTEST to the program and IMAPTEST_TESTS to the folder src/tests")
        return cls(Path(program), Path(scripts).resolve(), password)

    def names(self) -> set[str]:
        """Return the names of the scripts."""
        return {path.name for path in self.scripts.iterdir() if path.is_file() and not path.suffix}

    def run(
        self, server: RunningServer, folder: Path, *arguments: str, limit: float
    ) -> "subprocess.CompletedProcess[str]":
        """Run it against the server; its raw logs, if it is told to write any, go to `folder`."""
        host, port = server.address("imap")
        return subprocess.run(
            [self.program, f"host={host}", f"port={port}", f"pass={self.password}", *arguments],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=limit, check=False,
        )  # fmt: skip
