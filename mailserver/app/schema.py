"""Bring the schema up to date in a process of its own.

Alembic and SQLAlchemy would stay in the server's memory for ever; a child takes them with it.
"""

import logging
import sys

from mailserver.app.child import run_module
from mailserver.app.exits import Exit, exit_code, reason
from mailserver.errors import ConfigurationError, MailError, Unavailable
from mailserver.storage import migrate
from mailserver.storage.database import Database

log = logging.getLogger(__name__)


async def is_up_to_date(database: Database) -> bool:
    """Tell whether the schema is as new as this program, or newer.

    ConfigurationError when it is so new that this program cannot work with it any more.
    """
    version = await migrate.current(database)
    if version is None or version < migrate.newest():
        return False
    if version > migrate.newest():
        oldest = await migrate.oldest_supported(database)
        if oldest > migrate.newest():
            raise ConfigurationError(
                f"the schema is {version}, which programs for {oldest} and newer work with;"
                f" this one is for {migrate.newest()}: run a newer version of the program"
            )
    return True


async def bring_up_to_date(database: Database, dsn: str) -> None:
    """Migrate unless the schema is as new as this program, or newer: a rolling upgrade has both.

    Raises Unavailable, and ConfigurationError when PostgreSQL does not let us.
    """
    if await is_up_to_date(database):
        return
    version = await migrate.current(database)
    log.info("migrating the schema", extra={"from": version, "to": migrate.newest()})
    code = await run_module("mailserver.app.schema", dsn.encode())
    if code == Exit.CONFIGURATION:
        raise ConfigurationError("the schema cannot be migrated; the reason is above")
    if code != Exit.OK:
        raise Unavailable("the migration of the schema failed; its reason is above")


def main() -> int:
    """Migrate the database whose DSN comes on standard input."""
    try:
        migrate.upgrade(sys.stdin.read())
    except MailError as error:
        sys.stderr.write(f"mailserver: {reason(error)}\n")
        return exit_code(error)
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
