"""Two servers behind PgBouncer in transaction mode: mail, push, and what they tell each other."""

import asyncio
import base64
import contextlib
import http.client
import json
import threading
import time
from pathlib import Path

import pytest

from mailserver.errors import Unavailable
from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from mailserver.storage.database import Database
from tests.nodes import PASSWORD, Installation, Node, nodes
from tests.pgbouncer import PgBouncer

ALICE = "alice@example.test"


class Stream:
    """An event stream of JMAP."""

    def __init__(self, node: Node) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", node.port("http"), timeout=60)
        login = base64.b64encode(f"{ALICE}:{PASSWORD}".encode()).decode()
        self._connection.request(
            "GET",
            "/jmap/events?types=Email&closeafter=no&ping=0",
            headers={"Authorization": f"Basic {login}"},
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
            tmp_path, pooler.dsn, seaweedfs, MAILSERVER_DATABASE__DIRECT_URL=empty_database
        )
        await asyncio.to_thread(whole_server, installation, polled=False)


async def test_with_nothing_but_the_pooler(
    tmp_path: Path, postgres: Postgres, seaweedfs: SeaweedFS, empty_database: str
) -> None:
    with PgBouncer(
        tmp_path / "pgbouncer", empty_database, postgres.data, default_pool_size=3
    ) as pooler:
        installation = Installation.make(tmp_path, pooler.dsn, seaweedfs)
        await asyncio.to_thread(whole_server, installation, polled=True)


def whole_server(installation: Installation, *, polled: bool) -> None:
    """Use two nodes as clients do."""
    installation.populate("alice", "bob")
    with nodes(installation, "a", "b") as (a, b):
        for here, there in ((a, b), (b, a)):
            by_imap, by_jmap = mail_across(here, there)
            # a look every second; the rest is what a busy machine takes
            assert max(by_imap, by_jmap) < (10 if polled else 5)
        load(a, b)
        with a.mailbox() as client:
            assert client.search(None, "ALL")[1][0].split() == [
                str(number).encode() for number in range(1, 2 + 40 + 1)
            ]
        for node in (a, b):
            assert node.stop() == 0
            said = node.lines()
            assert [line for line in said if line["level"] not in ("info", "debug")] == []
            words = " ".join(line["message"] for line in said)
            assert "PostgreSQL is behind a pooler" in words
            assert ("no LISTEN through a pooler" in words) is polled
    assert json.loads(installation.command("fsck", "--json", "--contents"))["differences"] == []


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
