"""Programs run to their end, or on a terminal of their own."""

import asyncio
import fcntl
import os
import re
import struct
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

TIME_LIMIT = 120.0  # seconds
INSTALL_LIMIT = 600.0  # seconds; packages come from far away
_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78MDE])")


class ProgramFailed(AssertionError):
    """A program ended with an error, or not in time."""


async def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    given: bytes = b"",
    codes: Sequence[int] = (0,),
    limit: float = TIME_LIMIT,
) -> str:
    """Run a program to its end, which comes within `limit` seconds; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        cwd=folder,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(given), limit)
    except TimeoutError:
        process.kill()
        said, _ = await process.communicate()
        raise ProgramFailed(f"{command[0]} does not end\n{said.decode(errors='replace')}") from None
    text = said.decode(errors="replace")
    if process.returncode not in codes:
        raise ProgramFailed(f"{command[0]} ended with {process.returncode}\n{text}")
    return text


async def install(folder: Path) -> None:
    """Install the packages that the script in a folder needs, as its lock file names them."""
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    await run(["npm", "ci", *options, "--fetch-retries=5"], folder=folder, limit=INSTALL_LIMIT)


def make_deliverer(home: Path) -> tuple[Path, Path]:
    """Write a program that files a message from its input; return it and the folder it fills."""
    mails = home / "mails"
    mails.mkdir()
    deliver = home / "deliver"
    deliver.write_text(f'#!/bin/sh\ncat >"$(mktemp {mails}/XXXXXX)"\n')
    deliver.chmod(0o700)
    return deliver, mails


class Terminal:
    """A program on a terminal of 100 columns and 40 lines; what it draws is kept."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self._process = process
        self._master = master
        self._drawn = bytearray()
        self._more = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(master, self._read)

    @classmethod
    async def open(
        cls, command: Sequence[str | Path], *, home: Path, environment: Mapping[str, str]
    ) -> "Terminal":
        """Start a program on a new terminal."""
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        os.set_blocking(master, False)
        try:
            process = await asyncio.create_subprocess_exec(
                "setsid", "--ctty", "--wait", *command,
                stdin=slave, stdout=slave, stderr=slave, cwd=home,
                env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "HOME": str(home),
                     **environment},
            )  # fmt: skip
        finally:
            os.close(slave)
        return cls(process, master)

    def _read(self) -> None:
        try:
            octets = os.read(self._master, 65536)
        except OSError:  # how a terminal without a program ends
            octets = b""
        if not octets:
            self._loop.remove_reader(self._master)
        self._drawn += octets
        self._more.set()

    @property
    def drawn(self) -> str:
        """All that was drawn since it was last looked at, without the escape sequences."""
        return _ESCAPES.sub(b"", bytes(self._drawn)).decode(errors="replace")

    async def shows(self, text: str) -> None:
        """Wait until a text is drawn; what was drawn up to now is forgotten then."""
        try:
            async with asyncio.timeout(TIME_LIMIT):
                while text not in self.drawn:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise ProgramFailed(f"does not show {text!r}\n{self.drawn}") from None
        self._drawn.clear()

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    async def ends(self) -> int:
        """Wait until the program ends; return its exit code."""
        try:
            return await asyncio.wait_for(self._process.wait(), TIME_LIMIT)
        except TimeoutError:
            raise ProgramFailed(f"does not end\n{self.drawn}") from None

    async def close(self) -> None:
        """End the program, whatever its state and without a good-bye, and the terminal."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._loop.remove_reader(self._master)
        os.close(self._master)
