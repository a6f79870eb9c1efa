"""Two workers against one: deliveries by SMTP, and a mix of IMAP commands, a second.

Both servers run on the same machine as the load, one after the other, so the ratio is what counts;
it says nothing when other programs take the cores. The load is made by processes of their own.

`bounds` are the largest ratios that this machine allows: its cores, by those that one worker,
PostgreSQL and the load take together. Where one is below the target, the target needs more cores.
"""

import contextlib
import imaplib
import json
import multiprocessing
import os
import resource
import smtplib
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.running import RunningServer, descendants

SECONDS, QUICK_SECONDS = 8.0, 3.0
PROCESSES = 2  # that make load
CONNECTIONS = 8  # of each of them
USERS = 16
PASSWORD = "correct horse"
TARGET = 1.6
TICK = os.sysconf("SC_CLK_TCK")
BODY = "".join(f"line {number} of a message like many others\r\n" for number in range(400))


@dataclass(frozen=True)
class Place:
    """Where a server is, for a process that makes load."""

    smtp: int
    imaps: int
    ca: str


def run(quick: bool) -> dict[str, object]:
    """Load a server with one worker and one with two; return the rates and their ratios."""
    seconds = QUICK_SECONDS if quick else SECONDS
    measured = {count: _measure(count, seconds) for count in (1, 2)}
    ratios = {
        phase: round(measured[2][phase]["per_second"] / measured[1][phase]["per_second"], 2)
        for phase in PHASES
    }
    cores = os.cpu_count() or 1
    bounds = {
        phase: round(cores / sum(measured[1][phase]["cores"].values()), 2) for phase in PHASES
    }
    return {
        "one_worker": measured[1],
        "two_workers": measured[2],
        "ratios": ratios,
        "bounds": bounds,
        "cores": cores,
        "target_ratio_mixed": TARGET,
        "within_target": ratios["mixed"] >= TARGET,
    }


def _measure(workers: int, seconds: float) -> dict[str, Any]:
    environment = {"MAILSERVER_SERVER__WORKERS": str(workers)}
    with tempfile.TemporaryDirectory() as folder, _running(Path(folder), environment) as server:
        place = Place(server.address("smtp")[1], server.address("imaps")[1], str(server.info["ca"]))
        accounts = Path(folder) / "accounts.csv"
        rows = [f"u{number}@example.test,,{PASSWORD},,\n" for number in range(USERS)]
        accounts.write_text("login,name,password,quota,aliases\n" + "".join(rows))
        server.command("account", "import", str(accounts))
        _load(PHASES["delivery"], place, 1.0)  # every process is warm
        found: dict[str, Any] = {}
        for phase, work in PHASES.items():
            before, load, began = _cpu(server), _children(), time.monotonic()
            done = _load(work, place, seconds)
            took = time.monotonic() - began
            after = _cpu(server)
            found[phase] = {
                "per_second": round(done / seconds, 1),
                "cores": {
                    "load": round((_children() - load) / took, 2),
                    **{name: round((after[name] - before[name]) / took, 2) for name in after},
                },
            }
    return found


@contextlib.contextmanager
def _running(folder: Path, environment: dict[str, str]) -> Iterator[RunningServer]:
    server = RunningServer(folder / "data", environment)
    server.start()
    try:
        yield server
    finally:
        server.close()


def _cpu(server: RunningServer) -> dict[str, float]:
    """Return the CPU seconds of the server with its workers, and of its services."""
    used = {"server": 0.0, "postgres": 0.0, "weed": 0.0}
    for pid in (server.pid, *descendants(server.pid)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
            of = name if name in used else "server"
            used[of] += (int(fields[11]) + int(fields[12])) / TICK
    return used


def _children() -> float:
    """Return the CPU seconds of processes of ours that have ended: those that made load."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


Work = Callable[[Place, int, float], int]


def _load(work: Work, place: Place, seconds: float) -> int:
    """Let every process do the same for a time; return how much they did."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(PROCESSES) as pool:
        return sum(pool.starmap(work, [(place, number, seconds) for number in range(PROCESSES)]))


def deliver(place: Place, number: int, seconds: float) -> int:
    """Send messages over one connection after the other of several; return how many."""
    clients = [smtplib.SMTP("127.0.0.1", place.smtp, timeout=60) for _ in range(CONNECTIONS)]
    for client in clients:
        client.ehlo("bench.example.org")
    message = f"From: a@example.org\r\nSubject: bench\r\n\r\n{BODY}"
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for client in clients:  # all are asked before the first answer is read
            user = (number + done) % USERS
            client.send(
                f"MAIL FROM:<a@example.org>\r\nRCPT TO:<u{user}@example.test>\r\nDATA\r\n".encode()
            )
            done += 1
        for client in clients:
            for _ in range(2):
                client.getreply()
            assert client.getreply()[0] == 354
            client.send(f"{message}\r\n.\r\n".encode())
        for client in clients:
            assert client.getreply()[0] == 250
    for client in clients:
        client.close()
    return done


def read(place: Place, number: int, seconds: float) -> int:
    """Do what clients do with their newest messages; return how many commands."""
    context = ssl.create_default_context(cafile=place.ca)
    clients = []
    for each in range(CONNECTIONS):
        client = imaplib.IMAP4_SSL("127.0.0.1", place.imaps, ssl_context=context, timeout=60)
        user = (number * CONNECTIONS + each) % USERS
        client.login(f"u{user}@example.test", PASSWORD)
        client.select("INBOX")
        clients.append(client)
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        tags = []
        for client in clients:  # all are asked before the first answer is read
            tag = client._new_tag()
            for command in COMMANDS:
                client.send(tag + b" " + command + b"\r\n")
            tags.append(tag)
        for client, tag in zip(clients, tags, strict=True):
            for _ in COMMANDS:
                while not (line := client.readline()).startswith(tag + b" "):
                    pass
                assert line.startswith(tag + b" OK"), line
                done += 1
    for client in clients:
        client.shutdown()
    return done


def mixed(place: Place, number: int, seconds: float) -> int:
    """Half of the processes deliver, half of them read; a message counts as one command."""
    return (read if number % 2 else deliver)(place, number, seconds)


COMMANDS = (
    b"NOOP",
    b"FETCH 1:5 (UID FLAGS ENVELOPE BODYSTRUCTURE)",
    b"FETCH 1 BODY.PEEK[]",
    b"STORE 2 +FLAGS (\\Seen)",
    b"STORE 2 -FLAGS (\\Seen)",
    b"SEARCH UNSEEN",
    b"STATUS INBOX (MESSAGES UNSEEN)",
)
PHASES: dict[str, Work] = {"delivery": deliver, "imap": read, "mixed": mixed}


if __name__ == "__main__":
    print(json.dumps(run(quick=False), indent=2))
