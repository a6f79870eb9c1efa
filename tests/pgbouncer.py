"""PgBouncer in transaction mode before a PostgreSQL of the tests."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.running import free_port

START_TIMEOUT = 120.0  # seconds; the machine may be busy
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin"


class PgBouncer:
    """A pooler that runs for a block; `tests/clients.sh` installs the program."""

    def __init__(self, folder: Path, dsn: str, owner: Path, **settings: object) -> None:
        """Take the DSN of a database, and a file of the user that its server runs as."""
        program = shutil.which("pgbouncer", path=PATHS)
        if program is None:
            pytest.skip("pgbouncer is not installed")
        self._program = program
        self._folder = folder
        self._dsn = urlsplit(dsn)
        self._owner = owner.stat().st_uid
        self._settings = {"pool_mode": "transaction", "default_pool_size": 5} | settings
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """The DSN of the same database through the pooler."""
        user, password = self._dsn.username, self._dsn.password
        return f"postgresql://{user}:{password}@127.0.0.1:{self._port}{self._dsn.path}"

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self._folder / "pgbouncer.log").read_text()

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._folder.mkdir(exist_ok=True)
        place = {name: values[0] for name, values in parse_qs(self._dsn.query).items()}
        password = unquote(self._dsn.password or "")
        users, file = self._folder / "users", self._folder / "pgbouncer.ini"
        users.write_text(f'"{self._dsn.username}" "{password}"\n')
        lines = [
            "[databases]",
            f"* = host={place['host']} port={place['port']}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self._port}",
            "unix_socket_dir =",
            "auth_type = scram-sha-256",
            f"auth_file = {users}",
            *(f"{name} = {value}" for name, value in self._settings.items()),
        ]
        file.write_text("\n".join(lines) + "\n")
        log = self._folder / "pgbouncer.log"
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [*self._as_user(), self._program, str(file)], stdout=stream, stderr=stream
            )
        deadline = time.monotonic() + START_TIMEOUT
        while "process up" not in self.log:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self.log)

    def _as_user(self) -> list[str]:
        """It refuses to be root, who alone may enter the folders of these tests."""
        if os.geteuid() != 0:
            return []
        capability = "+dac_override"
        return [
            "setpriv",
            f"--reuid={self._owner}",
            "--clear-groups",
            f"--inh-caps={capability}",
            f"--ambient-caps={capability}",
        ]

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "PgBouncer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.stop()
