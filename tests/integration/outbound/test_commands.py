"""`mailserver queue`: what an administrator sees and does."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from mailserver.model import IdKind, QueueState, id_text
from tests.conftest import Bucketed
from tests.integration.outbound.conftest import Sending

Command = Callable[..., Any]


@pytest.fixture
def command(dsn: str, bucket: Bucketed, sending: Sending) -> Command:
    """Run `mailserver` on the store of the test."""
    place = bucket.bucket
    config = sending.mail.config
    environment = {
        **os.environ,
        "MAILSERVER_DATABASE__URL": dsn,
        "MAILSERVER_S3__ENDPOINT": place.endpoint,
        "MAILSERVER_S3__ACCESS_KEY": place.access_key,
        "MAILSERVER_S3__SECRET_KEY": place.secret_key,
        "MAILSERVER_DNS__SERVERS": config.dns.servers,
        "MAILSERVER_OUTBOUND__PORT": str(config.outbound.port),
        "MAILSERVER_SERVER__SECRET_KEY": "of the tests",
    }

    async def run(*words: str, code: int = 0, text: str = "") -> Any:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "mailserver", "queue", *words],
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout + done.stderr

    return run


async def test_mail_is_found_shown_held_and_given_up(sending: Sending, command: Command) -> None:
    first = await sending.send("carol@example.org", "dave@example.net")
    second = await sending.send("erin@example.org")
    listed = await command("list", "--domain", "example.org", "--json")
    assert [row["recipient"] for row in listed] == ["carol@example.org", "erin@example.org"]
    assert "no id" in await command("show", "nonsense", code=1)
    assert "say which" in await command("drop", code=2)
    assert await command("hold", "--domain", "example.org", "--json") == {"recipients": 2}
    shown = await command("show", id_text(IdKind.QUEUE, first))
    assert "<carol@example.org>\n  Held: 0 attempts" in shown
    assert "<dave@example.net>\n  Waits: 0 attempts; the next one is due now." in shown
    assert "1 recipient released" in await command("release", "--to", "erin@example.org")
    assert "1 recipient given up" in await command("fail", id_text(IdKind.QUEUE, second))
    assert "2 recipients dropped" in await command("drop", "--all", "--state", "held",
                                                    "--state", "waiting")  # fmt: skip
    (left,) = await sending.rows()
    assert (left["recipient"], left["state"]) == ("erin@example.org", QueueState.FAILED)
    assert left["report"] == 1
    assert await command("list", "--state", "failed", "--json") != []


async def test_a_smarthost_takes_mail_with_a_login(sending: Sending, command: Command) -> None:
    names = sending.names
    names.add("relay.example", "A", "127.0.0.5")
    peer = await sending.peer(
        "127.0.0.5",
        tls=sending.tls.server,
        extensions=("PIPELINING", "AUTH PLAIN"),
        say=lambda line: "235 2.7.0 in" if line.startswith("AUTH") else None,
    )
    await command(
        *("route", "set", "*", "--host", "relay.example", "--tls", "encrypt"),
        *("--login", "alice", "--password-stdin", "--retry-first", "1m"),
        text="secret\n",
    )
    (row,) = await command("route", "list", "--json")
    assert (row["domain"], row["host"], row["retry_first"]) == ("*", "relay.example", 60)
    assert "password" not in row
    (way,) = await command("route", "explain", "carol@example.org", "--json")
    assert way["address"] == f"127.0.0.5:{sending.port}"
    await sending.work()
    await sending.send("carol@example.org")
    await sending.settled("carol@example.org", QueueState.DELIVERED)
    assert "AUTH PLAIN AGFsaWNlAHNlY3JldA==" in peer.lines
    assert peer.received[0].tls
    await command("route", "remove", "*")
    assert await command("route", "list", "--json") == []


async def test_users_here_never_leave_by_a_smarthost(sending: Sending, command: Command) -> None:
    await command("route", "set", "*", "--host", "127.0.0.5")
    (way,) = await command("route", "explain", "bob@example.test", "--json")
    assert way["way"] == "this server"
    (way,) = await command("route", "explain", "null.example", "--json")
    assert way["way"] == "smarthost, route *"
