"""Bring the schema up to date in a process of its own.

Alembic and SQLAlchemy would stay in the server's memory for ever; a child takes them with it.
"""

import logging
import sys

from mailserver.app.child import run_module
from mailserver.errors import Unavailable
from mailserver.storage import migrate
from mailserver.storage.database import Database

log = logging.getLogger(__name__)


async def is_up_to_date(database: Database) -> bool:
    """Tell whether the schema is as new as this program, or newer."""
    version = await migrate.current(database)
    return version is not None and version >= migrate.newest()


async def bring_up_to_date(database: Database, dsn: str) -> None:
    """Migrate unless the schema is as new as this program, or newer: a rolling upgrade has both."""
    version = await migrate.current(database)
    if version is not None and version >= migrate.newest():
        return
    log.info("migrating the schema", extra={"from": version, "to": migrate.newest()})
    if not await run_module("mailserver.app.schema", dsn.encode()):
        raise Unavailable("the migration of the schema failed; its reason is above")


def main() -> None:
    """Migrate the database whose DSN comes on standard input."""
    migrate.upgrade(sys.stdin.read())


if __name__ == "__main__":
    main()
