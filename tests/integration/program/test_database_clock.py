"""Nodes agree on the time, whatever the clocks of their machines say."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from mailserver.app.database_clock import SMALL, STRANGE, DatabaseClock, since_boot
from mailserver.errors import Unavailable
from mailserver.storage.database import Database

HOUR = timedelta(hours=1)


class Machine:
    """The two clocks of a machine; one of them can be set."""

    def __init__(self, ahead: timedelta) -> None:
        self.ahead = ahead
        self.seconds = 1000.0

    def system(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def steady(self) -> float:
        return self.seconds


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, timedelta()])
async def test_the_time_is_that_of_the_database(ahead: timedelta, database: Database) -> None:
    clock = DatabaseClock(lambda: datetime.now(UTC) + ahead)
    began = since_boot()
    await clock.look(database)
    took = timedelta(seconds=since_boot() - began)
    before = await database.fetchval("SELECT clock_timestamp()")
    seen = clock()
    after = await database.fetchval("SELECT clock_timestamp()")
    most = timedelta(seconds=2 * SMALL) + took
    assert before - most < seen < after + most


async def test_a_clock_that_jumps_moves_nothing() -> None:
    machine = Machine(timedelta())
    clock = DatabaseClock(machine.system, machine.steady)
    before = clock()
    machine.ahead = HOUR
    machine.seconds += 5
    assert clock() - before == timedelta(seconds=5)


async def test_a_strange_clock_is_told_once(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    machine = Machine(HOUR)
    clock = DatabaseClock(machine.system, machine.steady)
    for _ in range(3):
        await clock.look(database)
    machine.ahead = timedelta(seconds=STRANGE / 2)
    for _ in range(3):
        await clock.look(database)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_without_the_database_it_goes_on() -> None:
    machine = Machine(timedelta())
    clock = DatabaseClock(machine.system, machine.steady)
    before = clock()
    with pytest.raises(Unavailable):
        await clock.look(Database(lambda: "postgresql://nobody@127.0.0.1:1/nothing", size=1))
    machine.seconds += 1
    assert clock() - before == timedelta(seconds=1)
