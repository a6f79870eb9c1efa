import imaplib
import json
import re
import signal
import smtplib
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.utils import format_datetime, make_msgid
from pathlib import Path

import asyncpg

from mailserver import tls
from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from tests.integration.program.conftest import Program, Start, command
from tests.running import free_port

DOCKERFILE = Path(__file__).parents[3] / "Dockerfile"
LISTENERS = ("SMTP", "SUBMISSION", "SUBMISSIONS", "IMAP", "IMAPS", "HTTP", "HTTPS")


def letter() -> bytes:
    """Return a message against which the checks have nothing."""
    return (
        "From: carol@example.org\r\nTo: alice@example.test\r\nSubject: hello\r\n"
        f"Date: {format_datetime(datetime.now(UTC))}\r\nMessage-ID: {make_msgid()}\r\n\r\nhi\r\n"
    ).encode()


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ports_of(program: Program) -> dict[str, int]:
    """Read the ports from the log line that says that all listeners accept."""
    line = json.loads(program.read_until('"serving"').splitlines()[-1])
    return {name: port for name, (_, port) in line["listeners"].items()}


def health_check(port: int) -> int:
    """Run the HEALTHCHECK of the image, for another port; return its exit code."""
    words = re.search(r"^HEALTHCHECK [^\[]*CMD (\[.*\])$", DOCKERFILE.read_text(), re.MULTILINE)
    assert words is not None
    _, *arguments = json.loads(words[1].replace("8080", str(port)))
    return subprocess.run([sys.executable, *arguments], check=False, timeout=30).returncode


def environment(tmp_path: Path) -> dict[str, str]:
    files = tls.make_development_ca(tmp_path / "tls", tls.DEVELOPMENT_NAMES, datetime.now(UTC))
    return {
        "MAILSERVER_TLS__CERTIFICATE": str(files.certificate),
        "MAILSERVER_TLS__KEY": str(files.key),
        "MAILSERVER_LOG__FORMAT": "json",
        **{f"MAILSERVER_LISTENERS__{name}__PORT": "0" for name in LISTENERS},
    }


async def test_external_services_and_a_secret_in_a_file(
    start: Start, tmp_path: Path, postgres: Postgres, seaweedfs: SeaweedFS
) -> None:
    connection = await asyncpg.connect(postgres.dsn())
    await connection.execute("CREATE DATABASE serve_external")
    await connection.close()
    (tmp_path / "url").write_text(postgres.dsn("serve_external"))
    values = environment(tmp_path) | {
        "MAILSERVER_DATABASE__URL_FILE": str(tmp_path / "url"),
        "MAILSERVER_S3__ENDPOINT": seaweedfs.endpoint,
        "MAILSERVER_S3__BUCKET": "made-by-serve",
        "MAILSERVER_S3__ACCESS_KEY": seaweedfs.access_key,
        "MAILSERVER_S3__SECRET_KEY": seaweedfs.secret_key,
    }
    assert command("domain", "list", **values).code == 4
    assert len(command("migrate", "--json", **values).json) >= 1
    program = start(tmp_path, "serve", **values)
    ports = ports_of(program)
    assert get(ports["http"], "/healthz")[0] == 200
    assert get(ports["http"], "/readyz")[0] == 200
    assert "mailserver_queue_size" in get(ports["http"], "/metrics")[1]
    assert command("domain", "add", "example.test", **values).code == 0
    made = command("account", "add", "alice@example.test", "--json", **values).json
    with smtplib.SMTP("127.0.0.1", ports["smtp"], "mx.example.org", timeout=30) as client:
        client.sendmail("carol@example.org", ["alice@example.test"], letter())
    context = ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.pem"))
    with imaplib.IMAP4_SSL("127.0.0.1", ports["imaps"], ssl_context=context) as imap:
        imap.login("alice@example.test", made["password"])
        assert imap.select("INBOX")[1] == [b"1"]
    doctor = command("doctor", "--json", **values)
    assert doctor.code == 0, doctor
    assert command("fsck", "--json", **values).code == 0
    assert program.stop(signal.SIGTERM) == 0
    connection = await asyncpg.connect(postgres.dsn())
    await connection.execute("DROP DATABASE serve_external WITH (FORCE)")
    await connection.close()


def test_without_a_database_it_lives_and_is_not_ready(start: Start, tmp_path: Path) -> None:
    port = free_port()
    values = environment(tmp_path) | {
        "MAILSERVER_DATABASE__URL": f"postgresql:///mail?host={tmp_path}",
        "MAILSERVER_S3__ENDPOINT": "http://127.0.0.1:9",
        "MAILSERVER_LISTENERS__HTTP__PORT": str(port),
    }
    program = start(tmp_path, "serve", **values)
    program.read_until("waiting for PostgreSQL")
    assert get(port, "/healthz")[0] == 200
    assert get(port, "/readyz")[0] == 503
    assert health_check(port) == 0
    assert program.stop(signal.SIGTERM) == 0
    assert health_check(port) == 1


def test_embedded_services_by_configuration(start: Start, tmp_path: Path) -> None:
    values = environment(tmp_path)
    file = tmp_path / "mailserver.toml"
    file.write_text(f'[embedded]\nenabled = true\ndata_dir = "{tmp_path / "data"}"\n')
    program = start(tmp_path / "data", "serve", "--config", str(file), **values)
    ports = ports_of(program)
    assert get(ports["http"], "/readyz")[0] == 200
    added = command("domain", "add", "example.test", "--config", str(file), "--json", **values)
    assert added.json["domain"] == "example.test"
    assert program.document["pid"] == program.process.pid
    assert program.stop(signal.SIGINT) == 0
    assert not (tmp_path / "data" / "dev.json").exists()
