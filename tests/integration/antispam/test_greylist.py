"""Who comes for the first time is asked to come again, before a message is sent."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mailserver.address import Address
from mailserver.antispam.checks import Checks, Guard
from mailserver.antispam.door import MAX_MET, Door
from mailserver.antispam.evidence import Finding, Symbol
from mailserver.antispam.greylist import Greylist, subnet
from mailserver.antispam.ratelimit import Rates
from mailserver.antispam.verdict import Action, Verdict
from mailserver.antispam.visit import Visit
from mailserver.config import Antispam, Greylisting
from mailserver.metrics import Metrics
from mailserver.storage import greylist as stored
from mailserver.storage.database import Database

CAROL = Address("carol", "example.org")
ALICE = Address("alice", "example.test")


@dataclass
class Clock:
    """Time that passes when it is told to."""

    moment: datetime = field(default_factory=lambda: datetime(2026, 11, 1, tzinfo=UTC))

    def now(self) -> datetime:
        return self.moment

    def seconds(self) -> float:
        return self.moment.timestamp()

    def add(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@dataclass
class Node:
    """A process: its door, its memory of who is known."""

    database: Database
    clock: Clock
    mode: str = "on"

    def __post_init__(self) -> None:
        metrics = Metrics("test")
        settings = Antispam(greylisting=Greylisting.model_validate({"mode": self.mode}))
        self.greylist = Greylist(
            settings.greylisting, self.database, metrics, self.clock.now, self.clock.seconds
        )
        guard = Guard(metrics, self.clock.seconds)
        self.door = Door(settings, Checks(greylist=self.greylist), guard)

    def visit(self, ip: str = "192.0.2.1", helo: str = "mx.example.org") -> Visit:
        return Visit("s", ip, self.clock.now(), helo=helo)

    async def rcpt(self, visit: Visit, recipient: Address = ALICE) -> Verdict:
        return await self.door.recipient(visit, CAROL, recipient)


async def test_who_comes_again_is_welcome_and_known_to_all_nodes(database: Database) -> None:
    clock = Clock()
    one, two = Node(database, clock), Node(database, clock)
    first = await one.rcpt(one.visit())
    assert first.action is Action.DEFER
    assert first.reason == "not seen before, try again in 60 seconds"
    clock.add(30)
    assert (await two.rcpt(two.visit("192.0.2.99"))).reason.endswith("in 30 seconds")
    clock.add(31)
    assert (await two.rcpt(two.visit())).action is Action.ACCEPT
    await two.greylist.flush()
    another = Address("bob", "example.test")
    assert (await one.rcpt(one.visit("192.0.2.7"), another)).action is Action.ACCEPT
    assert (await one.rcpt(one.visit("198.51.100.1"))).action is Action.DEFER


async def test_who_never_comes_again_is_forgotten(database: Database) -> None:
    clock = Clock()
    node = Node(database, clock)
    await node.rcpt(node.visit())
    clock.add(2 * 86400 + 1)
    assert (await node.rcpt(node.visit())).reason.endswith("in 60 seconds")
    clock.add(3 * 86400)
    assert await stored.expire(database, clock.now(), 100) == 1
    assert await database.fetchval("SELECT count(*) FROM greylist") == 0


async def test_a_known_sender_costs_no_query(database: Database) -> None:
    clock = Clock()
    node = Node(database, clock)
    node.door.sent_good_mail(node.visit(), CAROL, None)
    await database.close()
    assert (await node.rcpt(node.visit())).action is Action.ACCEPT


async def test_only_suspicious_clients_are_asked_to_come_again(database: Database) -> None:
    node = Node(database, Clock(), "suspicious")
    assert (await node.rcpt(node.visit())).action is Action.ACCEPT
    assert (await node.rcpt(node.visit(helo="localhost"))).action is Action.DEFER
    for ip, action in (("9.9.9.9", Action.DEFER), ("10.0.0.1", Action.ACCEPT)):
        nameless = node.visit(ip)
        nameless.findings = [Finding("iprev", "permerror")]
        assert (await _with(node, nameless)).action is action


async def test_who_is_recommended_by_a_list_is_welcome(database: Database) -> None:
    node = Node(database, Clock())
    visit = node.visit()
    visit.findings = [Finding("dnswl", "listed", symbols=(Symbol("LIST_DNSWL_MED", -2.5),))]
    assert (await _with(node, visit)).action is Action.ACCEPT


async def test_greylisting_can_be_off(database: Database) -> None:
    node = Node(database, Clock(), "off")
    assert (await node.rcpt(node.visit(helo="x"))).action is Action.ACCEPT


async def test_a_thousand_recipients_leave_few_rows(database: Database) -> None:
    node = Node(database, Clock())
    visit = node.visit()
    for number in range(1000):
        verdict = await node.rcpt(visit, Address(f"user{number}", "example.test"))
        assert verdict.action is Action.DEFER
    assert await database.fetchval("SELECT count(*) FROM greylist") == MAX_MET


async def test_nothing_but_a_hash_and_times_is_kept(database: Database) -> None:
    node = Node(database, Clock())
    await node.rcpt(node.visit())
    row = await database.fetchrow("SELECT * FROM greylist")
    assert row is not None
    assert "example" not in repr(row)
    assert len(row["key"]) == 16


async def _with(node: Node, visit: Visit) -> Verdict:
    """Ask about a client of which something is known already."""
    findings = visit.findings
    node.door.greeted(visit)
    assert visit.looking is not None
    await visit.looking
    visit.findings = findings
    return await node.rcpt(visit)


def test_networks() -> None:
    assert subnet("192.0.2.77") == "192.0.2.0/24"
    assert subnet("::ffff:192.0.2.77") == "192.0.2.0/24"
    assert subnet("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert subnet("unknown") == "unknown"


async def test_a_client_that_comes_too_often_or_errs_too_much_is_put_off(
    database: Database,
) -> None:
    clock = Clock()
    metrics = Metrics("test")
    settings = Antispam.model_validate(
        {"limits": {"connections_per_ip": 3, "connections_per_network": 5, "errors_per_ip": 10}}
    )
    rates = Rates(database, clock.now)
    door = Door(settings, Checks(rates=rates), Guard(metrics, clock.seconds))

    async def connect(ip: str) -> str:
        return (await door.connected(Visit("s", ip, clock.now()))).reason

    assert [await connect("9.9.9.1") for _ in range(4)][2:] == [
        "nothing speaks against it",
        "too many connections from 9.9.9.1, try again later",
    ]
    assert await connect("9.9.9.2") == "nothing speaks against it"
    assert (await connect("9.9.9.3")).startswith("too many connections")  # its network
    assert await connect("10.0.0.1") == "nothing speaks against it"
    clock.add(180)
    door.ended(Visit("s", "9.9.9.1", clock.now()), 11)
    assert (await connect("9.9.9.1")).startswith("too many errors")
    assert await connect("9.9.8.1") == "nothing speaks against it"


async def test_too_many_messages_of_a_sender_and_to_a_recipient(database: Database) -> None:
    clock = Clock()
    settings = Antispam.model_validate(
        {"limits": {"messages_per_sender": 1, "messages_per_recipient": 2}}
    )
    checks = Checks(rates=Rates(database, clock.now))
    door = Door(settings, checks, Guard(Metrics("test"), clock.seconds))
    visit = Visit("s", "9.9.9.1", clock.now(), helo="mx.example.org")
    assert (await door.sender(visit, CAROL)).action is Action.ACCEPT
    assert (await door.recipient(visit, CAROL, ALICE)).action is Action.ACCEPT
    for _ in range(9):  # an envelope is no message: a stranger could use up the limits of others
        await door.sender(visit, CAROL)
        await door.recipient(visit, CAROL, ALICE)
    door.took(CAROL, [ALICE])
    assert (await door.sender(visit, CAROL)).action is Action.DEFER
    assert (await door.sender(visit, None)).action is Action.ACCEPT
    assert (await door.recipient(visit, None, ALICE)).action is Action.ACCEPT
    door.took(None, [ALICE])
    assert (await door.recipient(visit, None, ALICE)).action is Action.DEFER
