"""Receiving alone: what one message costs to take off the wire, with nothing done to it after.

smtp-source of Postfix sends; the listener of port 25 takes, with a policy that forgets what it
gets. Beside it in the same run: aiosmtpd as it comes, with a handler that does nothing, and Postfix
with its queue, which discards what it has queued. Rates depend on who else uses the machine; CPU a
message, of all processes of a server, does less so.
"""

import argparse
import asyncio
import json
import logging
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.smtp_delivery import TICK

TARGETS = {
    "5kB": {"messages_per_second": 2000},
    "1MB": {"messages_per_second": 250, "memory_growth_mb": 64},
    "10MB": {"memory_growth_mb": 64},  # the same: it is the sessions that cost, not the sizes
}
SIZES = {"5kB": 5 * 1024, "1MB": 1024 * 1024, "10MB": 10 * 1024 * 1024}
COUNTS = {"5kB": 6000, "1MB": 600, "10MB": 60}
OWN = ("10MB",)  # sizes that are measured of this server only
SESSIONS = 50
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
START_TIME = 20.0  # seconds
DISCARDING = """\
mydestination = bench.test
local_recipient_maps =
local_transport = discard:
default_transport = discard:
"""


def run(quick: bool = False) -> dict[str, Any]:
    """Measure all servers; Postfix must be installed, and is only run by root."""
    source = shutil.which("smtp-source", path=PATH)
    if source is None:
        return {"skipped": "smtp-source of Postfix is not installed"}
    results: dict[str, Any] = {"targets": TARGETS, "sessions": SESSIONS}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for name, started in (
            ("mailserver", _python("mailserver")),
            ("aiosmtpd", _python("aiosmtpd")),
            ("postfix", postfix(Path(folder), DISCARDING)),
        ):
            with started as server:
                results[name] = (
                    {"skipped": "Postfix is not installed, or not run by root"}
                    if server is None
                    else _measure(source, server, name, 4 if quick else 1)
                )
    return results


class Server:
    """A server under load: its port and the processes that it is made of."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port

    def cpu(self) -> float:
        """Return the seconds that its processes have used, those that ended included."""
        ticks = sum(sum(_stat(pid)[:2]) for pid in self._family())
        return (ticks + sum(_stat(self.pid)[2:])) / TICK

    def memory(self, key: str) -> int:
        """Return the octets of memory of its processes, as /proc names them."""
        found = 0
        for pid in self._family():
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith(f"{key}:"):
                        found += int(line.split()[1]) * 1024
        return found

    def _family(self) -> list[int]:
        pids, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            pids.append(pid)
            with suppress(OSError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                waiting += map(int, children)
        return pids


def _stat(pid: int) -> list[int]:
    """Return the ticks of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [0, 0, 0, 0]
    return [int(field) for field in fields[11:15]]


def _measure(source: str, server: Server, which: str, part: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    send(source, server.port, 200, SIZES["5kB"])  # warm
    memory = server.memory("VmRSS")
    for name, size in SIZES.items():
        if name in OWN and which != "mailserver":
            continue
        count = COUNTS[name] // part
        before, began = server.cpu(), time.perf_counter()
        send(source, server.port, count, size)
        seconds = time.perf_counter() - began
        found[name] = {
            "messages_per_second": round(count / seconds),
            "cpu_ms_per_message": round(1000 * (server.cpu() - before) / count, 3),
            "memory_growth_mb": round((server.memory("VmHWM") - memory) / 1e6, 1),
        }
    return found


def send(source: str, port: int, count: int, size: int) -> None:
    """Send so many messages of a size with smtp-source, over sessions that are used again."""
    command = [source, "-s", str(SESSIONS), "-m", str(count), "-l", str(size), "-d"]
    command += ["-f", "a@bench.test", "-t", "b@bench.test", f"127.0.0.1:{port}"]
    subprocess.run(command, check=True, capture_output=True, timeout=600)


@contextmanager
def _python(which: str) -> Iterator[Server]:
    """Run one of the servers that are written in Python in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.receive", "--serve", which], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield Server(process.pid, int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextmanager
def postfix(folder: Path, settings: str) -> Iterator[Server | None]:
    """Run Postfix with a folder of its own; None where it is not installed or this is not root.

    `settings` are more lines of its main.cf, which say where mail goes.
    """
    program = shutil.which("postfix", path=PATH)
    if program is None or os.geteuid() != 0:
        yield None
        return
    for name in ("etc", "queue", "data"):
        (folder / name).mkdir()
    os.chown(folder / "data", pwd.getpwnam("postfix").pw_uid, -1)
    port = free_port()
    (folder / "etc" / "main.cf").write_text(
        f"""\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = mx.bench.test
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
message_size_limit = 52428800
smtpd_client_connection_count_limit = 0
{settings}"""
    )
    services = "".join(
        f"{name} unix {flags} {command}\n"
        for name, flags, command in (
            ("cleanup", "n - n - 0", "cleanup"),
            ("pickup", "n - n 60 1", "pickup"),
            ("qmgr", "n - n 300 1", "qmgr"),
            ("rewrite", "- - n - -", "trivial-rewrite"),
            ("bounce", "- - n - 0", "bounce"),
            ("defer", "- - n - 0", "bounce"),
            ("trace", "- - n - 0", "bounce"),
            ("proxymap", "- - n - -", "proxymap"),
            ("discard", "- - n - -", "discard"),
            ("smtp", "- - n - -", "smtp"),
            ("scache", "- - n - 1", "scache"),
            ("error", "- - n - -", "error"),
            ("retry", "- - n - -", "error"),
            ("anvil", "- - n - 1", "anvil"),
        )
    )
    (folder / "etc" / "master.cf").write_text(
        f"127.0.0.1:{port} inet n - n - - smtpd\n{services}postlog unix-dgram n - n - 1 postlogd\n"
    )
    command = [program, "-c", str(folder / "etc")]
    subprocess.run([*command, "start"], check=True, capture_output=True)
    try:
        wait_for(port)
        pid = int((folder / "queue" / "pid" / "master.pid").read_text())
        yield Server(pid, port)
    finally:
        subprocess.run([*command, "stop"], check=True, capture_output=True)


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    end = time.monotonic() + START_TIME
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


# In the process of a server -----------------------------------------------------------------------


def serve(which: str) -> None:
    """Serve until killed, and print the port first."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_ours() if which == "mailserver" else _aiosmtpd())


async def _ours() -> None:
    from mailserver.auth.credentials import Authenticator
    from mailserver.auth.passwords import Passwords
    from mailserver.config import Config, Listener
    from mailserver.events import Hub
    from mailserver.mail.context import Mail
    from mailserver.metrics import Metrics
    from mailserver.smtp.policy.mx import MxPolicy
    from mailserver.smtp.protocol.framing import Data
    from mailserver.smtp.protocol.paths import Path as Mailbox
    from mailserver.smtp.server import SmtpServer
    from mailserver.smtp.session import Accepted, Envelope, Recipient, Session
    from mailserver.storage.blobs import S3Blobs
    from mailserver.storage.database import Database
    from mailserver.storage.ids import Ids
    from mailserver.storage.place import Bucket

    class Forgetful(MxPolicy):
        """Takes everything and keeps nothing."""

        async def recipient(self, session: Session, path: Mailbox) -> Recipient:
            return Recipient(path, ())

        async def accept(self, session: Session, envelope: Envelope, data: Data) -> Accepted:
            return Accepted("none", 1, 0)

    def now() -> datetime:
        return datetime.now(UTC)

    # as in the server, where every message has its line
    logging.basicConfig(stream=Path(os.devnull).open("w"), level=logging.INFO)  # noqa: SIM115
    nowhere = "http://127.0.0.1:1"
    database = Database(lambda: "", size=1)  # never asked
    passwords = Passwords()
    mail = Mail(
        database=database,
        blobs=S3Blobs(lambda: Bucket(nowhere, "none", "none", "none", "none")),
        events=Hub(),
        ids=Ids(1, now),
        metrics=Metrics("benchmark"),
        config=Config.model_validate({"server": {"hostname": "mail.bench.test"}}),
        now=now,
        passwords=passwords,
    )
    server = SmtpServer(
        mail=mail,
        authenticator=Authenticator(database, passwords=passwords),
        tls=None,
        kind="mx",
    )
    server.policy = Forgetful()
    _, port = await server.start(Listener(host="127.0.0.1", port=0))
    print(port, flush=True)
    await asyncio.Event().wait()


async def _aiosmtpd() -> None:
    from aiosmtpd.smtp import SMTP

    class Handler:
        """Takes everything and keeps nothing."""

        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            return "250 OK"

    logging.getLogger("mail.log").setLevel(logging.ERROR)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Handler(), data_size_limit=50 * 1024 * 1024, hostname="mail.bench.test"),
        "127.0.0.1",
        0,
        backlog=1024,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="shorter and less exact")
    arguments.add_argument("--serve", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve:
        serve(given.serve)
    else:
        print(json.dumps(run(given.quick), indent=2))


if __name__ == "__main__":
    main()
