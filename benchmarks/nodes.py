"""Two servers as one: start, failover, restart under load, push across, and what idling costs.

Everything runs on one machine, clients and balancer too; wall times are of a machine that does
nothing else only when nothing else runs.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import smtplib
import socket
import ssl
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from tests.balancer import Backend, balancing
from tests.nodes import PASSWORD, Installation, Node, nodes
from tests.running import descendants

SETTLE = 12.0  # seconds until PostgreSQL has counted what a start asked
TICK = os.sysconf("SC_CLK_TCK")
IDLE_SECONDS, QUICK_IDLE_SECONDS = 30.0, 10.0
PUSHES, QUICK_PUSHES = 200, 40
PUSH_GAP = 0.02  # seconds between two
CLIENTS, QUICK_CLIENTS = 10_000, 1_000
PROCESSES = 2  # that hold idle clients
ACCOUNTS = 50
SOURCES = 4  # addresses of clients: each has 28,000 ports
TARGETS = {
    "cold_start_s": 2.0,
    "failover_s": 1.0,
    "refused": 0,
    "push_p50_ms": 10.0,
    "push_p99_ms": 50.0,
    "idle_clients_mb": 500.0,
    "idle_node_mb": 150.0,
    "idle_node_cores": 0.01,
    "idle_node_queries_per_second": 5.0,
}


def run(quick: bool) -> dict[str, object]:
    """Measure one thing after the other."""
    with tempfile.TemporaryDirectory() as folder, _services(Path(folder)) as (dsn, weed):
        place = Path(folder) / "installation"
        place.mkdir()
        # "stop_delay": others need that long to see that a server is not ready
        installation = Installation.make(
            place, dsn, weed, MAILSERVER_SERVER__STOP_DELAY="1", **compiled(Path(folder))
        )
        installation.populate(*(f"u{number}" for number in range(ACCOUNTS)))
        found: dict[str, Any] = dict(_cold_start(installation))
        found |= _alone(installation, dsn, quick)
        with nodes(installation, "a", "b") as (a, b):
            found |= _pushes(a, b, QUICK_PUSHES if quick else PUSHES)
            found |= _restart(a, b)
            found["failover_s"] = _failover(a, b)
    found["targets"] = TARGETS
    found["missed"] = sorted(name for name, most in TARGETS.items() if found[name] > most)
    return found


def compiled(folder: Path) -> dict[str, str]:
    """Return the environment of an installation: modules are compiled, as they are in the image.

    To compile them at each start would take half a second of CPU, and memory that is left over.
    """
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


@contextlib.contextmanager
def _services(folder: Path) -> Iterator[tuple[str, SeaweedFS]]:
    """Run PostgreSQL and SeaweedFS, each a process that this one waits for."""
    postgres, seaweedfs = Postgres(folder / "postgres"), SeaweedFS(folder / "seaweedfs")

    async def start() -> None:
        await asyncio.gather(postgres.start(), seaweedfs.start())

    async def stop() -> None:
        await asyncio.gather(postgres.stop(), seaweedfs.stop())

    with asyncio.Runner() as runner:
        runner.run(start())
        try:
            yield postgres.dsn(), seaweedfs
        finally:
            runner.run(stop())


def _cold_start(installation: Installation) -> dict[str, float]:
    """Return the seconds from the start of the program until it is ready, the best of five."""
    times, used = [], []
    for number in range(5):
        port = _free_port()
        node = Node(installation, f"start{number}", {"MAILSERVER_LISTENERS__HTTP__PORT": str(port)})
        began = time.monotonic()
        node.launch()
        try:
            while not _is_ready(port):
                time.sleep(0.01)
            times.append(time.monotonic() - began)
            used.append(sum(_cpu(node).values()))
            node.wait()
        finally:
            node.close()
    return {"cold_start_s": round(min(times), 2), "cold_start_cpu_s": round(min(used), 2)}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _alone(installation: Installation, dsn: str, quick: bool) -> dict[str, Any]:
    """Measure a node that nobody talks to, and then one to which many only listen."""
    seconds = QUICK_IDLE_SECONDS if quick else IDLE_SECONDS
    clients = QUICK_CLIENTS if quick else CLIENTS
    with nodes(installation, "idle") as (node,):
        time.sleep(SETTLE)
        queries, cpu = _queries(dsn), _cpu(node)
        time.sleep(seconds)
        cores, asked = _cores(node, cpu, seconds), _queries(dsn) - queries
        found = {
            "idle_node_mb": _memory(node)["rss"],
            "idle_node_proportional_mb": _memory(node)["pss"],
            "idle_node_cores": cores,
            "idle_node_queries_per_second": round(asked / seconds, 1),
            "idle_clients": clients,
        }
        with _idle_clients(node, clients):
            found["idle_clients_mb"] = _memory(node)["pss"]
            cpu = _cpu(node)
            time.sleep(seconds)
            found["idle_clients_cores"] = _cores(node, cpu, seconds)
    return found


def _queries(dsn: str) -> int:
    """Return how many transactions there have been."""

    async def ask() -> int:
        connection = await asyncpg.connect(dsn)
        number: int = await connection.fetchval(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        )
        await connection.close()
        return number

    return asyncio.run(ask())


def _processes(node: Node) -> list[int]:
    assert node.process is not None
    return [node.process.pid, *descendants(node.process.pid)]


def _cpu(node: Node) -> dict[int, float]:
    """Return the CPU seconds of the processes of a node."""
    used = {}
    for pid in _processes(node):
        with contextlib.suppress(FileNotFoundError):  # it has ended since
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used[pid] = (int(fields[11]) + int(fields[12])) / TICK
    return used


def _cores(node: Node, before: dict[int, float], seconds: float) -> float:
    """Return the CPU used since, of processes that were there before too."""
    now = _cpu(node)
    used = sum(now[pid] - before[pid] for pid in before.keys() & now.keys())
    return round(used / seconds, 4)


def _memory(node: Node) -> dict[str, float]:
    """Return MB of a node by kind."""
    total = {"rss": 0, "pss": 0}
    for pid in _processes(node):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            kind = line.split(":")[0].lower()
            if kind in total:
                total[kind] += int(line.split()[1])
    return {kind: round(kilobytes / 1000, 1) for kind, kilobytes in total.items()}


@contextlib.contextmanager
def _idle_clients(node: Node, count: int) -> Iterator[None]:
    """Have clients that wait in IDLE, in processes of their own."""
    context = multiprocessing.get_context("spawn")
    ready, end = context.Semaphore(0), context.Event()
    share = count // PROCESSES
    held = [
        context.Process(
            target=hold,
            args=(node.port("imaps"), str(node.installation.ca), number, share, ready, end),
        )
        for number in range(PROCESSES)
    ]
    for process in held:
        process.start()
    try:
        for _ in held:
            if not ready.acquire(timeout=900):
                raise RuntimeError("the clients did not get in")
        yield
    finally:
        end.set()
        for process in held:
            process.join()


def hold(port: int, ca: str, number: int, count: int, ready: Any, end: Any) -> None:
    """Log in by TLS so many times, select INBOX, wait in IDLE until told to end."""
    context = ssl.create_default_context(cafile=ca)
    clients = []
    for each in range(count):
        plain = socket.create_connection(
            ("127.0.0.1", port), 120, source_address=(f"127.0.0.{2 + each % SOURCES}", 0)
        )
        client = context.wrap_socket(plain, server_hostname="localhost")
        login = f"u{(number + PROCESSES * each) % ACCOUNTS}@example.test"
        _until(client, b"* OK")
        for command, answer in (
            (f'a LOGIN {login} "{PASSWORD}"', b"a OK"),
            ("b SELECT INBOX", b"b OK"),
            ("c IDLE", b"+ "),
        ):
            client.sendall(command.encode() + b"\r\n")
            _until(client, answer)
        clients.append(client)
    ready.release()
    end.wait()
    for client in clients:
        client.close()


def _until(client: ssl.SSLSocket, answer: bytes) -> None:
    """Read lines until the last one begins like that."""
    said = b""
    while not (said.endswith(b"\n") and said.splitlines()[-1].startswith(answer)):
        octets = client.recv(65536)
        if not octets:
            raise RuntimeError(f"the server closed the connection after {said!r}")
        said += octets


def _pushes(a: Node, b: Node, count: int) -> dict[str, float]:
    """Deliver at one node; return when a client in IDLE at the other hears, after the 250."""
    times, late = [], []
    with (
        b.mailbox("u0@example.test") as client,
        client.idling(),
        smtplib.SMTP("127.0.0.1", a.port("smtp"), timeout=60) as sender,
        ThreadPoolExecutor(1) as waiting,
    ):
        for number in range(count):
            heard = waiting.submit(client.hear, b" EXISTS")
            text = f"Subject: {number}\r\n\r\nx\r\n"
            sender.sendmail("c@example.org", ["u0@example.test"], text)
            committed = time.monotonic()
            times.append(1000 * max(heard.result(60) - committed, 0.0))
            slept = time.monotonic()
            time.sleep(PUSH_GAP)
            late.append(1000 * (time.monotonic() - slept - PUSH_GAP))
    return {
        "push_p50_ms": round(statistics.median(times), 1),
        "push_p99_ms": round(statistics.quantiles(times, n=100)[98], 1),
        # how late a process gets the processor that only sleeps: above that nothing can be faster
        "machine_p50_ms": round(statistics.median(late), 1),
        "machine_p99_ms": round(statistics.quantiles(late, n=100)[98], 1),
    }


@dataclass
class Load:
    """Deliveries over connections that come one after the other."""

    port: int
    done: int = 0
    failures: list[str] = field(default_factory=list)
    ends: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Deliver until told to end."""
        while not self.ends.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as client:
                    client.sendmail("c@example.org", ["u1@example.test"], "Subject: x\r\n\r\nx\r\n")
                self.done += 1
            except (OSError, smtplib.SMTPException) as error:
                self.failures.append(repr(error))


def _restart(a: Node, b: Node) -> dict[str, Any]:
    """Stop and start one node behind a balancer under load; return what clients saw."""
    backends = [Backend(node.port("smtp"), node.port("http")) for node in (a, b)]
    # it comes back where it was
    b.values = {
        f"MAILSERVER_LISTENERS__{name.upper()}__PORT": str(port)
        for name, (_, port) in b.listeners.items()
    }
    with balancing(backends) as balancer:
        load = Load(balancer.port)
        threads = [threading.Thread(target=load.run) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        b.stop()
        b.start()
        time.sleep(1)
        load.ends.set()
        for thread in threads:
            thread.join()
    return {
        "restart_delivered": load.done,
        "refused": len(load.failures) + balancer.refused,
        "restart_failures": sorted(set(load.failures))[:5],
    }


def _failover(a: Node, b: Node) -> float:
    """Kill a node; return the seconds until a client of it is served again by the other."""
    backends = [Backend(node.port("imaps"), node.port("http")) for node in (b, a)]
    assert b.process is not None
    with balancing(backends) as balancer, contextlib.ExitStack() as stack:
        through = Node(b.installation, "through", listeners={"imaps": ("127.0.0.1", balancer.port)})
        client = through.mailbox("u0@example.test")  # the first turn is b's
        stack.callback(client.shutdown)
        for pid in _processes(b):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        b.process.wait()
        began = time.monotonic()
        while True:
            with contextlib.suppress(OSError, AssertionError, client.abort, client.error):
                again = through.mailbox("u0@example.test")
                assert again.search(None, "ALL")[0] == "OK"
                break
        took = time.monotonic() - began
        again.logout()
    return round(took, 2)


if __name__ == "__main__":
    print(json.dumps(run(quick=False), indent=2))
