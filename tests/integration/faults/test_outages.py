"""PostgreSQL or S3 gone for a while, with `mailserver serve` on services of their own."""

import asyncio
import imaplib
import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from mailserver.tls import make_development_ca
from tests.running import descendants, run_command

pytestmark = pytest.mark.faults

LOGIN, PASSWORD = "alice@example.test", "correct horse"
TEMPORARY = range(400, 500)


@dataclass
class Served:
    """A `mailserver serve` and the services that the test may stop."""

    postgres: Postgres
    seaweedfs: SeaweedFS
    config: Path
    ca: Path
    listeners: dict[str, tuple[str, int]]

    def send(self, subject: str) -> int:
        """Send a message to Alice; return the code of the refusal, or 250."""
        host, port = self.listeners["smtp"]
        with smtplib.SMTP(host, port, "mx.example.org", timeout=120) as client:
            try:
                client.sendmail("carol@example.org", [LOGIN], letter(subject))
            except smtplib.SMTPRecipientsRefused as error:
                return error.recipients[LOGIN][0]
            except smtplib.SMTPResponseException as error:
                return error.smtp_code
        return 250

    def mailbox(self) -> imaplib.IMAP4_SSL:
        """Log in as Alice and select her INBOX."""
        host, port = self.listeners["imaps"]
        context = ssl.create_default_context(cafile=str(self.ca))
        client = imaplib.IMAP4_SSL(host, port, ssl_context=context)
        client.login(LOGIN, PASSWORD)
        assert client.select("INBOX")[0] == "OK"
        return client

    def ready(self) -> int:
        """Return the status of the readiness probe."""
        host, port = self.listeners["http"]
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/readyz", timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


def letter(subject: str) -> bytes:
    """Return a message against which the checks have nothing."""
    return (
        f"From: carol@example.org\r\nTo: {LOGIN}\r\nSubject: {subject}\r\n"
        f"Date: {format_datetime(datetime.now(UTC))}\r\nMessage-ID: {make_msgid()}\r\n\r\n"
        f"{subject}\r\n"
    ).encode()


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    postgres = Postgres(tmp_path / "postgres", sync=False)
    seaweedfs = SeaweedFS(tmp_path / "seaweedfs")
    await asyncio.gather(postgres.start(), seaweedfs.start())
    tls = make_development_ca(tmp_path / "tls", ["127.0.0.1"], datetime.now(UTC))
    config = tmp_path / "mailserver.toml"
    names = ("smtp", "submission", "submissions", "imap", "imaps", "http")
    config.write_text(
        f"""
        [database]
        url = {json.dumps(postgres.dsn())}
        [s3]
        endpoint = "{seaweedfs.endpoint}"
        bucket = "elsewhere"
        access_key = "{seaweedfs.access_key}"
        secret_key = "{seaweedfs.secret_key}"
        [tls]
        certificate = {json.dumps(str(tls.certificate))}
        key = {json.dumps(str(tls.key))}
        [log]
        format = "json"
        [mover]
        interval = 0.1
        copy_after = 0
        {"".join(f"{chr(10)}        [listeners.{name}]{chr(10)}        port = 0" for name in names)}
        [listeners.https]
        enabled = false
        """
    )
    at = ("--config", str(config))
    await asyncio.to_thread(run_command, "migrate", *at)
    await asyncio.to_thread(run_command, "domain", "add", "example.test", *at)
    accounts = tmp_path / "accounts.csv"
    accounts.write_text(f"login,name,password,quota,aliases\n{LOGIN},Alice,{PASSWORD},,\n")
    await asyncio.to_thread(run_command, "account", "import", str(accounts), *at)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mailserver", "serve", *at,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    listeners = await serving(process.stdout)
    reading = asyncio.create_task(process.stdout.read())  # it must never wait for us
    yield Served(postgres, seaweedfs, config, tls.ca, listeners)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 120) == 0
    await reading
    await asyncio.gather(postgres.stop(), seaweedfs.stop())


async def serving(output: asyncio.StreamReader) -> dict[str, Any]:
    """Read the log until it says where the server listens."""
    async with asyncio.timeout(120):
        while line := await output.readline():
            record = json.loads(line)
            if record["message"] == "serving":
                listeners: dict[str, Any] = record["listeners"]
                return listeners
    raise AssertionError("the server ended")


async def test_without_postgresql_mail_is_deferred_and_then_taken(served: Served) -> None:
    assert await asyncio.to_thread(served.send, "before") == 250
    client = await asyncio.to_thread(served.mailbox)
    await served.postgres.stop()
    assert await asyncio.to_thread(served.send, "during") in TEMPORARY
    assert await asyncio.to_thread(served.ready) == 503
    # the connection stays, and gets a temporary error
    status, _ = await asyncio.to_thread(client.status, "INBOX", "(MESSAGES)")
    assert status == "NO"
    await served.postgres.start()
    async with asyncio.timeout(60):
        while await asyncio.to_thread(served.send, "after") != 250:
            pass
    assert await asyncio.to_thread(served.ready) == 200
    status, answer = await asyncio.to_thread(client.status, "INBOX", "(MESSAGES)")
    assert (status, answer) == ("OK", [b"INBOX (MESSAGES 2)"])
    await asyncio.to_thread(client.logout)


async def test_without_s3_mail_arrives_and_recent_mail_is_read(served: Served) -> None:
    assert served.seaweedfs.pid is not None
    assert await asyncio.to_thread(served.send, "before") == 250
    weed = [served.seaweedfs.pid, *descendants(served.seaweedfs.pid)]
    for pid in weed:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert await asyncio.to_thread(served.send, "during") == 250
        assert await asyncio.to_thread(served.ready) == 200
        client = await asyncio.to_thread(served.mailbox)
        status, answer = await asyncio.to_thread(client.fetch, "1:2", "(BODY.PEEK[])")
        assert status == "OK"
        bodies = [item[1] for item in answer if isinstance(item, tuple)]
        assert [body[-8:] for body in bodies] == [b"before\r\n", b"during\r\n"]
        await asyncio.to_thread(client.logout)
    finally:
        for pid in weed:
            os.kill(pid, signal.SIGCONT)
    assert await asyncio.to_thread(served.send, "after") == 250
    report = await asyncio.to_thread(run_command, "fsck", "--json", "--config", str(served.config))
    assert json.loads(report)["differences"] == []
