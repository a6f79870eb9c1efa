"""The connection pool to PostgreSQL, and where its failures get their neutral names."""

import asyncio
import itertools
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import asyncpg

from mailserver.errors import Unavailable
from mailserver.storage.connect import Connector

if TYPE_CHECKING:
    Record: TypeAlias = asyncpg.Record
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    Pooled: TypeAlias = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Statement: TypeAlias = asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]
else:
    Record = asyncpg.Record

T = TypeVar("T")

COMMAND_TIMEOUT = 60.0  # seconds
ACQUIRE_TIMEOUT = 15.0  # seconds; a client rather hears "later" than waits longer
IDLE_TIME = 300.0  # seconds after which a connection that nobody needs is let go
FEW = 5  # connections that are lent at once as long as nobody waits long for one
PATIENCE = 0.025  # seconds; when somebody has waited so long one more is lent
STATEMENTS = 300  # prepared on a connection; every text is written out in this package

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
    asyncpg.InvalidCachedStatementError,  # a migration changed what it reads: prepared anew
    asyncpg.InvalidSQLStatementNameError,  # a pooler gave us another backend
    asyncpg.ClientConfigurationError,  # a DSN that was renewed and cannot be read
)
# after these nobody knows the state of a connection without looking
_DOUBTFUL = (
    OSError,
    asyncio.TimeoutError,
    asyncio.CancelledError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_GONE = re.compile(r"clos|terminat|releas", re.IGNORECASE)


# PostgreSQL was reached, and says what is wrong with the DSN
_REFUSALS: tuple[tuple[type[Exception], str], ...] = (
    (asyncpg.InvalidAuthorizationSpecificationError, "PostgreSQL does not let this user in"),
    (asyncpg.InvalidCatalogNameError, "there is no such database"),
    (asyncpg.ClientConfigurationError, "it cannot be read"),
)


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may succeed later."""
    return isinstance(error, _TRANSIENT) or (
        isinstance(error, asyncpg.InterfaceError) and _GONE.search(str(error)) is not None
    )


def refusal(error: BaseException) -> str | None:
    """Say what is wrong with the DSN when that is why `error` was raised, else None."""
    cause = error.__cause__
    return next((text for kind, text in _REFUSALS if isinstance(cause, kind)), None)


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


class Connection:
    """One connection; statements are prepared when they are first used."""

    __slots__ = ("_names", "_statements", "pool", "raw", "since")

    def __init__(self, pool: "Pool", raw: "Pooled", names: Iterator[str] | None) -> None:
        """Take names for prepared statements; None where the server cannot keep any."""
        self.pool = pool
        self.raw = raw
        self._names = names
        self.since = 0.0  # loop time at which it was last given back
        self._statements: dict[str, Statement] = {}

    @property
    def closed(self) -> bool:
        """Whether it has broken, or was closed by the pool."""
        try:
            return self.raw.is_closed()
        except asyncpg.InterfaceError:  # the pool has noticed before us
            return True

    async def _prepared(self, query: str) -> "Statement":
        statement = self._statements.get(query)
        if statement is None:
            if len(self._statements) >= STATEMENTS:
                self._statements.clear()
            name = None if self._names is None else next(self._names)
            statement = self._statements[query] = await self.raw.prepare(query, name=name)
        return statement

    async def fetch(self, query: str, *args: Any) -> list[Record]:
        """Return all rows."""
        statement = self._statements.get(query) or await self._prepared(query)
        return await statement.fetch(*args)

    async def fetchrow(self, query: str, *args: Any) -> Record | None:
        """Return the first row or None."""
        statement = self._statements.get(query) or await self._prepared(query)
        return await statement.fetchrow(*args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first column of the first row."""
        statement = self._statements.get(query) or await self._prepared(query)
        return await statement.fetchval(*args)

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement and return its command tag."""
        if not args:
            return await self.raw.execute(query)
        statement = self._statements.get(query) or await self._prepared(query)
        await statement.fetch(*args)
        return statement.get_statusmsg() or ""


async def _keep_session(connection: Any) -> None:
    """Return a connection without the usual RESET ALL: nothing here changes a session's state."""


class Database:
    """A pool that opens when it is first used and outlives every restart of PostgreSQL.

    Connections that are given back in good order wait here with their prepared statements: a query
    costs a fifth of what it costs through the pool, which still opens, checks and closes them.

    A process keeps few backends busy, and few that are always at work cost less CPU than many in
    turn, each with plans and caches of its own. More are lent where they take long.
    """

    def __init__(self, dsn: Callable[[], str], size: int, *, patience: float = PATIENCE) -> None:
        """Take the DSN as a function, asked for every new connection: passwords rotate."""
        self._connector = Connector(dsn)
        self._names = map("statement_{}".format, itertools.count())
        self._size = size
        self._patience = patience
        self._enough = min(FEW, size)  # that are lent at once
        self._growth: asyncio.TimerHandle | None = None  # looks whether somebody waits long
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()
        self._idle: list[Connection] = []  # the one used last at the end
        self.used_at = 0.0  # loop time at which a connection was last given back
        self._held = 0  # connections out of the pool: lent, idle and being opened
        # until which loop time each waits, longest first; None is given where a place is free
        self._turns: deque[tuple[float, asyncio.Future[Connection | None]]] = deque()
        # one for all: a timer costs as much as a query
        self._expiry: asyncio.TimerHandle | None = None

    async def connect(self) -> "asyncpg.Connection[Record]":
        """Open a connection outside the pool, for LISTEN; the caller closes it."""
        with translated():
            return await self._connector.open(
                timeout=ACQUIRE_TIMEOUT, command_timeout=COMMAND_TIMEOUT
            )

    @property
    def pooled(self) -> bool:
        """Whether a pooler was seen in front of PostgreSQL."""
        return self._connector.pooled

    async def close(self) -> None:
        """Close every connection; running statements have five seconds to end."""
        pool, self._pool = self._pool, None
        if self._expiry is not None:
            self._expire()
        if pool is None:
            return
        idle, self._idle = self._idle, []
        try:
            async with asyncio.timeout(5):
                for connection in idle:
                    await self._release(connection)
                await pool.close()
        except (TimeoutError, *_TRANSIENT):
            pool.terminate()

    async def _open(self) -> "Pool":
        async with self._opening:
            if self._pool is None:

                async def connect(*args: Any, **options: Any) -> Any:
                    return await self._connector.open(**options)

                self._pool = await asyncpg.create_pool(
                    min_size=0,
                    max_size=self._size,
                    max_inactive_connection_lifetime=IDLE_TIME,
                    command_timeout=COMMAND_TIMEOUT,
                    timeout=ACQUIRE_TIMEOUT,
                    connect=connect,
                    reset=_keep_session,
                )
            return self._pool

    @property
    def lent(self) -> int:
        """How many connections are in use, or being opened."""
        return self._held - len(self._idle)

    @property
    def idle(self) -> int:
        """How many connections wait to be used."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many wait for a connection."""
        return sum(not turn.done() for _, turn in self._turns)

    async def take(self) -> Connection:
        """Take a connection: one that waits, else a new one of the pool, else wait for one."""
        while self._idle and self.lent < self._enough:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
            await self._release(connection)
        if self._held < self._size and self.lent < self._enough:
            self._held += 1
        elif (given := await self._turn()) is not None:
            return given
        try:
            pool = self._pool or await self._open()
            raw = await pool.acquire(timeout=ACQUIRE_TIMEOUT)
            return Connection(pool, raw, None if self.pooled else self._names)
        except BaseException:
            self._leave()
            raise

    async def _turn(self) -> Connection | None:
        """Wait for a connection that is given back, or for a place (None)."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Connection | None] = loop.create_future()
        until = loop.time() + ACQUIRE_TIMEOUT
        self._turns.append((until, turn))
        if self._expiry is None:
            self._expiry = loop.call_at(until, self._expire)
        if self._growth is None and self._enough < self._size:
            self._growth = loop.call_later(self._patience, self._lend_more)
        try:
            return await turn
        except BaseException:
            # served and cut in the same moment
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                given = turn.result()
                if given is None:
                    self._leave()
                else:
                    await self.give(given)
            raise

    def _expire(self) -> None:
        """Let go of those who have waited too long."""
        loop = asyncio.get_running_loop()
        while self._turns and (self._turns[0][1].done() or self._turns[0][0] <= loop.time()):
            _, turn = self._turns.popleft()
            if not turn.done():
                turn.set_exception(TimeoutError())
        self._expiry = loop.call_at(self._turns[0][0], self._expire) if self._turns else None

    def _lend_more(self) -> None:
        """Let one more be lent, if somebody has waited long; look again as long as anybody does."""
        self._growth = None
        loop = asyncio.get_running_loop()
        since = next((until for until, turn in self._turns if not turn.done()), None)
        if since is None or self._enough == self._size:
            return
        due = since - ACQUIRE_TIMEOUT + self._patience
        if due <= loop.time():
            self._enough += 1
            if self._idle and not self._idle[-1].closed:
                self._serve(self._idle.pop())
            elif self._held < self._size:
                self._held += 1
                self._serve(None)
            due = loop.time() + self._patience
        self._growth = loop.call_at(due, self._lend_more)

    def _serve(self, given: Connection | None) -> bool:
        """Hand something to the one who waits longest; False when nobody waits."""
        while self._turns:
            _, turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(given)
                return True
        return False

    def _leave(self) -> None:
        """Give up a place."""
        if not self._serve(None):
            self._held -= 1

    async def give(self, connection: Connection, *, doubtful: bool = False) -> None:
        """Take back a connection; the pool looks after a doubtful one and one that has broken."""
        if doubtful or connection.closed or connection.pool is not self._pool:
            await self._release(connection)
        elif not self._serve(connection):
            now = connection.since = self.used_at = asyncio.get_running_loop().time()
            self._idle.append(connection)
            if self._idle[0].since < now - IDLE_TIME:
                await self._release(self._idle.pop(0))

    def _keep(self, connection: Connection) -> bool:
        """Take back a connection that has just served well; False when more than that is to do."""
        if self._turns or connection.pool is not self._pool:
            return False
        now = connection.since = self.used_at = asyncio.get_running_loop().time()
        self._idle.append(connection)
        if len(self._idle) == self._held:
            self._enough = min(FEW, self._size)  # nobody is served: it begins anew
        if self._idle[0].since >= now - IDLE_TIME:
            return True
        self._idle.pop()
        return False

    async def _release(self, connection: Connection) -> None:
        """Leave it to the pool, which waits for what is under way and drops what is broken."""
        try:
            await connection.pool.release(connection.raw)
        finally:
            self._leave()

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """Lend a connection; raise Unavailable when there is none or it breaks."""
        return _Lent(self)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection inside a transaction that commits when the block ends well."""
        async with _Lent(self) as connection:
            try:  # BEGIN too: whoever gave up during it left a transaction open
                await connection.raw.execute("BEGIN")
                yield connection
            except BaseException:
                if not connection.closed:
                    await connection.raw.execute("ROLLBACK")
                raise
            await connection.raw.execute("COMMIT")

    async def fetch(self, query: str, *args: Any) -> list[Record]:
        """Return all rows."""
        return await self._run(Connection.fetch, query, args)

    async def fetchrow(self, query: str, *args: Any) -> Record | None:
        """Return the first row or None."""
        return await self._run(Connection.fetchrow, query, args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first column of the first row."""
        return await self._run(Connection.fetchval, query, args)

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement and return its command tag."""
        return await self._run(Connection.execute, query, args)

    async def _run(self, method: Callable[..., Awaitable[T]], query: str, args: Sequence[Any]) -> T:
        """Run one statement on a connection that waits, without the detours of `_Lent`."""
        idle = self._idle
        if idle and self._held - len(idle) < self._enough and not idle[-1].closed:
            connection = idle.pop()
            try:
                result = await method(connection, query, *args)
            except BaseException as error:
                with translated():
                    await self.give(connection, doubtful=isinstance(error, _DOUBTFUL))
                    raise
            if not self._keep(connection):
                await self.give(connection)
            return result
        async with _Lent(self) as connection:
            return await method(connection, query, *args)


class _Lent:
    """A connection for one block: every statement passes here, so it is no generator."""

    __slots__ = ("_connection", "_database")

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> Connection:
        with translated():
            self._connection = await self._database.take()
        return self._connection

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with translated():
            await self._database.give(self._connection, doubtful=isinstance(error, _DOUBTFUL))
            if error is not None:
                raise error


class translated:  # noqa: N801  (reads as a word in a with statement)
    """Turn failures that the same request may survive later into Unavailable."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and is_transient(error):
            raise Unavailable(f"PostgreSQL: {type(error).__name__}") from error
