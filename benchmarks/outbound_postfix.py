"""Postfix with opendkim as the anchor of `benchmarks.outbound`: the same load, the same smtp-sink.

What is compared: Postfix signs when it accepts a message, this server when it delivers it. So the
drain of our queue, which signs twice (RSA-2048 and Ed25519), has two rates of Postfix beside it.
`drain`: a queue of signed messages was held back and is released, so it is delivery alone.
`through`: from the first MAIL of smtp-source to the last delivery, so Postfix accepts by SMTP,
signs once (RSA-2048) and delivers. CPU is that of Postfix and opendkim; smtp-source and smtp-sink
are not in it, while smtp-sink is among the `others` of our drain.

Postfix is as it comes, with a folder of its own; it uses connections again when a destination has
much mail. A message that opendkim does not sign is not accepted (`milter_default_action`).
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks.receive import PATH, Server, free_port, postfix, send, wait_for

QUEUES = ("deferred", "incoming", "active")  # in the order of a message that is released
PATIENCE = 300.0  # seconds, after which something is wrong
POLL = 0.02  # seconds


def measure(sink: int, count: int, size: int) -> dict[str, Any]:
    """Return what Postfix with opendkim does with so many messages, to smtp-sink on this port."""
    source = shutil.which("smtp-source", path=PATH)
    signer = shutil.which("opendkim", path=PATH)
    if source is None or signer is None:
        return {"skipped": "Postfix or opendkim is not installed"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # for the user of Postfix
        with (
            _opendkim(folder, signer) as milter,
            postfix(folder, _settings(sink, milter.port)) as server,
        ):
            if server is None:
                return {"skipped": "Postfix is not installed, or not run by root"}
            return _Run(folder, (server, milter), count).measure(source, size)


class _Run:
    """One Postfix that signs with opendkim, and so many messages."""

    def __init__(self, folder: Path, servers: tuple[Server, Server], count: int) -> None:
        self._folder = folder
        self._servers = servers
        self._port = servers[0].port
        self._count = count
        self._sent = 0

    def measure(self, source: str, size: int) -> dict[str, Any]:
        """Hold the messages back and release them; then let as many through."""
        send(source, self._port, self._count, size)
        self._wait(lambda: self._files("deferred") == self._count)
        self._must_be_signed()
        self._command("postconf", "-e", "defer_transports=")
        self._command("postfix", "reload")
        wait_for(self._port)
        return {
            "messages": self._count,
            "drain": self._timed(lambda: self._command("postqueue", "-f")),
            "through": self._timed(lambda: send(source, self._port, self._count, size)),
        }

    def _timed(self, start: Callable[[], None]) -> dict[str, Any]:
        before, began = self._cpu(), time.perf_counter()
        start()
        self._wait(lambda: not any(self._files(name, 1) for name in QUEUES))
        seconds = time.perf_counter() - began
        self._sent += self._count
        self._wait(lambda: self._delivered() == self._sent)  # its log comes a moment later
        return {
            "messages_per_second": round(self._count / seconds),
            "cpu_ms_per_message": round(1000 * (self._cpu() - before) / self._count, 3),
        }

    def _cpu(self) -> float:
        return sum(server.cpu() for server in self._servers)

    def _files(self, name: str, most: int | None = None) -> int:
        """Count the messages of a queue, `most` of them at most."""
        found = (file for _, _, files in os.walk(self._folder / "queue" / name) for file in files)
        return sum(1 for _ in islice(found, most))

    def _delivered(self) -> int:
        return (self._folder / "log").read_bytes().count(b" status=sent ")

    def _must_be_signed(self) -> None:
        held = next(file for file in (self._folder / "queue/deferred").rglob("*") if file.is_file())
        assert b"DKIM-Signature" in held.read_bytes(), "a message was not signed"

    def _command(self, program: str, *words: str) -> None:
        path = shutil.which(program, path=PATH)
        assert path is not None, program
        command = [path, "-c", str(self._folder / "etc"), *words]
        subprocess.run(command, check=True, capture_output=True)

    def _wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("Postfix does not deliver what it has")
            time.sleep(POLL)


def _settings(sink: int, milter: int) -> str:
    return f"""\
mydestination =
relayhost = [127.0.0.1]:{sink}
defer_transports = smtp
smtpd_milters = inet:127.0.0.1:{milter}
milter_default_action = tempfail
"""


@contextmanager
def _opendkim(folder: Path, program: str) -> Iterator[Server]:
    """Run opendkim, which signs what comes from 127.0.0.1 in the name of the sender's domain."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    port = free_port()
    (folder / "opendkim.conf").write_text(
        f"""\
Mode s
Domain bench.test
Selector s1
KeyFile {folder}/key
RequireSafeKeys no
Canonicalization relaxed/relaxed
OversignHeaders From
Socket inet:{port}@127.0.0.1
"""
    )
    process = subprocess.Popen(
        [program, "-f", "-x", str(folder / "opendkim.conf")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(port)
        yield Server(process.pid, port)
    finally:
        process.terminate()
        process.wait()
