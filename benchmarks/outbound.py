"""The queue drained to smtp-sink of Postfix: messages a second, and whose CPU it costs.

A worker in this process, as in the server, with a durable PostgreSQL of its own: 5 kB messages to
one destination, signed by DKIM (RSA-2048 and Ed25519). Beside it, in the same run and to the same
smtp-sink, Postfix with opendkim: `benchmarks.outbound_postfix` says what is compared. Then how fast
recipients are claimed with a large backlog.
"""

import asyncio
import json
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import outbound_postfix
from benchmarks.smtp_delivery import TICK
from mailserver.auth.passwords import Passwords
from mailserver.config import Config
from mailserver.dns import Resolver
from mailserver.events import Hub
from mailserver.mail import accounts, delivery, dkim
from mailserver.mail.context import Mail
from mailserver.metrics import Metrics
from mailserver.queue.enqueue import Outgoing, OutgoingRecipient
from mailserver.queue.work import Ledger
from mailserver.runtime.embedded.postgres import Postgres
from mailserver.smtp.outbound.worker import Worker
from mailserver.storage import migrate, queue_routes
from mailserver.storage.blobs import S3Blobs
from mailserver.storage.database import Database
from mailserver.storage.ids import Ids
from mailserver.storage.place import Bucket
from mailserver.storage.queue_routes import RouteRow

TARGETS = {"messages_per_second": 600, "claims_per_second": 10_000}
MESSAGES, QUICK_MESSAGES = 6000, 1500
BACKLOG, QUICK_BACKLOG = 1_000_000, 50_000
SIZE = 5000  # octets of a message
CLAIMS = 100  # of 50 recipients each


def run(quick: bool = False) -> dict[str, Any]:
    """Measure both; smtp-sink must be installed."""
    sink = shutil.which("smtp-sink", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if sink is None:
        return {"skipped": "smtp-sink of Postfix is not installed"}
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_run(Path(folder), sink, quick))


async def _run(folder: Path, sink: str, quick: bool) -> dict[str, Any]:
    postgres = Postgres(folder / "postgres")
    await postgres.start()
    try:
        await asyncio.to_thread(migrate.upgrade, postgres.dsn())
        database = Database(postgres.dsn, size=10)
        port = _free_port()
        process = subprocess.Popen(
            [sink, "-u", "nobody", "-c", f"127.0.0.1:{port}", "1000"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            mail = _mail(database)
            count = QUICK_MESSAGES if quick else MESSAGES
            drained = await _drain(mail, port, count, postgres)
            anchor = await asyncio.to_thread(outbound_postfix.measure, port, count, SIZE)
            claims = await _claims(mail, QUICK_BACKLOG if quick else BACKLOG)
        finally:
            process.kill()
            process.wait()
        await database.close()
    finally:
        await postgres.stop()
    return {"targets": TARGETS, "drain": drained, "postfix": anchor, "claims": claims}


def _mail(database: Database) -> Mail:
    def now() -> datetime:
        return datetime.now(UTC)

    bucket = Bucket("http://127.0.0.1:1", "none", "none", "none", "none")  # bodies stay hot
    config = Config.model_validate(
        {"server": {"hostname": "mail.example.test", "secret_key": "of the benchmark"}}
    )
    return Mail(
        database=database,
        blobs=S3Blobs(lambda: bucket),
        events=Hub(),
        ids=Ids(1, now),
        metrics=Metrics("benchmark"),
        config=config,
        now=now,
        passwords=Passwords(),
    )


async def _drain(mail: Mail, port: int, count: int, postgres: Postgres) -> dict[str, Any]:
    await accounts.add_domain(mail, "example.test")
    alice = await accounts.create(mail, "alice@example.test", password="benchmark")
    await dkim.make_all(mail, "example.test")
    route = RouteRow("*", "127.0.0.1", port, "may", None, None, None, None, None, None)
    await queue_routes.store(mail.database, route)
    body = b"\r\n".join(b"%060d" % number for number in range(SIZE // 62))
    gate = asyncio.Semaphore(64)

    async def send(number: int) -> None:
        raw = (
            b"From: alice@example.test\r\nTo: user@example.org\r\nSubject: %d\r\n"
            b"Message-ID: <%d@example.test>\r\n\r\n" % (number, number) + body + b"\r\n"
        )
        outgoing = Outgoing(
            alice.id,
            "alice@example.test",
            (OutgoingRecipient(f"user{number}@example.org", "example.org"),),
            "benchmark",
        )
        async with gate:
            await delivery.accept(mail, raw, (), received_at=mail.now(), outgoing=outgoing)

    await asyncio.gather(*(send(number) for number in range(count)))
    worker = Worker(mail, Resolver(mail.config.dns, asyncio.get_running_loop().time), "benchmark")
    before = resource.getrusage(resource.RUSAGE_SELF)
    cpu_before = _children_cpu()
    began = time.perf_counter()
    task = asyncio.create_task(worker.run())
    while await mail.database.fetchval(
        "SELECT EXISTS (SELECT FROM queue_recipient WHERE state IN (0, 5))"
    ):
        await asyncio.sleep(0.05)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_after = _children_cpu()
    delivered = await mail.database.fetchval("SELECT count(*) FROM queue_recipient WHERE state = 1")
    await worker.stop(5)
    await asyncio.gather(task, return_exceptions=True)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "messages": count,
        "delivered": delivered,
        "messages_per_second": round(count / seconds),
        "worker_cpu_ms_per_message": round(own / count * 1000, 3),
        "others_cpu_ms_per_message": round((cpu_after - cpu_before) / count * 1000, 3),
    }


async def _claims(mail: Mail, backlog: int) -> dict[str, Any]:
    """Claim from a large backlog of many domains, then of one busy domain and the others."""
    await mail.database.execute("TRUNCATE queue_message CASCADE")
    await mail.database.execute(
        """
        INSERT INTO queue_message (id, account_id, blob_id, sender, size, smtputf8, body,
                                   received_at, session)
        SELECT n, 1, '', 'a@example.test', 5000, false, '7BIT', now(), 's'
        FROM generate_series(1, $1::int) AS n
        """,
        backlog,
    )
    await mail.database.execute(
        """
        INSERT INTO queue_recipient (message_id, recipient, domain, state, next_attempt, expires_at)
        SELECT n, 'u@d' || n % 1000 || '.example', 'd' || n % 1000 || '.example', 0,
               $2::timestamptz - n * interval '1 ms', $2::timestamptz + interval '5 days'
        FROM generate_series(1, $1::int) AS n
        """,
        backlog,
        mail.now(),
    )
    await mail.database.execute("ANALYZE queue_recipient")
    ledger = Ledger(mail.database, "claimer", lambda: mail.now() + timedelta(1), lambda: 0.5)
    result: dict[str, Any] = {"backlog": backlog}
    for name, busy in (("none_busy", ()), ("one_busy", ("d1.example",))):
        began = time.perf_counter()
        count = 0
        for _ in range(CLAIMS):
            count += len(await ledger.claim(50, busy))
        seconds = time.perf_counter() - began
        result[name] = {"claimed": count, "claims_per_second": round(count / seconds)}
    return result


def _children_cpu() -> float:
    """Return the CPU seconds of all that this process has started: PostgreSQL and smtp-sink."""
    total = 0.0
    mine = {os.getpid()}
    stats = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            stats.append((int(entry.name), int(words[1]), (int(words[11]) + int(words[12])) / TICK))
    for pid, parent, cpu in sorted(stats):
        if parent in mine:
            mine.add(pid)
            total += cpu
    return total


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    print(json.dumps(run(quick=True), indent=2))
