"""A configuration that cannot be used is told in one line at a reload, and nothing changes."""

import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from mailserver.storage import migrate
from tests.integration.program.conftest import Program, Start
from tests.nodes import LISTENERS

BAD: dict[str, tuple[dict[str, str], str]] = {
    "a dsn": ({"database.url": '"nonsense"'}, "database.url: should be a DSN"),
    "a secret": ({"database.url_file": '"/no/such"'}, "/no/such cannot be read"),
    "a bucket": ({"s3.endpoint": '"seaweedfs:8333"'}, "s3.endpoint: should be an http"),
    "a port": ({"listeners.imap.port": "{taken}"}, "listeners.imap: cannot listen on 127.0.0.1"),
    "an address": ({"listeners.imap.host": '"192.0.2.1"'}, "cannot listen on 192.0.2.1"),
    "a certificate": (
        {"listeners.imaps.enabled": "true", "tls.certificate": '"/no"', "tls.key": '"/no"'},
        "cannot use certificate /no",
    ),
    "a name": ({"server.hostname": '"two words"'}, "server.hostname: should be a host name"),
    "a key": ({"server.no_such": "1"}, "server.no_such: no such key"),
    "no toml": ({"[server": "1"}, "not TOML"),
}


def configuration(dsn: str, **more: str) -> str:
    """Return a file that would do, with some keys changed."""
    keys = {
        "server.hostname": '"before.example.test"',
        "server.workers": "1",
        "log.format": '"json"',
        "database.url": json.dumps(dsn),
        "s3.endpoint": '"http://127.0.0.1:9"',
        **{f"listeners.{name}.port": "0" for name in LISTENERS},
        **{f"listeners.{name}.enabled": "false" for name in ("submissions", "imaps", "https")},
        **more,
    }
    if "database.url_file" in keys:
        del keys["database.url"]
    return "".join(f"{key} = {value}\n" for key, value in keys.items())


def reload(program: Program) -> dict[str, Any]:
    """Let it read its configuration again; return what it says of that."""
    program.process.send_signal(signal.SIGHUP)
    said = program.read_until('reloaded"')
    assert "Traceback" not in said
    assert '"exception"' not in said
    line: dict[str, Any] = json.loads(said.splitlines()[-1])
    return line


@pytest.fixture
def greeted(start: Start, tmp_path: Path, dsn: str) -> tuple[Program, Callable[[], bytes]]:
    """A server, and what its port 25 says."""
    file = tmp_path / "mailserver.toml"
    file.write_text(configuration(dsn))
    program = start(tmp_path, "serve", "--config", str(file))
    port = json.loads(program.read_until('"serving"').splitlines()[-1])["listeners"]["smtp"][1]

    def greeting() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            return client.makefile("rb").readline()

    return program, greeting


async def test_a_configuration_that_cannot_be_used_changes_nothing(
    greeted: tuple[Program, Callable[[], bytes]], tmp_path: Path, dsn: str
) -> None:
    program, greeting = greeted
    file = tmp_path / "mailserver.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for name, (keys, words) in BAD.items():
            more = {"server.hostname": '"after.example.test"', **keys}
            text = configuration(dsn, **more)
            file.write_text(text.replace("{taken}", str(taken.getsockname()[1])))
            line = reload(program)
            assert (line["message"], line["level"]) == ("not reloaded", "error"), name
            assert words in line["error"], name
            assert len(line["error"].splitlines()) == 1, name
            assert greeting().startswith(b"220 before.example.test"), name
    file.unlink()
    assert "cannot be read: No such file" in reload(program)["error"]
    file.write_text(configuration(dsn, **{"server.hostname": '"after.example.test"'}))
    assert reload(program)["message"] == "reloaded"
    assert greeting().startswith(b"220 after.example.test")
    assert program.stop() == 0


async def test_a_schema_that_has_become_too_new_stops_no_server_that_runs(
    greeted: tuple[Program, Callable[[], bytes]], dsn: str
) -> None:
    program, greeting = greeted
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE alembic_version SET version_num = '9000'")
    await connection.execute("UPDATE schema_support SET oldest = '8000'")
    line = reload(program)
    assert line["message"] == "not reloaded"
    assert line["error"].startswith("the schema is 9000, which programs for 8000 and newer")
    assert greeting().startswith(b"220 before.example.test")
    await connection.execute("UPDATE schema_support SET oldest = $1", migrate.newest())
    await connection.close()
    assert reload(program)["message"] == "reloaded"
    assert program.stop() == 0
