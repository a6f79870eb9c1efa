"""Filters and scanners of Debian, each a process on loopback with a folder of its own."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.running import free_port

START_TIMEOUT = 120.0  # seconds; the machine may be busy
LOOK = 0.05  # seconds between two attempts to connect
PATH = "/usr/sbin:/sbin:" + os.environ.get("PATH", "")


class Program:
    """One process that listens on a port or a socket; `address` is how engines write that."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Write what the program needs into its folder; return how it is started."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start it and wait until it accepts."""
        command = self.command()
        program = shutil.which(command[0], path=PATH)
        assert program is not None, f"{command[0]} is missing; tests/clients.sh installs it"
        with (self.directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=self.directory, env={"PATH": PATH, "LANG": "C"}, start_new_session=True,
            )  # fmt: skip
        async with asyncio.timeout(START_TIMEOUT):
            while not await self._accepts():
                assert self._process.poll() is None, self.output()
                await asyncio.sleep(LOOK)

    async def _accepts(self) -> bool:
        with contextlib.suppress(OSError):
            if self.address.startswith("unix:"):
                _, writer = await asyncio.open_unix_connection(self.address[5:])
            else:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return True
        return False

    def output(self) -> str:
        """Return what it printed."""
        return (self.directory / "output").read_text(errors="replace")

    async def stop(self) -> None:
        """End it, and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            await asyncio.to_thread(process.wait, 20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            await asyncio.to_thread(process.wait)

    def write(self, files: Mapping[str, str]) -> None:
        """Put files into its folder."""
        for name, text in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


class SpamdProgram(Program):
    """SpamAssassin without network tests."""

    def command(self) -> list[str]:
        return [
            "spamd", "-L", "-x", "-i", "127.0.0.1", "-p", str(self.port), "-s", "stderr",
            "--max-children", "1", "-u", "nobody",
        ]  # fmt: skip


class RspamdProgram(Program):
    """rspamd with its rules, and DNS that never answers."""

    def command(self) -> list[str]:
        self.write(
            {
                "rspamd.conf": f"""
                    .include "$CONFDIR/common.conf"
                    options {{
                        pidfile = "$RUNDIR/rspamd.pid";
                        disable_hyperscan = true;  # it compiles for a minute
                        filters = "chartable,dkim,regexp";
                        url_tld = "{self.directory}/suffixes";
                        tempdir = "{self.directory}";
                        dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }}
                        .include(try=true) "{self.directory}/options.inc"
                    }}
                    logging {{ type = "console"; level = "warning"; }}
                    worker "normal" {{ bind_socket = "{self.address}"; count = 1; }}
                """,
                "suffixes": "com\norg\ntest\n",
                "local/override.d/fuzzy_check.conf": "enabled = false;",
            }
        )
        for folder in ("db", "run", "log"):
            (self.directory / folder).mkdir(exist_ok=True)
        here = str(self.directory)
        variables = {"DBDIR": "db", "RUNDIR": "run", "LOGDIR": "log", "LOCAL_CONFDIR": "local"}
        return [
            "rspamd", "-f", "-i", "-c", f"{here}/rspamd.conf",
            *(f"--var={name}={here}/{folder}" for name, folder in variables.items()),
        ]  # fmt: skip
