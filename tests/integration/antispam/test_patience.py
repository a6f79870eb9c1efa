"""Mail whose DMARC policy nobody can tell waits, and not for ever."""

from datetime import UTC, datetime, timedelta

import pytest

from mailserver.address import parse_address
from mailserver.antispam.authentication import Authentication
from mailserver.antispam.authentication.results import Dmarc, Iprev, Spf
from mailserver.antispam.evidence import Client, Inquiry
from mailserver.antispam.patience import Patience
from mailserver.antispam.verdict import Action
from mailserver.storage.database import Database

HOUR = 3600.0
UNKNOWN = Dmarc("temperror", "a.test", reason="no answer about its policy")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 27, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, hours: float) -> None:
        self.now += timedelta(hours=hours)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def found(dmarc: Dmarc = UNKNOWN) -> Authentication:
    none = Spf("none", "helo")
    return Authentication(Iprev("none", ""), none, none, (), dmarc=dmarc)


def inquiry(clock: Clock, ip: str = "192.0.2.1", to: str = "bob@example.test") -> Inquiry:
    return Inquiry("s", Client(ip), None, (parse_address(to),), b"", clock())


async def test_mail_waits_for_a_time_and_is_judged_then(database: Database, clock: Clock) -> None:
    patience = Patience(6 * HOUR, database, clock)

    async def action(ip: str = "192.0.2.1", to: str = "bob@example.test") -> Action:
        return (await patience.judged(inquiry(clock, ip, to), found())).dmarc.action

    assert await action() is Action.DEFER
    clock.pass_by(5.9)
    assert await action() is Action.DEFER
    clock.pass_by(0.1)
    assert await action("192.0.2.77") is Action.ACCEPT  # another machine of the same network
    # of others nothing is known
    assert await action("198.51.100.1") is Action.DEFER
    assert await action(to="carol@example.test") is Action.DEFER
    done = await patience.judged(inquiry(clock), found())
    assert done.dmarc.result == "temperror"
    assert done.dmarc.reason == "no answer about its policy, for too long"
    # what was long ago does not count when it happens again
    clock.pass_by(48)
    assert await action() is Action.DEFER


async def test_what_dns_tells_decides_whatever_was_before(database: Database, clock: Clock) -> None:
    patience = Patience(0, database, clock)
    assert (await patience.judged(inquiry(clock), found())).dmarc.action is Action.ACCEPT
    rejected = found(Dmarc("fail", "a.test", policy="reject", disposition="reject"))
    assert await patience.judged(inquiry(clock), rejected) is rejected


async def test_without_the_database_it_waits_on(clock: Clock) -> None:
    nowhere = Database(lambda: "postgresql://127.0.0.1:1/none", size=1)
    done = await Patience(HOUR, nowhere, clock).judged(inquiry(clock), found())
    assert done.dmarc.action is Action.DEFER
    await nowhere.close()
