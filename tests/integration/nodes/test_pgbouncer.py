"""Two servers behind PgBouncer in transaction mode: mail, push, and what they tell each other."""

import asyncio
import base64
import contextlib
import http.client
import json
import smtplib
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from mailserver.errors import Unavailable
from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from mailserver.storage.database import Database
from tests.nodes import PASSWORD, Installation, Node, nodes
from tests.pgbouncer import PgBouncer

ALICE = "alice@example.test"
CAPABILITIES = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"]
# bodies leave PostgreSQL at once
MOVING = {
    "MAILSERVER_MOVER__INTERVAL": "0.2",
    "MAILSERVER_MOVER__COPY_AFTER": "0",
    "MAILSERVER_MOVER__DROP_AFTER": "0",
    "MAILSERVER_MOVER__BARRIER_AGE": "0",
}
PATIENCE = 60.0  # seconds; the machine may be busy


def authorization() -> dict[str, str]:
    login = base64.b64encode(f"{ALICE}:{PASSWORD}".encode()).decode()
    return {"Authorization": f"Basic {login}"}


def jmap(node: Node, *calls: list[Any]) -> list[Any]:
    """Make method calls on the account of Alice; return the responses."""
    client = http.client.HTTPConnection("127.0.0.1", node.port("http"), timeout=PATIENCE)
    with contextlib.closing(client):
        client.request("GET", "/.well-known/jmap", headers=authorization())
        account = json.loads(client.getresponse().read())["primaryAccounts"][CAPABILITIES[1]]
        for call in calls:
            call[1]["accountId"] = account
        body = json.dumps({"using": CAPABILITIES, "methodCalls": calls})
        headers = authorization() | {"Content-Type": "application/json"}
        client.request("POST", "/jmap/api", body, headers)
        responses: list[Any] = json.loads(client.getresponse().read())["methodResponses"]
        return responses


class Stream:
    """An event stream of JMAP."""

    def __init__(self, node: Node) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", node.port("http"), timeout=60)
        self._connection.request(
            "GET", "/jmap/events?types=Email&closeafter=no&ping=0", headers=authorization()
        )
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200

    def close(self) -> None:
        """Hang up."""
        self._answer.close()
        self._connection.close()

    def hear(self, text: bytes) -> float:
        """Wait for a line; return the time at which it came."""
        while text not in (line := self._answer.readline()):
            assert line, "the server closed the stream"
        return time.monotonic()


def mail_across(here: Node, there: Node) -> tuple[float, float]:
    """Let clients of one node wait for what arrives at the other; return how long each waited."""
    with (
        contextlib.closing(Stream(there)) as stream,
        there.mailbox() as client,
        client.idling(),
    ):
        heard: list[float] = []
        thread = threading.Thread(target=lambda: heard.append(stream.hear(b"event: state")))
        thread.start()
        began = time.monotonic()
        here.send("across")
        by_imap = client.hear(b" EXISTS") - began
        thread.join(60)
    return by_imap, heard[0] - began


async def test_with_a_direct_connection_for_notices(
    tmp_path: Path, postgres: Postgres, seaweedfs: SeaweedFS, empty_database: str
) -> None:
    with PgBouncer(tmp_path / "pgbouncer", empty_database, postgres.data) as pooler:
        installation = Installation.make(
            tmp_path,
            pooler.dsn,
            seaweedfs,
            MAILSERVER_DATABASE__DIRECT_URL=empty_database,
            **MOVING,
        )
        await asyncio.to_thread(whole_server, installation, empty_database, polled=False)


async def test_with_nothing_but_the_pooler(
    tmp_path: Path, postgres: Postgres, seaweedfs: SeaweedFS, empty_database: str
) -> None:
    with PgBouncer(
        tmp_path / "pgbouncer", empty_database, postgres.data, default_pool_size=3
    ) as pooler:
        installation = Installation.make(tmp_path, pooler.dsn, seaweedfs, **MOVING)
        await asyncio.to_thread(whole_server, installation, empty_database, polled=True)


def whole_server(installation: Installation, dsn: str, *, polled: bool) -> None:
    """Use two nodes as clients do."""
    installation.populate("alice", "bob")
    with nodes(installation, "a", "b") as (a, b):
        for here, there in ((a, b), (b, a)):
            by_imap, by_jmap = mail_across(here, there)
            # a look every second at most; the rest is what a busy machine takes
            assert max(by_imap, by_jmap) < 20
        load(a, b)
        with a.mailbox() as client:
            assert client.search(None, "ALL")[1][0].split() == [
                str(number).encode() for number in range(1, 2 + 40 + 1)
            ]
        write_by_jmap(a, b)
        send_elsewhere(a)
        read_from_s3(b, dsn)
        for node in (a, b):
            assert node.stop() == 0
            said = node.lines()
            assert [line for line in said if line["level"] not in ("info", "debug")] == []
            words = " ".join(line["message"] for line in said)
            assert "PostgreSQL is behind a pooler" in words
            assert ("no LISTEN through a pooler" in words) is polled
    assert json.loads(installation.command("fsck", "--json", "--contents"))["differences"] == []


def write_by_jmap(here: Node, there: Node) -> None:
    """Find messages by their text and flag them at one node; see it at the other."""
    found = ["Email/query", {"filter": {"text": "hello", "subject": "number"}}, "0"]
    ids = jmap(here, found)[0][1]["ids"]
    assert len(ids) == 40
    update = {each: {"keywords/$flagged": True} for each in ids}
    ((_, done, _),) = jmap(here, ["Email/set", {"update": update}, "0"])
    assert set(done["updated"]) == set(ids)
    flagged = ["Email/query", {"filter": {"hasKeyword": "$flagged"}}, "0"]
    assert set(jmap(there, flagged)[0][1]["ids"]) == set(ids)


def send_elsewhere(node: Node) -> None:
    """Submit a message to another domain, and wait until a worker of the queue has had it."""
    context = ssl.create_default_context(cafile=str(node.installation.ca))
    with smtplib.SMTP_SSL("127.0.0.1", node.port("submissions"), context=context) as client:
        client.login(ALICE, PASSWORD)
        client.sendmail(ALICE, ["carol@remote.test"], f"From: {ALICE}\r\n\r\nhello\r\n")
    deadline = time.monotonic() + PATIENCE
    while True:
        (row,) = json.loads(node.installation.command("queue", "list", "--json"))
        if row["state"] == "caught":
            break
        assert time.monotonic() < deadline, row


async def bodies_left(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    count: int = await connection.fetchval("SELECT count(*) FROM blob_hot")
    await connection.close()
    return count


def read_from_s3(node: Node, dsn: str) -> None:
    """Wait until PostgreSQL has no bodies any more, and read them all."""
    deadline = time.monotonic() + PATIENCE
    while asyncio.run(bodies_left(dsn)):
        assert time.monotonic() < deadline
    with node.mailbox() as client:
        _, parts = client.fetch("1:*", "(BODY.PEEK[])")
        bodies = [part[1] for part in parts if isinstance(part, tuple)]
        assert len(bodies) == 42
        assert all(body.endswith(b"\r\n\r\nhello\r\n") for body in bodies)


def load(a: Node, b: Node) -> None:
    """Deliver, read and change at both at the same time."""

    def deliver(node: Node) -> None:
        for number in range(20):
            node.send(f"number {number}")

    def change(node: Node) -> None:
        with node.mailbox() as client:
            for _ in range(20):
                for arguments in ((("1:*"), "+FLAGS", r"(\Seen)"), (("1:*"), "-FLAGS", r"(\Seen)")):
                    assert client.store(*arguments)[0] == "OK"
                assert client.search(None, "SUBJECT", '"number"')[0] == "OK"

    threads = [
        threading.Thread(target=work, args=(node,)) for node in (a, b) for work in (deliver, change)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("settings", [{}, {"ignore_startup_parameters": "plan_cache_mode,jit"}])
async def test_each_statement_meets_its_own_arguments(
    tmp_path: Path, postgres: Postgres, empty_database: str, settings: dict[str, str]
) -> None:
    with PgBouncer(
        tmp_path / "pgbouncer", empty_database, postgres.data, default_pool_size=2, **settings
    ) as pooler:
        database = Database(lambda: pooler.dsn, 8)

        async def ask(factor: int) -> None:
            for number in range(25):
                query = f"SELECT {factor} * $1::int, ARRAY[$1::int], $2::text[]"
                row = await database.fetchrow(query, number, [str(factor)])
                assert row is not None
                assert tuple(row) == (factor * number, [number], [str(factor)])
            async with database.transaction() as tx:
                name = await tx.fetchval("SELECT set_config('mail.test', $1, true)", str(factor))
                assert name == await tx.fetchval("SELECT current_setting('mail.test')")

        await asyncio.gather(*(ask(factor) for factor in range(16)))
        assert database.pooled
        await database.close()


async def test_the_pooler_goes_and_comes_back(
    tmp_path: Path, postgres: Postgres, empty_database: str
) -> None:
    with PgBouncer(tmp_path / "pgbouncer", empty_database, postgres.data) as pooler:
        database = Database(lambda: pooler.dsn, 4)
        assert await database.fetchval("SELECT 1") == 1
        pooler.stop()
        with pytest.raises(Unavailable):
            await database.fetchval("SELECT 1")
        pooler.start()
        assert await database.fetchval("SELECT 1") == 1
        await database.close()
