"""Mail from other servers with all checks: messages a second, and the CPU of each part.

`checked`: `mailserver dev` takes messages that are signed twice, whose SPF record includes three
others and whose domain has a DMARC policy; DNS answers from loopback, once for each name. `open` is
the same without checks, so the difference is what they cost. `receive` is the listener alone: a
server in a process of its own takes messages and throws them away.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.authentication import Keys
from benchmarks.smtp_delivery import (
    WORDS,
    Load,
    _run,
    cpu_seconds,
    import_accounts,
    own_server,
    usage,
)
from tests.name_server import NameServer

TARGETS = {
    "checked": {"messages_per_second_2_cores": 300, "cpu_ms_per_message": 8},
    "receive": {"5 kB": 2000, "1 MB": 250},  # messages a second a core
}
SIZES = {"5 kB": 5_000, "20 kB": 20_000, "50 kB": 50_000}
RECEIVE_SIZES = {"5 kB": (5_000, 20_000), "1 MB": (1_000_000, 1_500)}
CONNECTIONS = 50
SENDER = b"ann@mail.example.org"


class Inbound(Load):
    """Messages of the signed domain."""

    sender = SENDER
    connections = CONNECTIONS


def bodies(keys: Keys, size: int, count: int) -> list[bytes]:
    """Make messages of about so many octets, each with a text of its own, signed."""
    chance = random.Random(7)
    made = []
    for number in range(count):
        lines: list[str] = []
        while sum(len(line) for line in lines) < size - 1500:
            lines.append(" ".join(chance.choices(WORDS, k=12)) + "\r\n")
        lines.append(f"https://www.example{number}.org/offer\r\n")
        header = (
            "Received: from a (a [192.0.2.7]) by b; Mon, 1 Jan 2026 00:00:00 +0000\r\n"
            "From: Ann <ann@mail.example.org>\r\nTo: Bob <bob@example.test>\r\n"
            f"Subject: {' '.join(chance.choices(WORDS, k=5))}\r\n"
            "Date: Mon, 1 Jan 2026 00:00:00 +0000\r\nMIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n"
        )
        signed = keys.signed((header + "\r\n" + "".join(lines)).encode())
        made.append(b"X-Number: @ID@\r\n" + signed)
    return made


@contextmanager
def dns(keys: Keys) -> Iterator[int]:
    """Answer in a thread for the domain of the messages; the port."""
    server = NameServer()
    for (name, kind), texts in keys.zone().records.items():
        quoted = [f'"{text}"' if kind == "TXT" else text for text in texts]
        server.add(name, kind, *(_cut(text) for text in quoted), ttl=3600)
    server.add("c.test", "TXT", '"v=spf1 ip4:127.0.0.0/8 ~all"', ttl=3600)
    server.add("1.0.0.127.in-addr.arpa", "PTR", "mx.example.org.", ttl=3600)
    server.add("mx.example.org", "A", "127.0.0.1", ttl=3600)
    started = threading.Event()
    stop: list[Any] = []

    def serve() -> None:
        async def work() -> None:
            await server.start()
            ended = asyncio.Event()
            stop.append((asyncio.get_running_loop(), ended))
            started.set()
            await ended.wait()
            server.stop()

        asyncio.run(work())

    thread = threading.Thread(target=serve)
    thread.start()
    started.wait(30)
    try:
        yield server.port
    finally:
        loop, ended = stop[0]
        loop.call_soon_threadsafe(ended.set)
        thread.join()


def _cut(text: str) -> str:
    """Write a long text as several strings (RFC 1035 §3.3.14)."""
    if len(text) < 250:
        return text
    inner = text.strip('"')
    return " ".join(f'"{inner[at : at + 250]}"' for at in range(0, len(inner), 250))


def measured(document: dict[str, Any], recipients: list[str], load: Inbound) -> dict[str, object]:
    """Send everything and return the figures."""
    host, port = document["listeners"]["smtp"]
    before, own = usage(document["pid"]), time.process_time()
    seconds = _run(load.run(host, port))
    after, own = usage(document["pid"]), time.process_time() - own
    return {
        "messages": load.count,
        "octets": len(load.bodies[0]),
        "messages_per_second": round(load.count / seconds, 1),
        "cpu_ms_per_message": {
            **{name: round((after[name] - before[name]) / load.count * 1000, 3) for name in after},
            "driver": round(own / load.count * 1000, 3),
        },
    }


def checked(quick: bool, *, enabled: bool) -> dict[str, object]:
    """Measure a whole server, with or without checks."""
    keys = Keys()
    results: dict[str, object] = {}
    with dns(keys) as port:
        environment = {
            **os.environ,
            "MAILSERVER_DNS__SERVERS": f"127.0.0.1:{port}",
            "MAILSERVER_ANTISPAM__ENABLED": str(enabled).lower(),
            "MAILSERVER_LOG__LEVEL": "warning",
        }
        with own_server(environment) as document:
            recipients = import_accounts(document["data_dir"], 64)
            for name, size in SIZES.items():
                made = bodies(keys, size, 50)
                measured(document, recipients, Inbound(recipients, 200, 1, made))
                count = 600 if quick else 3000
                load = Inbound(recipients, count, 2, made)
                results[name] = measured(document, recipients, load)
    return results


# The listener alone ---------------------------------------------------------------------------


def receive(quick: bool) -> dict[str, object]:
    """Measure what a listener takes when nothing is done with it."""
    results: dict[str, object] = {}
    for name, (size, count) in RECEIVE_SIZES.items():
        sink = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.inbound", "--sink"], stdout=subprocess.PIPE
        )
        assert sink.stdout is not None
        port = int(sink.stdout.readline())
        line = b"a line of text that a person might have written to another one, of 80 octets.\r\n"
        body = b"From: ann@mail.example.org\r\nX-Number: @ID@\r\n\r\n" + line * (size // len(line))
        try:
            _run(Inbound(["bob@example.test"], CONNECTIONS, 1, [body]).run("127.0.0.1", port))
            small = _memory(sink.pid)
            load = Inbound(["bob@example.test"], count // 10 if quick else count, 2, [body])
            before = cpu_seconds(sink.pid)
            seconds = _run(load.run("127.0.0.1", port))
            spent = cpu_seconds(sink.pid) - before
            results[name] = {
                "messages": load.count,
                "connections": CONNECTIONS,
                "messages_per_second": round(load.count / seconds, 1),
                "messages_per_core_second": round(load.count / spent, 1),
                "cpu_ms_per_message": round(spent / load.count * 1000, 3),
                "memory_growth_mb": round(_memory(sink.pid) - small, 1),
            }
        finally:
            sink.terminate()
            sink.wait(30)
    return results


def _memory(pid: int) -> float:
    """Return the most memory that a process has had, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def _sink() -> None:
    """Be a listener that takes everything and keeps nothing; its port is printed."""
    from datetime import UTC, datetime

    from mailserver.auth.credentials import Authenticator
    from mailserver.auth.passwords import Passwords
    from mailserver.config import Config, Listener
    from mailserver.events import Hub
    from mailserver.mail.context import Mail
    from mailserver.metrics import Metrics
    from mailserver.smtp.policy.mx import MxPolicy
    from mailserver.smtp.protocol.framing import Data
    from mailserver.smtp.protocol.paths import Path as ForwardPath
    from mailserver.smtp.server import SmtpServer
    from mailserver.smtp.session import Accepted, Envelope, Recipient, Session
    from mailserver.storage.blobs import S3Blobs
    from mailserver.storage.database import Database
    from mailserver.storage.ids import Ids
    from mailserver.storage.place import Bucket

    class Sink(MxPolicy):
        async def recipient(self, session: Session, path: ForwardPath) -> Recipient:
            return Recipient(path, ())

        async def accept(self, session: Session, envelope: Envelope, data: Data) -> Accepted:
            return Accepted("e", 0, 0)

    def now() -> datetime:
        return datetime.now(UTC)

    nowhere = Bucket("http://127.0.0.1:1", "none", "none", "none", "none", "")
    database, passwords = Database(lambda: "postgresql://127.0.0.1:1/none", 4), Passwords()
    mail = Mail(
        database=database,
        blobs=S3Blobs(lambda: nowhere),
        events=Hub(),
        ids=Ids(1, now),
        metrics=Metrics("sink"),
        config=Config(),
        now=now,
        passwords=passwords,
    )
    server = SmtpServer(
        mail=mail, authenticator=Authenticator(database, passwords=passwords), tls=None, kind="mx"
    )
    server.policy = Sink()
    _, port = await server.start(Listener(host="127.0.0.1", port=0))
    print(port, flush=True)
    await asyncio.Event().wait()


def run(quick: bool) -> dict[str, object]:
    return {
        "targets": TARGETS,
        "checked": checked(quick, enabled=True),
        "open": checked(quick, enabled=False),
        "receive": receive(quick),
    }


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sink", action="store_true", help="be the listener that is measured")
    options = parser.parse_args(words)
    if options.sink:
        _run(_sink())
        return
    print(json.dumps(run(options.quick), indent=2))


if __name__ == "__main__":
    main()
