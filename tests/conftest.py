"""Real services for the tests: one PostgreSQL and one SeaweedFS a run, a database clone a test."""

import asyncio
import itertools
import os
import resource
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from mailserver.auth.passwords import Passwords
from mailserver.config import Config
from mailserver.events import Hub
from mailserver.mail import accounts, fsck
from mailserver.mail.context import Mail
from mailserver.metrics import Metrics
from mailserver.model import Account
from mailserver.runtime.embedded.postgres import Postgres
from mailserver.runtime.embedded.seaweedfs import SeaweedFS
from mailserver.storage import migrate
from mailserver.storage.blobs import S3Blobs
from mailserver.storage.database import Database
from mailserver.storage.ids import Ids
from mailserver.storage.place import Bucket
from tests.signed_dns import SignedDns

PASSWORD = "correct horse"

# The data of a test run may be lost, so nothing waits for the disk.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

_numbers = itertools.count(1)

# No test is timed: on a busy machine an example may take as long as it likes.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# In memory a clone of the database takes a tenth of the time that it takes on a disk.
MEMORY = Path("/dev/shm")
ROOM = 6 << 30  # octets that must be free; a run needs less than two
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def pytest_configure() -> None:
    """Let pytest make its temporary directories in memory, where there is room for them."""
    if not MEMORY.is_dir() or os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:  # tests run programs there
        return
    if min(shutil.disk_usage(MEMORY).free, *_memory()) >= ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def _memory() -> Iterator[int]:
    """Give the octets that the machine has left, and those that our container may have."""
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        name, _, size = line.partition(":")
        if name == "MemAvailable":
            yield int(size.split()[0]) << 10
    for path in map(Path, LIMITS):
        if path.exists() and (limit := path.read_text("ascii").strip()) != "max":
            yield int(limit)


# As the server does: some tests open a thousand connections.
_, _files = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_files, _files))


@pytest_asyncio.fixture(scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    """A PostgreSQL server whose database `template_mail` has the newest schema."""
    server = Postgres(tmp_path_factory.mktemp("postgres"), sync=False, settings=FAST)
    await server.start()
    connection = await asyncpg.connect(server.dsn())
    await connection.execute("CREATE DATABASE template_mail")
    await connection.close()
    await asyncio.to_thread(migrate.upgrade, server.dsn("template_mail"))
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="session")
async def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SeaweedFS]:
    """A SeaweedFS with an empty bucket."""
    server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="session")
async def signed_dns(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SignedDns]:
    """A validating resolver with a signed zone `test.`, whose records are in tests/data/dns."""
    server = SignedDns(tmp_path_factory.mktemp("dns"))
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@pytest_asyncio.fixture
async def dsn(postgres: Postgres) -> AsyncIterator[str]:
    """The DSN of a database of the test's own, cloned from the template."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE template_mail STRATEGY FILE_COPY")
    yield postgres.dsn(name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest_asyncio.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """A pool on the test's database."""
    database = Database(lambda: dsn, size=8)
    yield database
    await database.close()


@dataclass(frozen=True)
class Bucketed:
    """A place of the test's own in the bucket."""

    bucket: Bucket
    blobs: S3Blobs


@pytest.fixture
def bucket(seaweedfs: SeaweedFS) -> Bucketed:
    """A prefix of the test's own in the bucket."""
    place = Bucket(
        endpoint=seaweedfs.endpoint,
        bucket=seaweedfs.bucket,
        region="us-east-1",
        access_key=seaweedfs.access_key,
        secret_key=seaweedfs.secret_key,
        prefix=f"test-{os.getpid()}-{next(_numbers)}",
    )
    return Bucketed(place, S3Blobs(lambda: place))


@pytest.fixture
def config() -> Config:
    """The configuration; a test that needs another overrides this fixture."""
    return Config.model_validate({"server": {"hostname": "mail.example.test"}})


def make_mail(database: Database, blobs: S3Blobs, config: Config, node: int = 1) -> Mail:
    """Build the store as a process has it; several may share a database and a bucket."""

    def now() -> datetime:
        return datetime.now(UTC)

    return Mail(
        database=database,
        blobs=blobs,
        events=Hub(),
        ids=Ids(node, now),
        metrics=Metrics("test"),
        config=config,
        now=now,
        passwords=Passwords(),
    )


@pytest_asyncio.fixture
async def mail(database: Database, bucket: Bucketed, config: Config) -> AsyncIterator[Mail]:
    """The store, empty but for the domain example.test; consistent when the test ends."""
    store = make_mail(database, bucket.blobs, config)
    await accounts.add_domain(store, "example.test")
    yield store
    await store.committer.drain()
    store.passwords.close()
    assert [difference async for difference in fsck.check(store, contents=True)] == []


@pytest_asyncio.fixture
async def alice(mail: Mail) -> Account:
    """The account alice@example.test."""
    return await accounts.create(mail, "alice@example.test", password=PASSWORD)


@pytest_asyncio.fixture
async def bob(mail: Mail) -> Account:
    """The account bob@example.test."""
    return await accounts.create(mail, "bob@example.test", password=PASSWORD)
