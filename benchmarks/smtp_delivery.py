"""Durable delivery over SMTP: messages a second, latency, and whose CPU it costs.

Starts `mailserver dev` in a temporary folder and loads it from this process, or loads a running
server: `python -m benchmarks.smtp_delivery --dev-json PATH`. Latency is from MAIL to the 250 that
follows the data. The driver's own CPU is reported too: it shares the machine with the server.
"""

import argparse
import asyncio
import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

TARGETS = {
    "many": {"messages_per_second": 1200, "p99_ms": 150},
    "single": {"messages_per_second": 1000},
}
CONNECTIONS = 64
ACCOUNTS = 64
SIZE = 20_000  # octets of a message, about
BODIES = 200  # different messages, made before the clock starts
START_TIMEOUT = 180.0  # seconds for `mailserver dev`
TICK = os.sysconf("SC_CLK_TCK")
WORDS = re.findall(
    r"\w+",
    "the of and to in is that for it was on are as with they be at one have this from or had by "
    "hot but some what there we can out other were all your when up use word how said an each she "
    "meeting invoice quarter budget delivery schedule customer server release review contract",
)


def message(chance: random.Random, number: int) -> bytes:
    """Make one message of about SIZE octets: headers as mail has, text and HTML, an attachment."""
    boundary = f"=_{chance.getrandbits(64):016x}"
    text: list[str] = []
    while sum(len(line) for line in text) < SIZE // 4:
        text.append(" ".join(chance.choices(WORDS, k=11)))
    html = "\r\n".join(f'<p style=3D"margin:0">{line}</p>' for line in text)
    plain = "\r\n".join(text)
    missing = max(SIZE - len(html) - len(plain) - 1250, 0)
    attachment = "\r\n".join(
        "".join(
            chance.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=76)
        )
        for _ in range(missing // 78)
    )
    return (
        f"Received: from out{number % 7}.example.org (out.example.org [192.0.2.{number % 200}])\r\n"
        f"\tby relay.example.org with ESMTPS id {chance.getrandbits(60):015x};\r\n"
        "\tTue, 24 Nov 2026 10:00:00 +0000\r\n"
        f'From: "Sender {number}" <sender{number}@example.org>\r\n'
        "To: Someone <someone@example.test>\r\n"
        f"Subject: {' '.join(chance.choices(WORDS, k=6))} {number}\r\n"
        "Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        "Message-ID: <@ID@@example.org>\r\n"
        f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'
        f"--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{plain}\r\n"
        f"--{boundary}\r\nContent-Type: text/html; charset=utf-8\r\n"
        f"Content-Transfer-Encoding: quoted-printable\r\n\r\n{html}\r\n"
        f'--{boundary}\r\nContent-Type: application/pdf; name="a.pdf"\r\n'
        f"Content-Transfer-Encoding: base64\r\n\r\n{attachment}\r\n--{boundary}--\r\n"
    ).encode()


class Driver(asyncio.Protocol):
    """One connection that sends one message after the other, MAIL RCPT DATA in one packet."""

    def __init__(self, load: "Load") -> None:
        self.load = load
        self.wanted = b"220"
        self.replies = 1  # still to come
        self.buffer = b""
        self.data = b""
        self.began = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\r\n")
        for line in lines:
            if line[3:4] == b"-":
                continue
            self.replies -= 1
            if self.replies == 0:
                self.proceed(line)
            elif not line.startswith(b"250"):
                self.fail(line)

    def proceed(self, line: bytes) -> None:
        """Go on after the last reply of a group."""
        if not line.startswith(self.wanted):
            self.fail(line)
        elif self.wanted == b"220":
            self.transport.write(b"EHLO driver.example.org\r\n")
            self.wanted, self.replies = b"250 ", 1
        elif self.wanted == b"354":
            self.transport.write(self.data)
            self.wanted, self.replies = b"250 2.0.0 ", 1
        else:
            if self.wanted == b"250 2.0.0 ":
                self.load.latencies.append(time.perf_counter() - self.began)
            self.next_message()

    def next_message(self) -> None:
        job = self.load.next_job()
        if job is None:
            self.transport.write(b"QUIT\r\n")
            self.done.set_result(None)
            return
        recipient, self.data = job
        self.began = time.perf_counter()
        self.wanted, self.replies = b"354", 3
        self.transport.write(
            b"MAIL FROM:<%b> SIZE=%d\r\nRCPT TO:<%b>\r\nDATA\r\n"
            % (self.load.sender, len(self.data), recipient)
        )

    def fail(self, line: bytes) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"unexpected reply {line!r}"))
        self.transport.abort()


class Load:
    """A number of messages over a number of connections."""

    sender = b"sender@example.org"
    connections = CONNECTIONS

    def __init__(
        self, recipients: list[str], count: int, seed: int, bodies: Sequence[bytes] = ()
    ) -> None:
        """Take the messages to send, again and again; by default some are made."""
        chance = random.Random(seed)
        self.recipients = [recipient.encode() for recipient in recipients]
        made = bodies or [message(chance, number) for number in range(BODIES)]
        self.bodies = [body + b".\r\n" for body in made]
        self.unique = f"{os.getpid()}.{time.time_ns()}"
        self.left = count
        self.count = count
        self.latencies: list[float] = []  # seconds

    def next_job(self) -> tuple[bytes, bytes] | None:
        """Take the next message: every one has a Message-ID, and so a hash, of its own."""
        if not self.left:
            return None
        self.left -= 1
        body = self.bodies[self.left % len(self.bodies)]
        unique = f"{self.left}.{self.unique}".encode()
        recipient = self.recipients[self.left % len(self.recipients)]
        return recipient, body.replace(b"@ID@", unique, 1)

    async def run(self, host: str, port: int) -> float:
        """Send everything; return the seconds it took."""
        loop = asyncio.get_running_loop()
        drivers = []
        began = time.perf_counter()
        for _ in range(min(self.connections, self.count)):
            _, driver = await loop.create_connection(lambda: Driver(self), host, port)
            drivers.append(driver)
        await asyncio.gather(*(driver.done for driver in drivers))
        return time.perf_counter() - began


# CPU of other processes, from /proc ---------------------------------------------------------------


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for known in found:
        found.extend(children.get(known, ()))
    return found


def cpu_seconds(pid: int) -> float:
    """Return user and system time, with that of children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / TICK


def usage(pid: int) -> dict[str, float]:
    """Return the CPU seconds so far of the server, PostgreSQL and SeaweedFS under a process."""
    spent = {"server": 0.0, "postgresql": 0.0, "seaweedfs": 0.0}
    for known in tree(pid):
        try:
            program = os.readlink(f"/proc/{known}/exe").rsplit("/", 1)[-1]
        except OSError:
            program = ""
        owner = {"postgres": "postgresql", "weed": "seaweedfs"}.get(program, "server")
        spent[owner] += cpu_seconds(known)
    return spent


# The server ---------------------------------------------------------------------------------------


@contextmanager
def own_server(environment: Mapping[str, str] = os.environ) -> Iterator[dict[str, Any]]:
    """Run `mailserver dev` in a temporary folder."""
    program = [sys.executable, "-m", "mailserver"]
    with tempfile.TemporaryDirectory(prefix="mailserver-bench-") as directory:
        log = Path(directory, "output")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*program, "dev", "--data-dir", directory, "--ports", "free"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        try:
            document = Path(directory, "dev.json")
            deadline = time.monotonic() + START_TIMEOUT
            while not document.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not start:\n{log.read_text()[-4000:]}")
                time.sleep(0.1)
            yield {**json.loads(document.read_text()), "data_dir": directory}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def import_accounts(data_dir: str, count: int) -> list[str]:
    """Make accounts through the command line; return their logins."""
    logins = [f"bench{number}@example.test" for number in range(count)]
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["login", "name", "password", "quota", "aliases"])
        writer.writerows([login, login, f"bench password {login}", "", ""] for login in logins)
        table.flush()
        subprocess.run(
            [
                *(sys.executable, "-m", "mailserver", "account", "import", table.name),
                *("--data-dir", data_dir, "--json"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return logins


def measure(document: dict[str, Any], recipients: list[str], count: int) -> dict[str, object]:
    """Load the server and return the figures."""
    host, port = document["listeners"]["smtp"]

    async def loaded() -> tuple[Load, float]:
        await Load(recipients, min(count, 500), 1).run(host, port)  # caches, plans, connections
        load = Load(recipients, count, 2)
        before.update(usage(document["pid"]))
        own.append(time.process_time())
        seconds = await load.run(host, port)
        own.append(time.process_time())
        after.update(usage(document["pid"]))
        return load, seconds

    before: dict[str, float] = {}
    after: dict[str, float] = {}
    own: list[float] = []
    load, seconds = _run(loaded())
    latencies = sorted(load.latencies)
    if len(latencies) != count:
        raise RuntimeError(f"{len(latencies)} of {count} messages were answered with 250")
    return {
        "messages": count,
        "octets": len(load.bodies[0]),
        "connections": CONNECTIONS,
        "accounts": len(recipients),
        "messages_per_second": round(count / seconds, 1),
        "p50_ms": round(latencies[count // 2] * 1000, 2),
        "p99_ms": round(latencies[count * 99 // 100] * 1000, 2),
        "cpu_ms_per_message": {
            **{owner: round((after[owner] - before[owner]) / count * 1000, 3) for owner in after},
            "driver": round((own[1] - own[0]) / count * 1000, 3),
        },
    }


def _run(work: Any) -> Any:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def measure_both(document: dict[str, Any], quick: bool) -> dict[str, object]:
    """Measure many mailboxes and a single one."""
    count = 2_000 if quick else 20_000
    logins = import_accounts(document["data_dir"], ACCOUNTS)
    return {
        "targets": TARGETS,
        "many": measure(document, logins, count),
        "single": measure(document, logins[:1], count),
    }


def run(quick: bool) -> dict[str, object]:
    with own_server() as document:
        return measure_both(document, quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev-json", type=Path, help="of a running `mailserver dev`")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.dev_json is None:
        result = run(options.quick)
    else:
        document = json.loads(options.dev_json.read_text())
        document["data_dir"] = str(options.dev_json.parent)
        result = measure_both(document, options.quick)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
