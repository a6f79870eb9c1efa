"""A base backup and the WAL bring PostgreSQL back to a moment; the bucket stays as it is now."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from mailserver.config import Config
from mailserver.errors import CannotCalculateChanges
from mailserver.mail import accounts, changes, content, delivery, listings, mailboxes, messages
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import DELETED, Account, EmailId, Flags
from mailserver.runtime.embedded.postgres import Postgres, installation
from mailserver.storage import migrate
from mailserver.storage.database import Database
from mailserver.storage.mover import Mover
from tests.conftest import Bucketed, make_mail
from tests.running import run_command

pytestmark = pytest.mark.faults

LOGIN = "alice@example.test"


@dataclass
class Site:
    """A live store, and what a backup of it consists of."""

    directory: Path
    postgres: Postgres
    mail: Mail
    mover: Mover
    bucket: Bucketed
    alice: Account

    @property
    def archive(self) -> Path:
        """Where PostgreSQL puts its WAL."""
        return self.directory / "archive"

    async def deliver(self, name: str, flags: int = 0) -> None:
        raw = f"Subject: {name}\r\nMessage-ID: <{name}@example.org>\r\n\r\n{name}\r\n".encode()
        target = Target(self.alice.id, flags=Flags(flags))
        await delivery.accept(self.mail, raw, [target], received_at=self.mail.now())

    async def expunge(self) -> None:
        """Remove what was delivered with \\Deleted."""
        box = await mailboxes.by_path(self.mail, self.alice.id, "INBOX")
        assert len(await messages.expunge(self.mail, self.alice.id, box.id, None)) == 1

    async def to_bucket(self) -> None:
        """Move every body to S3, so that only the bucket has it."""
        await self.mover.copy()
        await self.mover.drop()

    async def back_up(self) -> Path:
        """Take a base backup, as docs/operate.md says."""
        parts = urlsplit(self.postgres.dsn())
        query = parse_qs(parts.query)
        backup = self.directory / "backup"
        program = installation() / "bin" / "pg_basebackup"
        await asyncio.to_thread(
            subprocess.run,
            [str(program), "--pgdata", str(backup), "--checkpoint=fast", "--wal-method=none"],
            env={
                "PGHOST": query["host"][0],
                "PGPORT": query["port"][0],
                "PGUSER": parts.username or "",
                "PGPASSWORD": parts.password or "",
            },
            check=True,
            capture_output=True,
        )
        return backup

    async def archived(self) -> None:
        """Wait until all WAL up to now is in the archive."""
        switched = await self.mail.database.fetchval("SELECT pg_walfile_name(pg_switch_wal())")
        async with asyncio.timeout(60):
            while not (self.archive / switched).exists():
                await self.mail.database.fetchval("SELECT pg_sleep(0.05)")

    def config_for(self, postgres: Postgres) -> Path:
        """Write a configuration file for a database and the bucket of the site."""
        place = self.bucket.bucket
        file = self.directory / f"{postgres.directory.name}.toml"
        file.write_text(
            f"[database]\nurl = {json.dumps(postgres.dsn())}\n"
            f'[s3]\nendpoint = "{place.endpoint}"\nbucket = "{place.bucket}"\n'
            f'prefix = "{place.prefix}"\naccess_key = "{place.access_key}"\n'
            f'secret_key = "{place.secret_key}"\n'
        )
        return file


@pytest_asyncio.fixture
async def site(tmp_path: Path, bucket: Bucketed) -> AsyncIterator[Site]:
    archive = tmp_path / "archive"
    archive.mkdir()
    archive.chmod(0o777)  # PostgreSQL may run as another user than the tests
    tmp_path.chmod(0o711)
    # a file that is there is whole
    keep = f"cp %p {archive}/%f.new && mv {archive}/%f.new {archive}/%f"
    settings = {"archive_mode": "on", "archive_command": keep}
    postgres = Postgres(tmp_path / "live", settings=settings)
    await postgres.start()
    await asyncio.to_thread(migrate.upgrade, postgres.dsn())
    database = Database(postgres.dsn, size=4)
    config = Config.model_validate(
        {"server": {"hostname": "mail.example.test"}, "mover": {"copy_after": 0, "drop_after": 0}}
    )
    mail = make_mail(database, bucket.blobs, config)

    async def barrier() -> None:
        pass

    mover = Mover(
        database, mail.blobs, mail.ids, config.mover, mail.metrics, mail.now, "test", barrier
    )
    await accounts.add_domain(mail, "example.test")
    alice = await accounts.create(mail, LOGIN, password="correct horse")
    yield Site(tmp_path, postgres, mail, mover, bucket, alice)
    await mail.committer.drain()
    mail.passwords.close()
    await database.close()
    await postgres.stop()


@pytest_asyncio.fixture
async def restored(site: Site) -> AsyncIterator[Postgres]:
    """The database as it was before the accident: one message came after it, another went."""
    await site.deliver("before-the-backup")
    await site.deliver("destroyed-by-accident", DELETED)
    await site.to_bucket()
    backup = await site.back_up()
    await site.deliver("after-the-backup")
    await site.to_bucket()
    moment = await site.mail.database.fetchval("SELECT clock_timestamp()::text")
    await site.deliver("after-the-moment")
    await site.to_bucket()
    await site.expunge()
    assert await site.mover.collect() == 0  # the body stays for the grace time
    await site.archived()
    postgres = Postgres(site.directory / "restored")
    postgres.directory.mkdir()
    shutil.copy(site.postgres.directory / "password", postgres.directory / "password")
    await asyncio.to_thread(shutil.copytree, backup, postgres.data)
    with (postgres.data / "postgresql.auto.conf").open("a") as settings:
        settings.write(
            f"restore_command = 'cp {site.archive}/%f %p'\n"
            f"recovery_target_time = '{moment}'\nrecovery_target_action = 'promote'\n"
        )
    (postgres.data / "recovery.signal").touch()
    own(postgres, site.postgres)
    await postgres.start()
    await promoted(postgres)
    yield postgres
    await postgres.stop()


def own(postgres: Postgres, like: Postgres) -> None:
    """Give the restored files to the user that PostgreSQL runs as."""
    owner = like.data.stat()
    for path in [postgres.data, *postgres.data.rglob("*")]:
        shutil.chown(path, owner.st_uid, owner.st_gid)
    postgres.data.chmod(0o700)


async def promoted(postgres: Postgres) -> None:
    database = Database(postgres.dsn, size=4)
    async with asyncio.timeout(60):
        while await database.fetchval("SELECT pg_is_in_recovery()"):
            await database.fetchval("SELECT pg_sleep(0.05)")
    await database.close()


async def inbox(mail: Mail, account: Account) -> dict[int, str]:
    """Return the subjects of an INBOX by UID, each read from its body."""
    box = await mailboxes.by_path(mail, account.id, "INBOX")
    listing = await listings.open_listing(mail, account.id, box.id)
    found = await messages.emails(mail, account.id, list(listing.email_ids))
    blobs = [email.blob_id for email in found.values()]
    bodies = await content.contents(mail, account.id, blobs)
    return {
        uid: bodies[found[email].blob_id].split(b"\r\n")[0].removeprefix(b"Subject: ").decode()
        for uid, email in zip(listing.uids, map(EmailId, listing.email_ids), strict=True)
    }


async def command(*arguments: str, codes: tuple[int, ...] = (0,)) -> Any:
    return json.loads(await asyncio.to_thread(run_command, *arguments, "--json", codes=codes))


async def test_all_mail_up_to_the_moment_is_there(site: Site, restored: Postgres) -> None:
    at = ("--config", str(site.config_for(restored)))
    before = await mailboxes.by_path(site.mail, site.alice.id, "INBOX")
    told = await accounts.find(site.mail, LOGIN)
    report = await command("fsck", "--after-restore", "--contents", *at)
    assert report["differences"] == []
    database = Database(restored.dsn, size=4)
    mail = make_mail(database, site.bucket.blobs, site.mail.config, node=2)
    alice = await accounts.find(mail, LOGIN)
    assert list((await inbox(mail, alice)).values()) == [
        "before-the-backup",
        "destroyed-by-accident",
        "after-the-backup",
    ]
    # what clients were told after the moment must not seem to be about what comes now
    assert (await mailboxes.by_path(mail, alice.id, "INBOX")).uidvalidity > before.uidvalidity
    with pytest.raises(CannotCalculateChanges):
        await changes.since(mail, alice.id, told.modseq, limit=None)
    await delivery.accept(mail, b"Subject: new\r\n\r\n", [Target(alice.id)], received_at=mail.now())
    with pytest.raises(CannotCalculateChanges):
        await changes.since(mail, alice.id, told.modseq, limit=None)
    mail.passwords.close()
    await database.close()


async def test_what_an_account_lost_comes_back(site: Site, restored: Postgres) -> None:
    """The restored database beside the live one: nobody else goes back in time."""
    old, live = str(site.config_for(restored)), str(site.config_for(site.postgres))
    files = site.directory / "alice"
    await command("export", str(files), "--account", LOGIN, "--format", "maildir", "--config", old)
    await command("import", str(files), "--account", LOGIN, "--skip-duplicates", "--config", live)
    assert sorted((await inbox(site.mail, site.alice)).values()) == [
        "after-the-backup",
        "after-the-moment",
        "before-the-backup",
        "destroyed-by-accident",
    ]


async def test_one_message_comes_back(site: Site, restored: Postgres) -> None:
    old, live = str(site.config_for(restored)), str(site.config_for(site.postgres))
    files = site.directory / "one"
    await command(
        "export", str(files), "--account", LOGIN, "--format", "eml", "--config", old,
        "--message-id", "<destroyed-by-accident@example.org>",
    )  # fmt: skip
    assert len(list(files.rglob("*.eml"))) == 1
    await command("import", str(files), "--account", LOGIN, "--config", live)
    assert "destroyed-by-accident" in (await inbox(site.mail, site.alice)).values()


async def test_a_body_is_collected_after_the_grace_time_only(site: Site) -> None:
    await site.deliver("destroyed", DELETED)
    await site.to_bucket()
    await site.expunge()
    now, grace = site.mail.now, timedelta(seconds=site.mail.config.mover.grace)
    mover = site.mover
    mover._now = lambda: now() + grace - timedelta(hours=1)
    assert await mover.collect() == 0
    mover._now = lambda: now() + grace + timedelta(hours=1)
    assert await mover.collect() == 1
