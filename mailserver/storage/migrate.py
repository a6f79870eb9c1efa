"""Schema versions: Alembic over asyncpg, run before the server starts or by `migrate`.

Alembic and SQLAlchemy are imported inside the functions: the server asks only `current` and never
pays for them.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from mailserver.errors import ConfigurationError
from mailserver.storage.database import Executor, is_transient, translated

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory


def scripts() -> Path:
    """Return the folder with the migrations: beside the package, or inside it in a wheel."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def newest() -> str:
    """Return the version this program was built for, without loading Alembic."""
    return max(path.name.split("_", 1)[0] for path in (scripts() / "versions").glob("[0-9]*.py"))


async def current(database: Executor) -> str | None:
    """Return the version of the schema; None before the first migration."""
    known = await database.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
    if not known:
        return None
    version: str | None = await database.fetchval("SELECT version_num FROM alembic_version")
    return version


async def oldest_supported(database: Executor) -> str:
    """Return the oldest version whose program works with the schema as it is.

    A migration that takes away what older programs need raises it.
    """
    known = await database.fetchval("SELECT to_regclass('schema_support') IS NOT NULL")
    if not known:
        return ""
    oldest: str = await database.fetchval("SELECT oldest FROM schema_support")
    return oldest


def _directory() -> "ScriptDirectory":
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(scripts()))


def plan(version: str | None) -> list[tuple[str, str]]:
    """Return what is still to do as (version, first line of its description), oldest first."""
    revisions = _directory().iterate_revisions("head", version or "base")
    return [(revision.revision, revision.doc) for revision in reversed(list(revisions))]


def upgrade(dsn: str) -> None:
    """Bring the schema to the newest version; safe to call from several nodes at once.

    Runs an event loop of its own: from a coroutine call it in a thread. Raises Unavailable, and
    ConfigurationError when PostgreSQL refuses a step, of which nothing is left then.
    """
    from sqlalchemy.exc import DBAPIError

    try:
        with translated():
            asyncio.run(_upgrade(dsn))
    except (DBAPIError, asyncpg.PostgresError) as error:
        cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
        with translated():
            if isinstance(cause, asyncpg.PostgresError) and not is_transient(cause):
                raise ConfigurationError(f"the schema cannot be migrated: {cause}") from error
            raise (cause or error) from error


async def _upgrade(dsn: str) -> None:
    from sqlalchemy import Connection, pool
    from sqlalchemy.ext.asyncio import create_async_engine

    async def connect() -> Any:
        # behind a transaction pooler no statement stays prepared
        return await asyncpg.connect(dsn, statement_cache_size=0)

    def migrate(connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=connect, poolclass=pool.NullPool
    )
    try:
        async with engine.begin() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()
