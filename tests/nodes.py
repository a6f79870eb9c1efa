"""Servers that share one database and one bucket, each as `mailserver serve` in a process."""

import contextlib
import imaplib
import json
import os
import select
import smtplib
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from mailserver.tls import DEVELOPMENT_NAMES, make_development_ca

LISTENERS = ("smtp", "submission", "submissions", "imap", "imaps", "http", "https")
PASSWORD = "correct horse"
START_TIMEOUT = 120.0  # seconds; the machine may be busy
STOP_TIMEOUT = 120.0
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("MAILSERVER_")}


@dataclass(frozen=True)
class Installation:
    """What its nodes have in common."""

    folder: Path
    values: Mapping[str, str]  # environment variables
    ca: Path

    @classmethod
    def make(cls, folder: Path, url: str, seaweedfs: SeaweedFS, **more: str) -> "Installation":
        """Make certificates, and say where the database and the bucket are."""
        files = make_development_ca(folder / "tls", DEVELOPMENT_NAMES, datetime.now(UTC))
        values = {
            "MAILSERVER_DATABASE__URL": url,
            "MAILSERVER_S3__ENDPOINT": seaweedfs.endpoint,
            "MAILSERVER_S3__BUCKET": seaweedfs.bucket,
            "MAILSERVER_S3__PREFIX": folder.name,
            "MAILSERVER_S3__ACCESS_KEY": seaweedfs.access_key,
            "MAILSERVER_S3__SECRET_KEY": seaweedfs.secret_key,
            "MAILSERVER_TLS__CERTIFICATE": str(files.certificate),
            "MAILSERVER_TLS__KEY": str(files.key),
            "MAILSERVER_LOG__FORMAT": "json",
            "MAILSERVER_SERVER__WORKERS": "1",
            "MAILSERVER_SERVER__GRACE": "5",
            "MAILSERVER_SMTP__CATCH_OUTBOUND": "true",
            "MAILSERVER_ANTISPAM__TRUSTED_NETWORKS": "127.0.0.0/8",  # no limit is tested with it
            **{f"MAILSERVER_LISTENERS__{name.upper()}__PORT": "0" for name in LISTENERS},
            **more,
        }
        return cls(folder, values, files.ca)

    def command(self, *arguments: str, stdin: str = "", codes: tuple[int, ...] = (0,)) -> str:
        """Run a command of the program; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mailserver", *arguments],
            input=stdin, capture_output=True, text=True, timeout=300, check=False,
            env={**CLEAN, **self.values},
        )  # fmt: skip
        if done.returncode not in codes:
            raise RuntimeError(f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        printed: str = done.stdout
        return printed

    def populate(self, *names: str) -> None:
        """Make the schema, the domain example.test and accounts in it."""
        self.command("migrate")
        self.command("domain", "add", "example.test")
        rows = [f"{name}@example.test,,{PASSWORD},,\n" for name in names]
        file = self.folder / "accounts.csv"
        file.write_text("login,name,password,quota,aliases\n" + "".join(rows))
        self.command("account", "import", str(file))


@dataclass
class Node:
    """One server of an installation."""

    installation: Installation
    name: str
    values: Mapping[str, str] = field(default_factory=dict)  # of this one alone
    process: "subprocess.Popen[bytes] | None" = None
    listeners: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Where its log goes."""
        return self.installation.folder / f"{self.name}.log"

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged."""
        return [json.loads(line) for line in self._whole_lines()]

    def _whole_lines(self) -> list[str]:
        """Return all lines but one that is just being written."""
        return self.log.read_text().rpartition("\n")[0].splitlines()

    def launch(self) -> None:
        """Start it; `wait` says when it serves."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mailserver", "serve"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**CLEAN, **self.installation.values, **self.values},
            )  # fmt: skip

    def wait(self) -> None:
        """Wait until all listeners accept."""
        assert self.process is not None
        exited = os.pidfd_open(self.process.pid)
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while time.monotonic() < deadline:
                # a file announces nothing: look every 20 ms
                if select.select([exited], [], [], 0.02)[0]:
                    break
                for line in self._whole_lines():
                    if '"serving"' in line:
                        self.listeners = json.loads(line)["listeners"]
                        return
        finally:
            os.close(exited)
        raise RuntimeError(self.log.read_text()[-4000:])

    def start(self) -> None:
        """Start it and wait until all listeners accept."""
        self.launch()
        self.wait()

    def stop(self) -> int:
        """Stop it as Kubernetes does; return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT)

    def close(self) -> None:
        """End it, whatever its state."""
        if self.process is not None and self.process.poll() is None:
            self.stop()

    def port(self, listener: str) -> int:
        """Return the port of a listener."""
        return self.listeners[listener][1]

    def send(self, subject: str, to: str = "alice@example.test") -> None:
        """Deliver a message by SMTP."""
        with smtplib.SMTP("127.0.0.1", self.port("smtp"), timeout=60) as client:
            text = f"From: carol@example.org\r\nSubject: {subject}\r\n\r\nhello\r\n"
            client.sendmail("carol@example.org", [to], text)

    def mailbox(self, login: str = "alice@example.test") -> "Mailbox":
        """Open an INBOX by IMAP."""
        context = ssl.create_default_context(cafile=str(self.installation.ca))
        client = Mailbox("127.0.0.1", self.port("imaps"), ssl_context=context, timeout=60)
        client.login(login, PASSWORD)
        assert client.select("INBOX")[0] == "OK"
        return client


class Mailbox(imaplib.IMAP4_SSL):
    """An IMAP client that can wait."""

    @contextlib.contextmanager
    def idling(self) -> Iterator["Mailbox"]:
        """Be in IDLE for a block."""
        tag = self._new_tag()
        self.send(tag + b" IDLE\r\n")
        self.hear(b"+ ")  # what is new is told first
        yield self
        self.send(b"DONE\r\n")
        self.hear(tag + b" OK")

    def hear(self, text: bytes) -> float:
        """Wait until the server says something; return the time at which it has."""
        while text not in (line := self.readline()):
            assert line, "the server closed the connection"
        return time.monotonic()


@contextlib.contextmanager
def nodes(
    installation: Installation, *names: str, values: Mapping[str, Mapping[str, str]] | None = None
) -> Iterator[list[Node]]:
    """Have nodes that serve; `values` are environment variables of single ones."""
    made = [Node(installation, name, (values or {}).get(name, {})) for name in names]
    try:
        for node in made:
            node.launch()
        for node in made:
            node.wait()
        yield made
    finally:
        for node in made:
            node.close()
