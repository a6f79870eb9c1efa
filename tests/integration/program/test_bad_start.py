"""What is wrong at the start is told in one line, with an exit code, and nothing is left over."""

import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from mailserver.storage import migrate
from tests.integration.program.conftest import Program, Start
from tests.nodes import LISTENERS

URL = "postgresql://somebody:hidden-password@127.0.0.1:9/mail"


def values(**more: str) -> dict[str, str]:
    """Return a configuration that would do."""
    return {
        "MAILSERVER_DATABASE__URL": URL,
        "MAILSERVER_S3__ENDPOINT": "http://127.0.0.1:9",
        "MAILSERVER_SERVER__WORKERS": "1",
        "MAILSERVER_LOG__FORMAT": "json",
        **{f"MAILSERVER_LISTENERS__{name.upper()}__PORT": "0" for name in LISTENERS},
        **{
            f"MAILSERVER_LISTENERS__{name}__ENABLED": "false"
            for name in ("SUBMISSIONS", "IMAPS", "HTTPS")
        },
        **more,
    }


def ended(program: Program, timeout: float = 60) -> tuple[int, str]:
    """Wait until it ends; return its exit code and the line that it ended with."""
    assert program.process.stdout is not None
    output = program.process.stdout.read()
    code = program.process.wait(timeout)
    said = program.errors.read_text()
    assert "Traceback" not in output + said
    assert "hidden-password" not in output + said
    assert '"serving"' not in output
    return code, said.strip()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"DATABASE__URL": "nonsense"}, "database.url.*should be a DSN, as postgresql://"),
        ({"DATABASE__URL": "mysql://a:hidden-password@b/c"}, "database.url.*should be a DSN"),
        ({"DATABASE__URL": "postgresql://a:hidden-password@b:no/c"}, "should be a DSN"),
        ({"DATABASE__URL": ""}, "database.url: needed"),
        ({"DATABASE__URL_FILE": "/no/such/file"}, "/no/such/file cannot be read: No such file"),
        ({"S3__ENDPOINT": "seaweedfs:8333"}, "s3.endpoint.*should be an http or https URL"),
        ({"S3__ENDPOINT": ""}, "s3.endpoint: needed"),
        ({"TLS__CERTIFICATE": "/no/cert", "TLS__KEY": "/no/key"}, "cannot use .*/no/cert"),
        ({"TLS__CERTIFICATE": "/etc/passwd", "TLS__KEY": "/etc/passwd"}, "cannot use certificate"),
        ({"LISTENERS__IMAPS__ENABLED": "true"}, "tls.certificate: needed by listeners.imaps"),
        ({"LISTENERS__SMTP__HOST": "192.0.2.1"}, "listen on 192.0.2.1 port 0: Cannot assign"),
        ({"TRACING__ENDPOINT": "collector"}, "tracing.endpoint.*should be an http or https URL"),
        ({"SERVER__HOSTNAME": "mail.example.org\r\n220 ESMTP"}, "server.hostname.*host name"),
        ({"SERVER__HOSTNAME": ""}, "server.hostname"),
        ({"NO__SUCH_KEY": "1"}, "NO__SUCH_KEY"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_configuration(start: Start, tmp_path: Path, given: dict[str, str], line: str) -> None:
    more = {f"MAILSERVER_{name}": value for name, value in given.items()}
    chosen = values(**more)
    if "MAILSERVER_DATABASE__URL_FILE" in more:
        del chosen["MAILSERVER_DATABASE__URL"]
    code, said = ended(start(tmp_path, "serve", **chosen))
    assert code == 3
    assert re.search(line, said), said
    assert len(said.splitlines()) == 1


def test_a_port_that_is_taken(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen = values(MAILSERVER_LISTENERS__IMAP__PORT=str(port))
        code, said = ended(start(tmp_path, "serve", **chosen))
    assert code == 3
    where = f"cannot listen on 127.0.0.1 port {port}: Address already in use"
    assert said == f"mailserver: listeners.imap: {where}"


def test_a_folder_that_cannot_be_written(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("/proc/mail", str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        chosen = values(MAILSERVER_EMBEDDED__ENABLED="true", MAILSERVER_EMBEDDED__DATA_DIR=folder)
        code, said = ended(start(tmp_path, "serve", **chosen))
        assert code == 3
        assert said.startswith(f"mailserver: cannot use the folder {folder}: ")
        assert len(said.splitlines()) == 1


@pytest_asyncio.fixture
async def fresh(postgres: Postgres) -> AsyncIterator[str]:
    """The DSN of an empty database."""
    name = f"start_{os.getpid()}"
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute(f"CREATE DATABASE {name}")
    yield postgres.dsn(name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def test_a_database_that_is_not_there(
    start: Start, tmp_path: Path, postgres: Postgres
) -> None:
    chosen = values(MAILSERVER_DATABASE__URL=postgres.dsn("no_such_database"))
    code, said = ended(start(tmp_path, "serve", **chosen))
    assert (code, said) == (3, "mailserver: database.url: there is no such database")


async def test_a_user_who_is_not_let_in(start: Start, tmp_path: Path, postgres: Postgres) -> None:
    dsn = (
        postgres.dsn()
        .replace("postgresql://", "postgresql://nobody")
        .replace("nobodymail", "nobody")
    )
    chosen = values(MAILSERVER_DATABASE__URL=dsn)
    code, said = ended(start(tmp_path, "serve", **chosen))
    assert (code, said) == (3, "mailserver: database.url: PostgreSQL does not let this user in")


async def test_a_user_who_may_not_make_tables(
    start: Start, tmp_path: Path, postgres: Postgres, fresh: str
) -> None:
    admin = await asyncpg.connect(fresh)
    await admin.execute("CREATE ROLE reader LOGIN PASSWORD 'hidden-password'")
    place = fresh.partition("@")[2]
    try:
        chosen = values(MAILSERVER_DATABASE__URL=f"postgresql://reader:hidden-password@{place}")
        code, said = ended(start(tmp_path, "serve", **chosen))
    finally:
        await admin.execute("DROP ROLE reader")
        await admin.close()
    assert code == 3
    first, second = said.splitlines()
    assert first.startswith("mailserver: the schema cannot be migrated: permission denied")
    assert second == "mailserver: the schema cannot be migrated; the reason is above"


async def newer(dsn: str, oldest: str) -> None:
    """Make the schema that of a later version of the program."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE alembic_version SET version_num = '9000'")
    await connection.execute("UPDATE schema_support SET oldest = $1", oldest)
    await connection.close()


async def test_a_schema_that_is_too_new(start: Start, tmp_path: Path, dsn: str) -> None:
    await newer(dsn, "8000")
    code, said = ended(start(tmp_path, "serve", **values(MAILSERVER_DATABASE__URL=dsn)))
    assert (code, said) == (
        3,
        "mailserver: the schema is 9000, which programs for 8000 and newer work with;"
        f" this one is for {migrate.newest()}: run a newer version of the program",
    )


async def test_a_newer_schema_that_supports_this_program_is_used(
    start: Start, tmp_path: Path, dsn: str
) -> None:
    await newer(dsn, migrate.newest())
    program = start(tmp_path, "serve", **values(MAILSERVER_DATABASE__URL=dsn))
    program.read_until('"serving"')
    assert program.stop(signal.SIGTERM) == 0


async def test_s3_that_lets_nobody_in_is_told_and_mail_goes_on(
    start: Start, tmp_path: Path, dsn: str, seaweedfs: SeaweedFS
) -> None:
    chosen = values(
        MAILSERVER_DATABASE__URL=dsn,
        MAILSERVER_S3__ENDPOINT=seaweedfs.endpoint,
        MAILSERVER_S3__BUCKET="not-ours",
        MAILSERVER_S3__ACCESS_KEY="nobody",
        MAILSERVER_S3__SECRET_KEY="hidden-password",
    )
    program = start(tmp_path, "serve", **chosen)
    text = program.read_until("S3 does not answer")
    line = json.loads(text.splitlines()[-1])
    assert line["level"] == "error"
    assert program.stop(signal.SIGTERM) == 0
    assert "Traceback" not in text + program.errors.read_text()
