"""The embedded SeaweedFS: keys, ports, crashes."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import stat
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from mailserver.runtime.embedded import ports, seaweedfs
from mailserver.runtime.embedded.process import EmbeddedError
from mailserver.runtime.embedded.seaweedfs import SeaweedFS, volumes
from mailserver.runtime.embedded.supervise import keep_running


def store(server: SeaweedFS) -> S3Store:
    return S3Store(
        server.bucket,
        endpoint=server.endpoint,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": "60s"},  # weed is slow on a busy machine
        retry_config={"max_retries": 0},
    )


@contextlib.asynccontextmanager
async def running(directory: Path, **options: Any) -> AsyncIterator[SeaweedFS]:
    server = SeaweedFS(directory, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def put(server: SeaweedFS, name: str, body: bytes) -> None:
    await obstore.put_async(store(server), name, body)


async def get(server: SeaweedFS, name: str) -> bytes:
    return bytes(await (await obstore.get_async(store(server), name)).bytes_async())


async def kill(server: SeaweedFS) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert await server.wait_exit() == -signal.SIGKILL


def http_status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def test_objects_keys_and_ports_are_kept(tmp_path: Path) -> None:
    body = random.Random(1).randbytes(50_000)
    async with running(tmp_path / "s3") as server:
        pid = server.pid
        await server.start()
        assert server.pid == pid
        await put(server, "a/b", body)
        facts = (server.access_key, server.secret_key, server.endpoint, server.ports)
        assert os.getsid(pid or 0) != os.getsid(0)
        assert stat.S_IMODE((server.directory / "keys.json").stat().st_mode) == 0o600
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
        assert (server.directory / "running").exists()
    assert server.pid is None
    assert not (server.directory / "running").exists()
    await server.stop()
    async with running(tmp_path / "s3") as server:
        assert (server.access_key, server.secret_key, server.endpoint, server.ports) == facts
        assert await get(server, "a/b") == body


async def test_nobody_reads_an_object_without_the_keys(tmp_path: Path) -> None:
    async with running(tmp_path / "s3") as server:
        await put(server, "secret", b"x" * 5000)
        filer = f"http://127.0.0.1:{server.ports.filer}/buckets/mail/secret"
        for url, expected in ((f"{server.endpoint}/mail/secret", 403), (filer, 401)):
            assert await asyncio.to_thread(http_status, url) == expected
        listening: dict[int, str] = {}
        async with asyncio.timeout(60):  # some of its parts listen only after S3 does
            while not set(listening) >= set(server.ports.all()):
                listening = await asyncio.to_thread(listeners, server.pid or 0)
        assert set(listening.values()) == {"0100007F"}
        assert set(listening) == set(server.ports.all())


def listeners(pid: int) -> dict[int, str]:
    """Return the TCP ports a process listens on, and the address in the form of /proc/net/tcp."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(entry))
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                found[int(port, 16)] = address
    return found


async def write(server: SeaweedFS, worker: int, acked: dict[str, bytes]) -> None:
    rng = random.Random(worker)
    target = store(server)
    for number in range(100_000):
        name, body = f"{worker}/{number}", rng.randbytes(rng.randint(1, 30_000))
        try:
            await obstore.put_async(target, name, body)
        except (OSError, obstore.exceptions.BaseError):
            return
        acked[name] = body


@pytest.mark.faults
async def test_a_killed_server_is_restarted_and_no_acknowledged_object_is_lost(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "s3") as server:
        restarted = asyncio.Event()
        acked: dict[str, bytes] = {}
        endpoint = server.endpoint

        async def on_restart() -> None:
            restarted.set()

        keeper = asyncio.create_task(keep_running(server, on_restart))
        writers = [asyncio.create_task(write(server, n, acked)) for n in range(4)]
        async with asyncio.timeout(120):
            while len(acked) < 200:
                await asyncio.sleep(0.01)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.gather(*writers)
        await asyncio.wait_for(restarted.wait(), 120)
        assert server.endpoint == endpoint
        assert len(acked) >= 200
        for name, body in acked.items():
            assert await get(server, name) == body, name
        await server.stop()
        await asyncio.wait_for(keeper, 60)


@pytest.mark.faults
async def test_a_torn_index_is_rebuilt_after_an_unclean_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = SeaweedFS(tmp_path / "s3")
    await server.start()
    bodies = {str(n): random.Random(n).randbytes(3000) for n in range(50)}
    for name, body in bodies.items():
        await put(server, name, body)
    await kill(server)
    await server.stop()
    indexes = list(server.data.glob("mail_*.idx"))
    for path in indexes:  # as a power cut leaves it: the volume is whole, the index is not
        os.truncate(path, path.stat().st_size // 2 + 3)
    assert indexes
    async with running(tmp_path / "s3") as server:
        for name, body in bodies.items():
            assert await get(server, name) == body, name
    assert "seaweedfs was not stopped cleanly" in caplog.messages
    assert "volume not repaired" not in caplog.messages


@pytest.mark.faults
async def test_volumes_that_were_not_written_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "s3") as server:
        await put(server, "x", b"x" * 1000)
    before = volumes(server.data)
    old = {name: looks for name, looks in before.items() if name.startswith("mail_")}
    assert old
    # A crash in which only the other volumes changed.
    for name in before.keys() - old.keys():
        before[name] = [0, 0, 0, 0]
    (server.directory / "running").write_text(json.dumps(before))
    index = server.data / f"{min(old)}.idx"
    identity = index.stat().st_mtime_ns
    async with running(tmp_path / "s3") as server:
        assert await get(server, "x") == b"x" * 1000
        assert index.stat().st_mtime_ns == identity


@pytest.mark.faults
@pytest.mark.parametrize("name", ["s3", "master", "volume"])
async def test_a_port_that_another_program_took_is_replaced(tmp_path: Path, name: str) -> None:
    async with running(tmp_path / "s3") as server:
        await put(server, "x", b"kept")
        before = server.ports
        await kill(server)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", getattr(before, name)))
            other.listen()
            await server.start()
            after = server.ports
            assert getattr(after, name) != getattr(before, name)
            assert await get(server, "x") == b"kept"
            await put(server, "y", b"new")
    async with running(tmp_path / "s3") as server:
        assert server.ports == after
        assert await get(server, "y") == b"new"


async def test_a_volume_that_cannot_be_served_is_reported_and_the_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "s3") as server:
        await put(server, "x", b"kept")
    (server.data / "mail_999.dat").write_bytes(b"\xff" * 100)

    class Hopeless(SeaweedFS):
        """Has no time left for the last question: by then the others have been answered."""

        async def _ask_master(self, path: str) -> int | None:
            if path.endswith("=999"):
                monkeypatch.setattr(seaweedfs, "MOUNT_TIMEOUT", 0.0)
            return await super()._ask_master(path)

    monkeypatch.setattr(seaweedfs, "MOUNT_TIMEOUT", 600.0)
    server = Hopeless(tmp_path / "s3")
    await server.start()
    assert await get(server, "x") == b"kept"
    await server.stop()
    (report,) = (r for r in caplog.records if r.message == "seaweedfs does not serve all volumes")
    assert vars(report)["unanswered"] == ["/dir/lookup?volumeId=999"]


async def test_given_ports_are_used_or_refused_with_a_reason(tmp_path: Path) -> None:
    fixed = ports.choose(None, random.SystemRandom(), *ports.fixed_range())
    with socket.socket() as other:
        other.bind(("127.0.0.1", fixed.filer))
        other.listen()
        server = SeaweedFS(tmp_path / "s3", ports=fixed)
        with pytest.raises(EmbeddedError, match=f"in use: {fixed.filer}$"):
            await server.start()
    async with running(tmp_path / "s3", ports=fixed, bucket="other") as server:
        assert server.endpoint == f"http://127.0.0.1:{fixed.s3}"
        await put(server, "x", b"1")


@contextlib.contextmanager
def in_the_way(path: Path) -> Iterator[None]:
    """Put something in the place of a socket that a server of any user cannot remove."""
    inside = path / "inside"
    inside.mkdir(parents=True)
    try:
        yield
    finally:
        inside.rmdir()
        path.rmdir()


async def test_ports_whose_sockets_cannot_be_made_are_replaced(tmp_path: Path) -> None:
    async with running(tmp_path / "s3") as server:
        await put(server, "x", b"kept")
        before = server.ports
    with in_the_way(ports.sockets(before)[0]):
        async with running(tmp_path / "s3") as server:
            assert server.ports.master_grpc != before.master_grpc
            assert server.ports.s3 == before.s3
            assert await get(server, "x") == b"kept"
        fixed = SeaweedFS(tmp_path / "other", ports=before)
        with pytest.raises(EmbeddedError, match=f"in the way .*-{before.master_grpc}.sock$"):
            await fixed.start()


class Unlucky(SeaweedFS):
    """A server in whose way somebody gets after it has looked, once."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        super().__init__(directory)
        self.seen: list[ports.SeaweedPorts] = []
        self._stack = stack

    def _choose_ports(self) -> None:
        super()._choose_ports()
        if not self.seen:
            self._stack.enter_context(in_the_way(ports.sockets(self.ports)[2]))
        self.seen.append(self.ports)


async def test_who_gets_in_the_way_during_the_start_is_avoided(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.ExitStack() as stack:
        server = Unlucky(tmp_path / "s3", stack)
        await server.start()
        await put(server, "x", b"1")
        await server.stop()
    first, second = server.seen
    assert first.filer_grpc != second.filer_grpc
    # seen at once, and not after the time that a start may take
    (report,) = (r for r in caplog.records if r.message == "seaweedfs is started again")
    assert vars(report)["error"].startswith("in the way of SeaweedFS")


async def test_a_start_that_hangs_is_tried_again_with_other_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(seaweedfs, "START_TIMEOUTS", (0.4, 120.0))
    server = SeaweedFS(tmp_path / "s3")
    starting = asyncio.create_task(server.start())
    async with asyncio.timeout(60):
        while server.pid is None:
            await asyncio.sleep(0.001)
    os.kill(server.pid, signal.SIGSTOP)
    before = server.ports
    with server.log.open("a") as log:
        log.write("what weed says")
    await starting
    assert not set(before.all()) & set(server.ports.all())
    await put(server, "x", b"1")
    await server.stop()
    (report,) = (r for r in caplog.records if r.message == "seaweedfs is started again")
    error = vars(report)["error"]
    assert "is not ready after 0 s (S3 answers None)" in error
    assert error.endswith("what weed says")


async def test_two_servers_on_one_directory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seaweedfs, "PREDECESSOR_TIMEOUT", 0.1)
    async with running(tmp_path / "s3") as server:
        with pytest.raises(EmbeddedError, match="already runs"):
            await SeaweedFS(tmp_path / "s3").start()
        await put(server, "x", b"1")


async def test_damaged_keys_are_named(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "keys.json").write_text("{")
    with pytest.raises(EmbeddedError, match=r"keys\.json is damaged"):
        await SeaweedFS(tmp_path / "s3").start()


async def test_a_killed_server_leaves_no_sockets_in_tmp(tmp_path: Path) -> None:
    server = SeaweedFS(tmp_path / "s3")
    await server.start()
    left = [f"/tmp/seaweedfs-filer-grpc-{server.ports.filer_grpc}.sock"]
    await kill(server)
    await server.stop()
    assert [path for path in left if os.path.lexists(path)] == []
