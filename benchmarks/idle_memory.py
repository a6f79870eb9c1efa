"""Memory of the supervisor and one worker, without services: idle, and of idle IMAP clients.

The clients are logged in over TLS, each to an account of its own, have INBOX open and wait in IDLE.
"""

import json
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.nodes import compiled
from tests.running import RunningServer

TARGET = 150.0  # MB, resident
CLIENTS, QUICK_CLIENTS = 1000, 100
WARM = 40  # clients that come and go before
TARGET_KB = 45.0  # proportional, of one client
PASSWORD = "correct horse"


def run(quick: bool) -> dict[str, object]:
    """Start a server and read its memory, before clients come and while they are there."""
    clients = QUICK_CLIENTS if quick else CLIENTS
    with tempfile.TemporaryDirectory() as folder, _running(Path(folder) / "data") as server:
        idle = _memory(server)
        _make_accounts(server, Path(folder) / "accounts.csv", clients)
        for connection in list(_waiting(server, WARM)):
            connection.close()
        before = _memory(server)
        connections = list(_waiting(server, clients))
        each = (_memory(server)["pss"] - before["pss"]) / clients
        for connection in connections:
            connection.close()
    return {
        "resident_mb": round(idle["rss"] / 1000, 1),
        "proportional_mb": round(idle["pss"] / 1000, 1),
        "private_dirty_mb": round(idle["private_dirty"] / 1000, 1),
        "target_resident_mb": TARGET,
        "within_target": idle["rss"] / 1000 <= TARGET,
        "imap_clients": clients,
        "kb_each": round(each, 1),
        "target_kb_each": TARGET_KB,
        "clients_within_target": each <= TARGET_KB,
    }


@contextmanager
def _running(directory: Path) -> Iterator[RunningServer]:
    server = RunningServer(directory, compiled(directory.parent))
    server.start()  # this time modules are compiled, which leaves memory that nobody needs
    server.stop()
    server.start()
    try:
        yield server
    finally:
        server.close()


def _memory(server: RunningServer) -> dict[str, int]:
    """Return kB by kind, of the supervisor and its workers."""
    total = {"rss": 0, "pss": 0, "private_dirty": 0}
    for pid in (server.pid, *server.workers()):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            kind = line.split(":")[0].lower()
            if kind in total:
                total[kind] += int(line.split()[1])
    return total


def _make_accounts(server: RunningServer, file: Path, count: int) -> None:
    rows = [f"u{number}@example.test,,{PASSWORD},,\n" for number in range(count)]
    file.write_text("login,name,password,quota,aliases\n" + "".join(rows))
    server.command("account", "import", str(file))


def _waiting(server: RunningServer, count: int) -> Iterator[ssl.SSLSocket]:
    """Open connections that wait in IDLE."""
    context = ssl.create_default_context(cafile=str(server.info["ca"]))
    for number in range(count):
        plain = socket.create_connection(server.address("imaps"), timeout=60)
        connection = context.wrap_socket(plain, server_hostname="localhost")
        _until(connection, b"* OK")
        for command, answer in (
            (f'a LOGIN u{number}@example.test "{PASSWORD}"', b"a OK"),
            ("b SELECT INBOX", b"b OK"),
            ("c IDLE", b"+ "),
        ):
            connection.sendall(command.encode() + b"\r\n")
            _until(connection, answer)
        yield connection


def _until(connection: ssl.SSLSocket, answer: bytes) -> None:
    """Read lines until the last one begins like that."""
    said = b""
    while not (said.endswith(b"\n") and said.splitlines()[-1].startswith(answer)):
        octets = connection.recv(65536)
        if not octets:
            raise RuntimeError(f"the server closed the connection after {said!r}")
        said += octets


if __name__ == "__main__":
    print(json.dumps(run(quick=False), indent=2))
