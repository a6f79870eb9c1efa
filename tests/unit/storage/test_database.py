"""Which failures of PostgreSQL are worth another try."""

import asyncio

import asyncpg
import pytest

from mailserver.errors import Unavailable
from mailserver.storage.database import translated


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.AdminShutdownError("terminating connection"),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.TooManyConnectionsError("too many clients"),
        asyncpg.DiskFullError("no space"),
        asyncpg.DeadlockDetectedError("deadlock"),
        asyncpg.ReadOnlySQLTransactionError("read-only"),
        asyncpg.InvalidPasswordError("rotated"),
        asyncpg.InvalidCatalogNameError("no such database"),
        asyncpg.PostgresIOError("disk"),
        asyncpg.IdleInTransactionSessionTimeoutError("idle"),
        asyncpg.LockNotAvailableError("lock timeout"),
        asyncpg.InternalClientError("unexpected state"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InterfaceError("pool is closing"),
        asyncpg.InterfaceError("connection has been released back to the pool"),
    ],
    ids=repr,
)
def test_a_failure_that_passes_is_temporary(error: Exception) -> None:
    with pytest.raises(Unavailable) as raised, translated():
        raise error
    # the text may have a DSN in it, and goes to logs
    assert str(raised.value) == f"PostgreSQL: {type(error).__name__}"


@pytest.mark.parametrize(
    "error",
    [asyncpg.UniqueViolationError("key"), asyncpg.InterfaceError("bad value"), ValueError()],
    ids=repr,
)
def test_a_defect_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)), translated():
        raise error


def test_cancellation_passes_through() -> None:
    with pytest.raises(asyncio.CancelledError), translated():
        raise asyncio.CancelledError
