"""How often: counted by all processes together, without a query for each event."""

from mailserver.antispam.ratelimit import Limit, Rates
from mailserver.storage import rates as stored
from mailserver.storage.database import Database
from tests.integration.antispam.test_greylist import Clock

TEN = Limit("things", 10, 60)


async def test_a_limit_holds_over_all_processes(database: Database) -> None:
    clock = Clock()
    one, two = Rates(database, clock.now), Rates(database, clock.now)
    assert all(one.count(TEN, "a") for _ in range(6))
    assert two.count(TEN, "a")
    await one.flush()
    await two.flush()
    assert all(two.count(TEN, "a") for _ in range(3))
    assert not two.count(TEN, "a")
    assert two.count(TEN, "b")
    await two.flush()
    assert not one.is_over(TEN, "a")  # one knows only what it read last
    await one.flush()
    assert one.is_over(TEN, "a")


async def test_time_passes_and_what_was_before_fades(database: Database) -> None:
    clock = Clock()
    rates = Rates(database, clock.now)
    rates.count(TEN, "a", 10)
    assert not rates.count(TEN, "a")
    clock.add(60)
    assert not rates.count(TEN, "a")  # of 11 in the last minute, nearly all
    clock.add(30)
    assert rates.count(TEN, "a")
    clock.add(120)
    assert all(rates.count(TEN, "a") for _ in range(10))


async def test_a_new_process_learns_what_was_before(database: Database) -> None:
    clock = Clock()
    old = Rates(database, clock.now)
    old.count(TEN, "a", 12)
    await old.flush()
    clock.add(61)
    new = Rates(database, clock.now)
    assert not new.is_over(TEN, "a")
    await new.flush()
    assert new.is_over(TEN, "a")


async def test_nothing_is_written_for_a_question(database: Database) -> None:
    rates = Rates(database, Clock().now)
    rates.is_over(TEN, "a")
    await rates.flush()
    assert await database.fetchval("SELECT count(*) FROM rate") == 0


async def test_counts_expire(database: Database) -> None:
    clock = Clock()
    rates = Rates(database, clock.now)
    rates.count(TEN, "a")
    await rates.flush()
    assert await stored.expire(database, clock.now(), 10) == 0
    clock.add(180)
    assert await stored.expire(database, clock.now(), 10) == 1


async def test_no_limit(database: Database) -> None:
    rates = Rates(database, Clock().now)
    assert all(rates.count(Limit("things", 0, 60), "a") for _ in range(1000))
