"""Two nodes on one PostgreSQL and one SeaweedFS, each behind proxies of its own."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from mailserver.tls import make_development_ca
from tests.chaos.proxy import Dial, Proxy
from tests.name_server import NameServer
from tests.pgbouncer import PgBouncer
from tests.running import descendants, run_command, usage, workers_of
from tests.smtp_peer import Peer

PASSWORD = "correct horse"
LOGINS = tuple(f"user{number}@example.test" for number in range(4))
LISTENERS = ("smtp", "submissions", "imaps", "http")
START_TIMEOUT = 120.0  # seconds; the machine may be busy


@dataclass
class Server:
    """One `mailserver serve`."""

    name: str
    directory: Path
    config: Path
    prefix: tuple[str, ...] = ()  # of its command line
    listeners: dict[str, tuple[str, int]] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None
    started: int = 0
    _log: asyncio.Task[None] | None = None

    @property
    def log(self) -> Path:
        """Return the file with everything that it has logged, in JSON."""
        return self.directory / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """Tell whether it has been started and not ended."""
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        """Start it and wait until it says where it listens."""
        self.listeners = {}  # another listener may get a port that one of them had
        self.process = await asyncio.create_subprocess_exec(
            *self.prefix, sys.executable, "-m", "mailserver", "serve", "--config", str(self.config),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, limit=2**20,
        )  # fmt: skip
        assert self.process.stdout is not None
        serving: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._log = asyncio.create_task(self._read_log(self.process.stdout, serving))
        self.listeners = await asyncio.wait_for(serving, START_TIMEOUT)
        self.started += 1

    def address(self, listener: str) -> tuple[str, int]:
        """Return where it listens; ConnectionRefusedError while it does not."""
        if not self.running or listener not in self.listeners:
            raise ConnectionRefusedError
        return self.listeners[listener]

    async def _read_log(
        self, output: asyncio.StreamReader, serving: "asyncio.Future[dict[str, Any]]"
    ) -> None:
        """Keep the log in a file; it must never wait for us."""
        with self.log.open("ab") as log:
            while line := await output.readline():
                log.write(line)
                if not serving.done() and b'"serving"' in line:
                    serving.set_result(json.loads(line)["listeners"])
        if not serving.done():
            serving.set_exception(RuntimeError(f"{self.name} ended at its start"))

    async def kill(self) -> None:
        """Kill it and all that it started, at once."""
        assert self.process is not None
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            send_signal(pid, signal.SIGKILL)
        await self._ended()

    async def stop(self) -> int:
        """Stop it as a platform does, and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return await self._ended()

    async def _ended(self) -> int:
        assert self.process is not None
        assert self._log is not None
        code = await asyncio.wait_for(self.process.wait(), START_TIMEOUT)
        await self._log
        return code

    def workers(self) -> list[int]:
        """Return the pids of its workers."""
        assert self.process is not None
        return workers_of(self.process.pid)

    def usage(self) -> dict[str, int]:
        """Return what its workers take: memory in KiB, and open files."""
        memory, files = usage(self.workers())
        return {"memory_kib": memory, "files": files}


@dataclass(kw_only=True)
class Node(Server):
    """A server of several on the same storage, and the two wires that it depends on."""

    database: Proxy
    s3: Proxy


class Servers(Protocol):
    """What clients need to know of those whom they talk to."""

    @property
    def nodes(self) -> Sequence[Server]:
        """Return all; a client takes any of them."""

    @property
    def ca(self) -> Path:
        """Return the certificate of who vouches for them."""


@dataclass
class Cluster:
    """The nodes, the services below them, and the server of somebody else."""

    nodes: tuple[Node, ...]
    postgres: Postgres
    seaweedfs: SeaweedFS
    peer: Peer
    names: NameServer
    ca: Path
    pooler: PgBouncer | None = None  # between the last node and PostgreSQL

    async def stop(self) -> None:
        """Stop everything, the nodes first."""
        for node in self.nodes:
            if node.running:
                assert await node.stop() == 0
            await node.database.stop()
            await node.s3.stop()
        if self.pooler is not None:
            self.pooler.stop()
        await self.peer.stop()
        self.names.stop()
        await asyncio.gather(self.postgres.stop(), self.seaweedfs.stop())

    def fsck(self) -> list[Any]:
        """Recount everything, and compare PostgreSQL with the bucket."""
        config = str(self.nodes[0].config)
        report = run_command("fsck", "--json", "--config", config, codes=(0, 1))
        differences: list[Any] = json.loads(report)["differences"]
        return differences


async def start_cluster(
    directory: Path,
    names_of_nodes: tuple[str, ...] = ("one", "two"),
    settings: Mapping[str, str] | None = None,
    *,
    pooled: bool = False,
) -> Cluster:
    """Start nodes with four accounts; mail to remote.test goes to a peer that keeps it.

    `settings` are of PostgreSQL. Credentials are in files, as a platform mounts them. With `pooled`
    the last node sees PostgreSQL only through a PgBouncer.
    """
    postgres = Postgres(directory / "postgres", settings=settings)
    seaweedfs = SeaweedFS(directory / "seaweedfs")
    peer = Peer()
    names = NameServer()
    _, _, peer_port, dns_port = await asyncio.gather(
        postgres.start(), seaweedfs.start(), peer.start(), names.start()
    )
    names.add("remote.test", "MX", "10 mx.remote.test.")
    names.add("mx.remote.test", "A", "127.0.0.1")
    tls = make_development_ca(directory / "tls", ["127.0.0.1"], datetime.now(UTC))
    common = common_settings(tls.certificate, tls.key, peer_port, dns_port)
    pooler = _pooler(directory, postgres) if pooled else None
    nodes = []
    for name in names_of_nodes:
        through = pooler if name == names_of_nodes[-1] else None
        database = Proxy(to_postgres(postgres) if through is None else _to_pooler(through))
        s3 = Proxy(_to_s3(seaweedfs))
        await asyncio.gather(database.start(), s3.start())
        config = directory / f"{name}.toml"
        secrets = {
            "url": dsn_through(postgres, database),
            "access_key": seaweedfs.access_key,
            "secret_key": seaweedfs.secret_key,
        }
        files = {key: directory / f"{name}.{key}" for key in secrets}
        for key, file in files.items():
            file.write_text(secrets[key])
        config.write_text(
            f"{common}\n[database]\nurl_file = {json.dumps(str(files['url']))}\n"
            f'[s3]\nendpoint = "http://127.0.0.1:{s3.port}"\nbucket = "mail"\n'
            f"access_key_file = {json.dumps(str(files['access_key']))}\n"
            f"secret_key_file = {json.dumps(str(files['secret_key']))}\n"
        )
        nodes.append(Node(name, directory, config, database=database, s3=s3))
    await asyncio.to_thread(run_command, "migrate", "--config", str(nodes[0].config))
    await asyncio.to_thread(make_accounts, directory, nodes[0].config)
    await asyncio.gather(*(node.start() for node in nodes))
    return Cluster(tuple(nodes), postgres, seaweedfs, peer, names, tls.ca, pooler)


def common_settings(
    certificate: Path, key: Path, peer_port: int, dns_port: int, drop_after: int = 2
) -> str:
    """Return the part of the configuration that all nodes share.

    The whole life of a body happens within seconds: copied at once, dropped from PostgreSQL soon.
    Nobody is told to come later because he sends too much: that would end the load.
    """
    listeners = "\n".join(f"[listeners.{name}]\nport = 0" for name in LISTENERS)
    unused = "\n".join(
        f"[listeners.{name}]\nenabled = false" for name in ("submission", "imap", "https")
    )
    return f"""
[server]
hostname = "mail.example.test"
workers = 1
grace = 5
secret_key = "{os.urandom(32).hex()}"
[tls]
certificate = {json.dumps(str(certificate))}
key = {json.dumps(str(key))}
[log]
format = "json"
[mover]
interval = 0.2
copy_after = 0
drop_after = {drop_after}
barrier_age = 0
[sending]
exempt = "{" ".join(LOGINS)}"
[antispam.limits]
connections_per_ip = 0
connections_per_network = 0
errors_per_ip = 0
messages_per_sender = 0
messages_per_recipient = 0
[dns]
servers = "127.0.0.1:{dns_port}"
[outbound]
port = {peer_port}
retry_first = 1
retry_longest = 2
{listeners}
{unused}
"""


def make_accounts(directory: Path, config: Path) -> None:
    """Make the domain and the accounts."""
    at = ("--config", str(config))
    run_command("domain", "add", "example.test", *at)
    accounts = directory / "accounts.csv"
    rows = "".join(f"{login},,{PASSWORD},,\n" for login in LOGINS)
    accounts.write_text(f"login,name,password,quota,aliases\n{rows}")
    run_command("account", "import", str(accounts), *at)


def dsn_through(postgres: Postgres, proxy: Proxy) -> str:
    """Return the DSN of a database behind a proxy."""
    parts = urlsplit(postgres.dsn())
    return (
        f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{proxy.port}{parts.path}"
        "?sslmode=disable"
    )


def to_postgres(postgres: Postgres) -> Dial:
    """Return what connects with PostgreSQL, wherever its socket is by then."""

    async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        query = parse_qs(urlsplit(postgres.dsn()).query)
        path = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        return await asyncio.open_unix_connection(path)

    return dial


def _pooler(directory: Path, postgres: Postgres) -> PgBouncer:
    pooler = PgBouncer(directory / "pooler", postgres.dsn(), postgres.data, default_pool_size=20)
    pooler.start()
    return pooler


def _to_pooler(pooler: PgBouncer) -> Dial:
    port = urlsplit(pooler.dsn).port

    async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port)

    return dial


def _to_s3(seaweedfs: SeaweedFS) -> Dial:
    async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", seaweedfs.ports.s3)

    return dial


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended since somebody looked."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
