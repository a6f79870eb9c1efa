"""The connection pool to PostgreSQL, and where its failures get their neutral names."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import asyncpg

from mailserver.errors import Unavailable

if TYPE_CHECKING:
    Record: TypeAlias = asyncpg.Record
    Connection: TypeAlias = (
        asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    )
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    Record = asyncpg.Record
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

COMMAND_TIMEOUT = 60.0  # seconds
ACQUIRE_TIMEOUT = 15.0  # seconds; a client rather hears "later" than waits longer

# Plans must not depend on who ran a statement first: every statement is keyed by account_id, so
# the generic plan is the right one, and it is made once a connection.
SETTINGS = {
    "application_name": "mailserver",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "timezone": "UTC",
}

_TRANSIENT = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.OperatorInterventionError,  # class 57: shutdown, recovery, cancelled
    asyncpg.InsufficientResourcesError,  # class 53: connections, memory, disk
    asyncpg.TransactionRollbackError,  # class 40: deadlock, serialisation
    asyncpg.ReadOnlySQLTransactionError,  # a standby after a failover
    asyncpg.InvalidAuthorizationSpecificationError,  # a rotated password
    asyncpg.InvalidCatalogNameError,  # a database that is being restored
    asyncpg.PostgresSystemError,  # class 58: a disk that fails
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.LockNotAvailableError,  # a lock_timeout set by who runs the database
    asyncpg.InternalClientError,
)
_GONE = re.compile(r"clos|terminat|releas", re.IGNORECASE)


class Executor(Protocol):
    """What a statement needs: a database, or a connection inside a transaction."""

    async def fetch(self, query: str, *args: Any) -> list[Record]:
        """Return all rows."""
        ...

    async def fetchrow(self, query: str, *args: Any) -> Record | None:
        """Return the first row or None."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first column of the first row."""
        ...

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement and return its command tag."""
        ...


async def _keep_session(connection: "Connection") -> None:
    """Return a connection without the usual RESET ALL: nothing here changes a session's state."""


class Database:
    """A pool that opens when it is first used and outlives every restart of PostgreSQL."""

    def __init__(self, dsn: Callable[[], str], size: int) -> None:
        """Take the DSN as a function, asked for every new connection: passwords rotate."""
        self._dsn = dsn
        self._size = size
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()

    async def connect(self) -> "asyncpg.Connection[Record]":
        """Open a connection outside the pool, for LISTEN; the caller closes it."""
        with translated():
            return await asyncpg.connect(
                self._dsn(),
                timeout=ACQUIRE_TIMEOUT,
                command_timeout=COMMAND_TIMEOUT,
                server_settings=SETTINGS,
            )

    async def close(self) -> None:
        """Close every connection; running statements have five seconds to end."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), 5)
            except (TimeoutError, *_TRANSIENT):
                pool.terminate()

    async def _open(self) -> Pool:
        async with self._opening:
            if self._pool is None:

                async def connect(*args: Any, **options: Any) -> Any:
                    return await asyncpg.connect(self._dsn(), **options)

                self._pool = await asyncpg.create_pool(
                    min_size=0,
                    max_size=self._size,
                    max_inactive_connection_lifetime=300,
                    command_timeout=COMMAND_TIMEOUT,
                    timeout=ACQUIRE_TIMEOUT,
                    connect=connect,
                    reset=_keep_session,
                    server_settings=SETTINGS,
                )
            return self._pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["Connection"]:
        """Lend a connection; raise Unavailable when there is none or it breaks."""
        with translated():
            pool = self._pool or await self._open()
            async with pool.acquire(timeout=ACQUIRE_TIMEOUT) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Connection"]:
        """Lend a connection inside a transaction that commits when the block ends well."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, query: str, *args: Any) -> list[Record]:
        """Return all rows."""
        async with self.connection() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> Record | None:
        """Return the first row or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first column of the first row."""
        async with self.connection() as connection:
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement and return its command tag."""
        async with self.connection() as connection:
            return await connection.execute(query, *args)


class translated:  # noqa: N801  (reads as a word in a with statement)
    """Turn failures that the same request may survive later into Unavailable."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _TRANSIENT) or (
            isinstance(error, asyncpg.InterfaceError) and _GONE.search(str(error))
        ):
            raise Unavailable(f"PostgreSQL: {type(error).__name__}") from error
