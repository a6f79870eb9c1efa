"""Several workers as one server: what a client sees when they are killed, replaced and stopped."""

import asyncio
import contextlib
import imaplib
import json
import os
import re
import signal
import smtplib
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.program.conftest import (
    PATIENCE,
    Program,
    Start,
    hold_descendants,
    start_dev,
    wait_gone,
)
from tests.running import workers_of

WORKERS = 3
MANY = 200  # connections, by which each worker has one unless something is wrong
MESSAGE = b"From: carol@example.org\r\nTo: alice@example.test\r\nSubject: %d\r\n\r\nhello\r\n"


@pytest.fixture
def node(start: Start, tmp_path: Path) -> Iterator[Program]:
    program, _ = start_dev(start, tmp_path / "data", MAILSERVER_SERVER__WORKERS=str(WORKERS))
    yield program
    if program.process.poll() is None:
        assert program.stop() == 0


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as opened:
        yield opened


def workers(program: Program) -> list[int]:
    """Return the pids of its workers."""
    return workers_of(program.process.pid)


def port(program: Program, name: str) -> int:
    number: int = program.document["listeners"][name][1]
    return number


def wait_for_line(program: Program, text: str, times: int = 1) -> None:
    """Wait until the log has said something."""
    deadline = threading.Event()
    for _ in range(PATIENCE * 50):
        if program.errors.read_text().count(text) >= times:
            return
        deadline.wait(0.02)  # a file announces nothing
    raise AssertionError(f"no {text!r} in {program.errors.read_text()}")


@dataclass
class Load:
    """Connections that come one after the other, several at a time, until `ends`."""

    port: int
    done: int = 0
    failures: list[str] = field(default_factory=list)
    ends: threading.Event = field(default_factory=threading.Event)

    def _one(self, number: int) -> None:
        with smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE) as client:
            client.sendmail("carol@example.org", ["alice@example.test"], MESSAGE % number)

    def _many(self) -> None:
        while not self.ends.is_set():
            try:
                self._one(self.done)
                self.done += 1
            except (OSError, smtplib.SMTPException) as error:
                self.failures.append(repr(error))

    @contextlib.contextmanager
    def running(self, threads: int = 4) -> Iterator["Load"]:
        """Go on for the time of a block."""
        running = [threading.Thread(target=self._many) for _ in range(threads)]
        for thread in running:
            thread.start()
        try:
            yield self
        finally:
            self.ends.set()
            for thread in running:
                thread.join()


def until_metric(program: Program, name: str, value: float) -> None:
    """Wait until a metric has come to a value, and not beyond.

    What a worker counted a moment ago is missing where it does not answer within a second.
    """
    deadline = time.monotonic() + PATIENCE
    while (found := metric(program, name)) != value:
        assert found < value, name
        assert time.monotonic() < deadline, f"{name} stays {found}"


def metric(program: Program, name: str) -> float:
    """Ask for a metric."""
    url = f"http://127.0.0.1:{port(program, 'http')}/metrics"
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        match = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert match, name
    return float(match[1])


@contextlib.contextmanager
def logged_in(program: Program) -> Iterator[imaplib.IMAP4_SSL]:
    account = program.document["accounts"][0]
    context = ssl.create_default_context(cafile=program.document["ca"])
    client = imaplib.IMAP4_SSL("127.0.0.1", port(program, "imaps"), ssl_context=context)
    try:
        client.login(account["login"], account["password"])
        yield client
    finally:
        client.shutdown()


def total(program: Program) -> int:
    """Return how many messages there are."""
    with logged_in(program) as client:
        count = client.select("INBOX")[1][0]
        assert count is not None
        return int(count)


def test_every_worker_serves_and_they_count_together(node: Program) -> None:
    pids = workers(node)
    assert len(pids) == WORKERS
    load = Load(port(node, "smtp"))
    with load.running():
        while load.done < 60 and not load.failures:
            load.ends.wait(0.01)
    assert load.failures == []
    until_metric(node, "mailserver_messages_received_total", load.done)
    assert metric(node, "mailserver_workers") == WORKERS
    used = [cpu_time(pid) for pid in pids]
    assert all(time > 0 for time in used)
    assert total(node) == load.done


def test_metrics_of_some_workers_are_not_taken_for_those_of_all(node: Program) -> None:
    node.process.send_signal(signal.SIGSTOP)  # who adds them up
    try:
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            metric(node, "mailserver_workers")
        caught.value.close()
    finally:
        node.process.send_signal(signal.SIGCONT)
    assert metric(node, "mailserver_workers") == WORKERS


def cpu_time(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_worker_that_dies_harms_no_other_and_is_replaced(
    node: Program, stack: contextlib.ExitStack
) -> None:
    victim = workers(node)[0]
    clients = clients_of_all(node, stack)
    load = Load(port(node, "smtp"))
    with load.running():
        while load.done < 20:
            load.ends.wait(0.01)
        os.kill(victim, signal.SIGKILL)
        after = load.done
        while load.done < after + 60:  # new connections are served at once, by others
            load.ends.wait(0.01)
        wait_for_line(node, "worker ended, starting another")
    # at most what was under way in the worker that was killed
    assert len(load.failures) <= 4, load.failures
    for client, pid in clients.items():
        if pid != victim:
            assert client.noop()[0] == "OK"
        else:
            with pytest.raises((OSError, imaplib.IMAP4.abort)):
                client.noop()
    while len(workers(node)) < WORKERS or metric(node, "mailserver_workers") < WORKERS:
        load.ends.wait(0.01)
    assert victim not in workers(node)
    assert metric(node, "mailserver_worker_restarts_total") == 1
    # what the killed worker counted still counts, but for its last seconds
    assert metric(node, "mailserver_messages_received_total") > 0


def clients_of_all(node: Program, stack: contextlib.ExitStack) -> dict[imaplib.IMAP4_SSL, int]:
    """Log in until each worker has somebody; return the clients, and the pids of their workers."""
    clients: dict[imaplib.IMAP4_SSL, int] = {}
    while set(clients.values()) != set(workers(node)):  # the kernel sends them where it likes
        assert len(clients) < MANY
        client = stack.enter_context(logged_in(node))
        clients[client] = served_by(client, node)
    assert len(set(clients.values())) == WORKERS
    return clients


def served_by(client: imaplib.IMAP4_SSL, node: Program) -> int:
    """Return the pid of the worker at the other end of a connection."""
    ends = [f":{client.sock.getpeername()[1]:04X}", f":{client.sock.getsockname()[1]:04X}"]
    inode = None
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        cells = line.split()
        if [cell[-5:] for cell in cells[1:3]] == ends:  # local and remote port
            inode = cells[9]
    for pid in workers(node):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if str(descriptor.readlink()) == f"socket:[{inode}]":
                    return pid
    raise AssertionError("nobody has the connection")


def test_sighup_replaces_all_and_refuses_nobody(node: Program) -> None:
    before = set(workers(node))
    load = Load(port(node, "smtp"))
    with load.running():
        while load.done < 20:
            load.ends.wait(0.01)
        node.process.send_signal(signal.SIGHUP)
        wait_for_line(node, "reloaded")
        after = load.done
        while load.done < after + 20:
            load.ends.wait(0.01)
    assert load.failures == []
    until_metric(node, "mailserver_messages_received_total", load.done)
    for pid in before:
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            wait_gone([os.pidfd_open(pid)])
    assert len(workers(node)) == WORKERS
    assert total(node) == load.done


def test_tls_begins_on_port_465_however_soon_the_client_speaks(node: Program) -> None:
    """The hello of TLS may be there before the conversation has begun."""
    context = ssl.create_default_context(cafile=node.document["ca"])
    for _ in range(30):
        with (
            socket.create_connection(tuple(node.document["listeners"]["submissions"]), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            assert client.recv(100).startswith(b"220 ")


def test_a_change_is_told_to_the_clients_of_other_workers(
    node: Program, stack: contextlib.ExitStack
) -> None:
    clients = {pid: client for client, pid in clients_of_all(node, stack).items()}
    for client in clients.values():
        client.select("INBOX")
        client.send(b"x IDLE\r\n")
        assert client.readline().startswith(b"+")
    with smtplib.SMTP("127.0.0.1", port(node, "smtp"), timeout=PATIENCE) as sender:
        sender.sendmail("carol@example.org", ["alice@example.test"], MESSAGE % 1)
    for client in clients.values():
        assert client.readline() == b"* 1 EXISTS\r\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_all(node: Program, number: signal.Signals) -> None:
    descriptors = hold_descendants(node.process.pid)
    assert len(descriptors) >= WORKERS + 2
    with logged_in(node) as client:
        assert node.stop(number) == 0
        wait_gone(descriptors)
        with pytest.raises((OSError, imaplib.IMAP4.abort)):
            client.noop()


def test_nothing_is_left_of_a_server_that_is_killed(node: Program) -> None:
    descriptors = hold_descendants(node.process.pid)
    node.process.kill()
    node.process.wait()
    wait_gone(descriptors)


def test_a_worker_that_cannot_start_ends_the_server_with_one_line(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_text("no key")
    program = start(
        tmp_path,
        *("dev", "--data-dir", str(tmp_path / "data"), "--ports", "free"),
        MAILSERVER_SERVER__WORKERS="2",
        MAILSERVER_TLS__KEY=str(tmp_path / "key.pem"),
    )
    assert program.process.wait(PATIENCE) == 3
    lines = [
        line for line in program.errors.read_text().splitlines() if line.startswith("mailserver:")
    ]
    assert len(lines) == 1
    assert "cannot use certificate" in lines[0]


def test_a_reload_reads_the_configuration_and_keeps_on_when_it_is_wrong(
    start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "mailserver.toml"
    off = "".join(
        f"[listeners.{name}]\nenabled = false\n" for name in ("submissions", "imaps", "https")
    )
    ports = "".join(
        f"[listeners.{name}]\nport = 0\n" for name in ("smtp", "submission", "imap", "http")
    )
    text = f'[embedded]\nenabled = true\ndata_dir = "{tmp_path / "data"}"\n{off}{ports}'

    def write(server: str) -> None:
        new = file.with_suffix(".new")  # a reload that is under way must not read half of it
        new.write_text(f'[server]\n{server}\n[log]\nformat = "json"\n{text}')
        new.rename(file)

    write('hostname = "one.example.test"\nworkers = 1')
    program = start(tmp_path / "data", "serve", "--config", str(file))
    program.read_until('"serving"')
    assert greeting(program).startswith(b"220 one.example.test")
    assert len(workers(program)) == 1

    write('hostname = "two.example.test"\nworkers = 2')
    program.process.send_signal(signal.SIGHUP)
    program.read_until('"reloaded"')
    assert greeting(program).startswith(b"220 two.example.test")

    write("workers = -1")
    program.process.send_signal(signal.SIGHUP)
    line = json.loads(program.read_until('"not reloaded"').splitlines()[-1])
    assert "server.workers" in line["error"]
    assert greeting(program).startswith(b"220 two.example.test")

    write('hostname = "three.example.test"\nworkers = 1')
    program.process.send_signal(signal.SIGHUP)
    program.read_until('"reloaded"')
    for _ in range(8):  # also on the socket that has no worker of its own now
        assert greeting(program).startswith(b"220 three.example.test")

    write('hostname = "four.example.test"\nworkers = 1')
    program.process.send_signal(signal.SIGHUP)
    program.read_until('"reloading"')
    write('hostname = "five.example.test"\nworkers = 1')
    program.process.send_signal(signal.SIGHUP)  # while the one before is under way, or just after
    program.read_until('"reloaded"')
    program.read_until('"reloaded"')
    assert greeting(program).startswith(b"220 five.example.test")
    assert program.stop() == 0


def greeting(program: Program) -> bytes:
    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port(program, "smtp"))
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    return asyncio.run(ask())
