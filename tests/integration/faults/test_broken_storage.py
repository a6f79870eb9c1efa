"""PostgreSQL and S3 slow, failing, moved, read-only, full, and with new credentials."""

import asyncio
import contextlib
import imaplib
import random
import shutil
import smtplib
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import pytest_asyncio

from mailserver.runtime.embedded.postgres import Postgres, installation
from tests.chaos.clients import Smtp, TemporaryRefusal, connected
from tests.chaos.cluster import LOGINS, Cluster, Node, start_cluster, to_postgres
from tests.chaos.disk import unmount
from tests.chaos.ledger import compare, message, name_of
from tests.chaos.load import LOST, Load, read_account
from tests.chaos.proxy import S3_FAILURE
from tests.running import RunningServer

pytestmark = pytest.mark.faults

ALICE = LOGINS[0]
PATIENCE = 60  # seconds until the server must have recovered by itself


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = await start_cluster(tmp_path, ("one",))
    yield cluster
    await cluster.stop()


@pytest.fixture
def node(cluster: Cluster) -> Node:
    return cluster.nodes[0]


async def deliver(node: Node, name: str) -> None:
    async with connected(node, "smtp", None) as line:
        smtp = Smtp(line)
        await smtp.greet()
        await smtp.send("load@example.org", ALICE, message(name, 2000))


async def until(attempt: Callable[[], Awaitable[None]]) -> None:
    """Try until it works: the server has to find its way back by itself."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await attempt()
            except (TemporaryRefusal, *LOST):
                await asyncio.sleep(0.1)


async def in_bucket(cluster: Cluster) -> None:
    """Wait until PostgreSQL has no body any more."""
    connection = await asyncpg.connect(cluster.postgres.dsn())
    try:
        async with asyncio.timeout(PATIENCE):
            while await connection.fetchval("SELECT EXISTS (SELECT FROM blob_hot)"):
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def names(cluster: Cluster, node: Node) -> set[str]:
    return set((await read_account(cluster, node, ALICE)).names)


async def test_with_a_slow_s3_mail_arrives_and_old_mail_is_read(
    cluster: Cluster, node: Node
) -> None:
    await deliver(node, "old")
    await in_bucket(cluster)
    node.s3.delay = 0.5
    await deliver(node, "new")
    assert await names(cluster, node) == {"old", "new"}


async def test_with_a_failing_s3_only_old_bodies_are_missed(cluster: Cluster, node: Node) -> None:
    await deliver(node, "old")
    await in_bucket(cluster)
    node.s3.answer = S3_FAILURE
    await node.s3.cut()
    await deliver(node, "new")
    with pytest.raises(TemporaryRefusal):
        await names(cluster, node)
    node.s3.heal()

    async def read() -> None:
        assert await names(cluster, node) == {"old", "new"}

    await until(read)
    await in_bucket(cluster)
    assert await asyncio.to_thread(cluster.fsck) == []


async def test_a_rotated_password_of_postgresql_is_read_from_its_file(
    cluster: Cluster, node: Node
) -> None:
    await deliver(node, "before")
    old = urlsplit(cluster.postgres.dsn()).password
    assert old is not None
    connection = await asyncpg.connect(cluster.postgres.dsn())
    await connection.execute("ALTER ROLE mailserver PASSWORD 'rotated'")
    file = node.directory / f"{node.name}.url"
    file.write_text(file.read_text().replace(old, "rotated"))
    await deliver(node, "on connections of before")
    await node.database.cut()
    await until(lambda: deliver(node, "on new connections"))
    await connection.execute(f"ALTER ROLE mailserver PASSWORD '{old}'")
    file.write_text(file.read_text().replace("rotated", old))
    await connection.close()


async def test_rotated_keys_of_s3_are_read_from_their_files(cluster: Cluster, node: Node) -> None:
    await deliver(node, "old")
    await in_bucket(cluster)
    file = node.directory / f"{node.name}.secret_key"
    right = file.read_text()
    file.write_text("not any more")
    await deliver(node, "new")
    with pytest.raises(TemporaryRefusal):
        await names(cluster, node)
    file.write_text(right)

    async def read() -> None:
        assert await names(cluster, node) == {"old", "new"}

    await until(read)


async def test_a_read_only_postgresql_defers_mail_and_still_shows_it(
    cluster: Cluster, node: Node
) -> None:
    """As a replica does that was not promoted, or a database whose disk is about to be full."""
    await deliver(node, "before")
    connection = await asyncpg.connect(cluster.postgres.dsn())
    await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    await connection.execute("SELECT pg_reload_conf()")
    await node.database.cut()

    async def refused() -> None:
        with pytest.raises(TemporaryRefusal):
            await deliver(node, "during")

    await refused()
    # SELECT takes \Recent from others, which is a change
    assert set((await read_account(cluster, node, ALICE, "EXAMINE")).names) == {"before"}
    await connection.execute("SET default_transaction_read_only = off")
    await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()
    await until(lambda: deliver(node, "after"))
    assert await names(cluster, node) == {"before", "after"}


async def standby_of(primary: Postgres, directory: Path) -> Postgres:
    """Make a standby that follows a server, as CloudNativePG does."""
    parts = urlsplit(primary.dsn())
    query = parse_qs(parts.query)
    standby = Postgres(directory)
    standby.directory.mkdir()
    shutil.copy(primary.directory / "password", standby.directory / "password")
    await asyncio.to_thread(
        subprocess.run,
        [
            str(installation() / "bin" / "pg_basebackup"), "--pgdata", str(standby.data),
            "--checkpoint=fast", "--write-recovery-conf",
        ],
        env={
            "PGHOST": query["host"][0], "PGPORT": query["port"][0],
            "PGUSER": parts.username or "", "PGPASSWORD": parts.password or "",
        },
        check=True, capture_output=True,
    )  # fmt: skip
    owner = primary.data.stat()
    for path in [standby.data, *standby.data.rglob("*")]:
        shutil.chown(path, owner.st_uid, owner.st_gid)
    return standby


async def test_a_failover_of_postgresql_loses_nothing(tmp_path: Path) -> None:
    cluster = await start_cluster(tmp_path)
    standby = await standby_of(cluster.postgres, tmp_path / "standby")
    await standby.start()
    admin = await asyncpg.connect(cluster.postgres.dsn())
    await admin.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    await admin.execute("SELECT pg_reload_conf()")
    async with asyncio.timeout(PATIENCE):
        while await admin.fetchval("SELECT sync_state FROM pg_stat_replication") != "sync":
            await asyncio.sleep(0.05)
    load = Load(cluster, random.Random(1), pace=0.02)
    load.start()
    async with asyncio.timeout(PATIENCE):
        while sum(map(len, load.ledger.delivered.values())) < 50:
            await asyncio.sleep(0.05)
    await cluster.postgres.stop()  # the old primary never comes back
    promoted = await asyncpg.connect(standby.dsn())
    await promoted.execute("SELECT pg_promote()")
    await promoted.close()
    for node in cluster.nodes:
        node.database.dial = to_postgres(standby)
    before = sum(map(len, load.ledger.delivered.values()))
    async with asyncio.timeout(PATIENCE):
        while sum(map(len, load.ledger.delivered.values())) < before + 50:
            assert not load.failed
            await asyncio.sleep(0.05)
    await load.stop()
    async with asyncio.timeout(PATIENCE):  # what was submitted before leaves after
        while not load.ledger.submitted <= (arrived := _arrived(cluster)).keys():
            await asyncio.sleep(0.05)
    for node in cluster.nodes:
        found = {login: await read_account(cluster, node, login) for login in LOGINS}
        assert compare(load.ledger, found, arrived) == []
    await cluster.stop()
    await standby.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 700 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", str(place)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip("this test may not mount a file system")
    yield place
    unmount(place)


def _arrived(cluster: Cluster) -> Counter[str]:
    return Counter(name_of(each.content) for each in cluster.peer.received)


def test_a_full_disk_defers_mail_and_loses_none(small_disk: Path) -> None:
    """Of `mailserver dev`: PostgreSQL and SeaweedFS are on the same disk."""
    server = RunningServer(small_disk / "data")
    server.log = small_disk.parent / "dev.log"
    server.start()
    try:
        accepted = ["first"]
        assert send(server, "first") == 250
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(2**16))
        count = 0
        while (code := send(server, f"full-{count}")) == 250:  # what PostgreSQL has in reserve
            accepted.append(f"full-{count}")
            count += 1
            assert count < 1000
        assert 400 <= code < 500
        filler.unlink()
        deadline = time.monotonic() + PATIENCE
        while send(server, "after") != 250:
            assert time.monotonic() < deadline
        accepted.append("after")
        assert server.fsck() == []
        assert set(accepted) <= subjects(server)
    finally:
        server.close()


def send(server: RunningServer, name: str) -> int:
    """Send 100 kB to Alice; return the code of the reply, 421 for a lost connection."""
    host, port = server.address("smtp")
    try:
        with smtplib.SMTP(host, port, timeout=60) as client:
            client.sendmail("load@example.org", ["alice@example.test"], message(name, 100_000))
    except smtplib.SMTPRecipientsRefused as error:
        return next(iter(error.recipients.values()))[0]
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
    except OSError:
        return 421
    return 250


def subjects(server: RunningServer) -> set[str]:
    """Read every message of Alice whole; return their names."""
    host, port = server.address("imaps")
    context = ssl.create_default_context(cafile=server.info["ca"])
    with imaplib.IMAP4_SSL(host, port, ssl_context=context) as client:
        client.login("alice@example.test", server.password("alice@example.test"))
        client.select("INBOX")
        _, answer = client.uid("SEARCH", "HEADER", "X-Digest", '""')
        found = set()
        for uid in answer[0].split():
            _, parts = client.uid("FETCH", uid.decode(), "(BODY.PEEK[])")
            found |= {name_of(part[1]) for part in parts if isinstance(part, tuple)}
        return found
