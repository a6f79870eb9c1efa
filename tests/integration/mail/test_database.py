"""The connections to PostgreSQL: shared in turn, kept with what they have prepared, replaced."""

import asyncio
import contextlib
import gc
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from mailserver.errors import NotFound, Unavailable
from mailserver.model import AccountId
from mailserver.storage import accounts
from mailserver.storage import database as pool
from mailserver.storage.connect import Connector
from mailserver.storage.database import FEW, Database
from mailserver.storage.ids import NODE_LEASE, keep_node, take_node

PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE $1"


async def backend(database: Database) -> int:
    pid: int = await database.fetchval("SELECT pg_backend_pid()")
    return pid


async def terminate(dsn: str, pid: int) -> None:
    other = await asyncpg.connect(dsn)
    await other.execute("SELECT pg_terminate_backend($1)", pid)
    while await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid):
        pass
    await other.close()


async def refused(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("CREATE TABLE scratch (x int)")
        raise NotFound("what was asked for")


async def divided(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("CREATE TABLE scratch (x int)")
        await tx.fetchval("SELECT 1 / $1::int", 0)


async def test_more_askers_than_connections(dsn: str) -> None:
    database = Database(lambda: dsn, size=2)
    pids = await asyncio.gather(*(backend(database) for _ in range(50)))
    assert len(set(pids)) <= 2
    await database.close()


async def test_few_connections_serve_many_short_statements(dsn: str) -> None:
    database = Database(lambda: dsn, size=2 * FEW, patience=60)
    pids = await asyncio.gather(*(backend(database) for _ in range(50)))
    assert len(set(pids)) <= FEW
    assert (database.lent, database.waiting) == (0, 0)
    await database.close()


async def test_whoever_waits_long_gets_another_connection(dsn: str) -> None:
    database = Database(lambda: dsn, size=FEW + 2, patience=0.001)
    async with AsyncExitStack() as stack:
        for _ in range(FEW):
            await stack.enter_async_context(database.connection())
        pids = await asyncio.wait_for(asyncio.gather(*(backend(database) for _ in range(9))), 60)
        assert 1 <= len(set(pids)) <= 2
        assert database.lent == FEW
        # those that were opened for it are lent again
        assert await asyncio.wait_for(backend(database), 60) in pids
    assert database.lent == 0
    await database.close()


async def test_who_waits_for_one_of_few_and_is_cut_takes_no_place(dsn: str) -> None:
    database = Database(lambda: dsn, size=FEW + 1, patience=60)
    async with AsyncExitStack() as stack:
        for _ in range(FEW):
            await stack.enter_async_context(database.connection())
        waiting = [asyncio.create_task(backend(database)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    waiting[1].cancel()
    assert await asyncio.wait_for(waiting[2], 60)
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    assert (database.lent, database.waiting) == (0, 0)
    await database.close()


async def test_a_statement_is_prepared_once(dsn: str) -> None:
    database = Database(lambda: dsn, size=1)
    for _ in range(3):
        await accounts.modseq(database, AccountId(1))
        await accounts.domain_exists(database, "example.test")
    assert await database.fetchval(PREPARED, "SELECT modseq FROM account%") == 1
    await database.close()


async def test_who_waits_and_is_cut_takes_no_place(dsn: str) -> None:
    database = Database(lambda: dsn, size=1)
    async with database.connection():
        waiting = [asyncio.create_task(backend(database)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    # this one was given the connection in the same step in which it is cut
    waiting[1].cancel()
    assert await asyncio.wait_for(waiting[2], 60)
    assert await asyncio.wait_for(backend(database), 60)
    assert waiting[0].cancelled()
    assert waiting[1].cancelled()
    await database.close()


async def test_who_waits_too_long_hears_so(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(lambda: dsn, size=1)
    async with database.connection():
        monkeypatch.setattr(pool, "ACQUIRE_TIMEOUT", 0.1)
        early = [asyncio.create_task(backend(database)) for _ in range(3)]
        await asyncio.sleep(0)
        early[1].cancel()
        monkeypatch.setattr(pool, "ACQUIRE_TIMEOUT", 0.2)
        late = asyncio.create_task(backend(database))
        for each in (early[0], early[2], late):
            with pytest.raises(Unavailable):
                await asyncio.wait_for(each, 60)
        assert database.waiting == 0
        monkeypatch.setattr(pool, "ACQUIRE_TIMEOUT", 60.0)
        patient = asyncio.create_task(backend(database))
        await asyncio.sleep(0)
        assert database.waiting == 1
    assert await asyncio.wait_for(patient, 60)
    await database.close()


async def test_a_statement_that_is_cut_leaves_a_connection_that_works(dsn: str) -> None:
    database = Database(lambda: dsn, size=1)
    pid = await backend(database)
    sleeping = asyncio.create_task(database.fetchval("SELECT pg_sleep(60)"))
    other = await asyncpg.connect(dsn)
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'"
    while not await other.fetchval(asleep, pid):
        pass
    await other.close()
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert await asyncio.wait_for(backend(database), 60)
    await database.close()


async def test_an_idle_connection_that_died_is_replaced(dsn: str) -> None:
    database = Database(lambda: dsn, size=1)
    first = await backend(database)
    await terminate(dsn, first)
    try:
        second = await backend(database)
    except Unavailable:  # the news had not come yet
        second = await backend(database)
    assert second != first
    await database.close()


async def test_a_refusal_keeps_the_connection_and_rolls_back(dsn: str) -> None:
    database = Database(lambda: dsn, size=1)
    pid = await backend(database)
    with pytest.raises(NotFound):
        await refused(database)
    assert await backend(database) == pid
    assert await database.fetchval("SELECT to_regclass('scratch')") is None
    await database.close()


async def test_a_connection_that_broke_is_given_to_nobody(dsn: str) -> None:
    database = Database(lambda: dsn, size=1)

    async def break_and_refuse() -> None:
        async with database.transaction() as tx:
            await terminate(dsn, await tx.fetchval("SELECT pg_backend_pid()"))
            async with asyncio.timeout(60):
                while not tx.closed:
                    await asyncio.sleep(0)
            raise NotFound("what was asked for")

    refusing = asyncio.create_task(break_and_refuse())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(backend(database))
    with pytest.raises(NotFound):
        await refusing
    assert await asyncio.wait_for(waiting, 60)
    await database.close()


async def test_an_error_in_a_transaction_rolls_back(dsn: str) -> None:
    database = Database(lambda: dsn, size=1)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await divided(database)
    assert await database.fetchval("SELECT to_regclass('scratch')") is None
    await database.close()


async def test_what_a_migration_changes_is_prepared_anew(dsn: str) -> None:
    database = Database(lambda: dsn, size=1)
    await database.execute("CREATE TABLE scratch (x int)")
    query = "SELECT * FROM scratch WHERE x = $1"
    assert await database.fetch(query, 1) == []
    await database.execute("ALTER TABLE scratch ADD COLUMN y int")
    await database.execute("INSERT INTO scratch VALUES ($1, $2)", 1, 2)
    with pytest.raises(Unavailable):
        await database.fetch(query, 1)
    assert [tuple(row) for row in await database.fetch(query, 1)] == [(1, 2)]
    await database.close()


async def test_a_node_number_is_never_taken_twice(database: Database) -> None:
    """The numbers come round after 1,024 starts; who still runs keeps its own."""
    now = datetime(2026, 11, 27, tzinfo=UTC)
    first = await take_node(database, "long-lived", now)
    await database.execute("SELECT setval('node', $1::bigint)", (first - 1) % 1024)
    assert await take_node(database, "next", now) == (first + 1) % 1024
    await database.execute("SELECT setval('node', $1::bigint)", (first - 1) % 1024)
    late = now + NODE_LEASE + timedelta(seconds=1)
    assert not await keep_node(database, first, "another", now)
    assert await take_node(database, "after its death", late) == first
    assert not await keep_node(database, first, "long-lived", late)


async def test_who_gives_up_while_a_connection_opens_leaves_none_behind(dsn: str) -> None:
    loop = asyncio.get_running_loop()
    opening = asyncio.create_task(Connector(lambda: dsn).open())
    started = loop.time()
    await (await opening).close()
    took = loop.time() - started
    for turn in range(50):
        opening = asyncio.create_task(Connector(lambda: dsn).open())
        until = loop.time() + took * turn / 50
        while loop.time() < until and not opening.done():
            await asyncio.sleep(0)
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await opening).close()
    del opening
    gc.collect()  # what was left behind is told as a warning, which fails the test
