"""The store of mail for a command: through a running server's services, or with its own."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mailserver.app import presence, schema, store
from mailserver.app.backends import Backends, Embedded, external, published
from mailserver.app.background import Background
from mailserver.app.secret import with_key
from mailserver.auth.passwords import Passwords
from mailserver.config import Config
from mailserver.config_file import load
from mailserver.errors import ConfigurationError, Unavailable
from mailserver.mail.context import Mail
from mailserver.metrics import Metrics
from mailserver.storage import leases, migrate
from mailserver.storage.blobs import S3Blobs
from mailserver.storage.database import Database

DEFAULT_DIRECTORY = Path(".data")
TELL_TIME = 5.0  # seconds for the notifier to say what the command changed


@dataclass(frozen=True, slots=True)
class Access:
    """What a command works with."""

    config: Config
    backends: Backends
    database: Database
    blobs: S3Blobs
    mail: Mail
    shared: bool  # other processes may be at work on the same store
    directory: Path | None  # of embedded services

    @property
    def embedded(self) -> bool:
        """Whether PostgreSQL and S3 are embedded ones, here or in another process."""
        return self.directory is not None


@dataclass(frozen=True, slots=True)
class Reach:
    """Where the services are."""

    config: Config
    backends: Backends
    own: bool  # they run for this command alone
    directory: Path | None


@asynccontextmanager
async def access(
    data_dir: Path | None, file: Path | None, environment: Mapping[str, str]
) -> AsyncIterator[Access]:
    """Open the store: below `data_dir`, or where the configuration says; close it afterwards.

    With neither, the environment decides, and then `.data` in the current folder.
    """
    async with services(data_dir, file, environment) as reach:
        config = reach.config
        database = store.open_database(config, reach.backends)
        metrics = Metrics(config.metrics.prefix)
        background = Background(metrics)
        # Nobody logs in here: every core may hash the passwords of new accounts.
        passwords = Passwords(os.cpu_count() or 2)
        try:
            if reach.own:
                await schema.bring_up_to_date(database, reach.backends.direct_dsn())
            else:
                await _require_schema(database)
            blobs = store.open_blobs(reach.backends)
            name = store.process_name()
            mail = await store.open_mail(config, database, blobs, passwords, metrics, name)
            try:
                notifier = store.tell_others(mail, reach.backends, background, name)
                yield Access(
                    config, reach.backends, database, blobs, mail, not reach.own, reach.directory
                )
                await mail.committer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(notifier.sent.wait(), TELL_TIME)
            finally:
                # commands of a script would use up the numbers of nodes
                with suppress(Unavailable):
                    await leases.give_back(database, name)
        finally:
            await background.stop()
            passwords.close()
            await database.close()


@asynccontextmanager
async def services(
    data_dir: Path | None, file: Path | None, environment: Mapping[str, str]
) -> AsyncIterator[Reach]:
    """Find the services, or start embedded ones for as long as they are needed."""
    config = load(file, environment).config
    directory = data_directory(data_dir, config)
    if directory is None:
        if not config.database.url.get_secret_value():
            raise ConfigurationError(
                "where is the mail? Give --data-dir DIR, --config FILE or MAILSERVER_DATABASE__URL"
            )
        yield Reach(config, external(config), own=False, directory=None)
        return
    config = with_key(config, directory)
    document = await presence.find(directory)
    if document is not None:
        yield Reach(config, published(document), own=False, directory=directory)
        return
    claim = presence.Presence(directory)
    await claim.claim()
    try:
        embedded = Embedded(directory)
        await embedded.start()
        try:
            yield Reach(config, embedded.backends(), own=True, directory=directory)
        finally:
            await embedded.stop()
    finally:
        claim.release()


def data_directory(data_dir: Path | None, config: Config) -> Path | None:
    """Return the data directory of embedded services, None when they are external."""
    if data_dir is not None:
        if not data_dir.is_dir():
            raise ConfigurationError(f"{data_dir}: no such folder; `mailserver dev` makes one")
        return data_dir.absolute()
    if config.embedded.enabled:
        return config.embedded.data_dir.absolute()
    if not config.database.url.get_secret_value() and DEFAULT_DIRECTORY.is_dir():
        return DEFAULT_DIRECTORY.absolute()
    return None


async def _require_schema(database: Database) -> None:
    if not await schema.is_up_to_date(database):
        version = await migrate.current(database)
        raise Unavailable(
            f"the schema is {version or 'empty'}, this program needs {migrate.newest()}:"
            " run `mailserver migrate`"
        )
