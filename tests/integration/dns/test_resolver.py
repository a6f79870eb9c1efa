"""The resolver of the server: what it tells apart, what it remembers, and for how long."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from mailserver.config import Dns
from mailserver.dns import Answer, LookupFailed, MailExchanger, Resolver, TlsaRecord
from mailserver.dns import resolver as module
from tests.name_server import NameServer


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def names() -> AsyncIterator[NameServer]:
    server = NameServer()
    await server.start()
    yield server
    server.stop()


Make = Callable[..., Resolver]


@pytest.fixture
def make(names: NameServer, clock: Clock) -> Make:
    def resolver(**options: object) -> Resolver:
        values = {"servers": f"127.0.0.1:{names.port}", "timeout": 60, "attempts": 1} | options
        return Resolver(Dns.model_validate(values), clock)

    return resolver


async def test_records_are_typed(names: NameServer, make: Make) -> None:
    names.add("a.example", "A", "192.0.2.1", "192.0.2.2")
    names.add("a.example", "AAAA", "2001:db8::1")
    names.add("a.example", "MX", "20 B.example.", "10 mx.example.")
    names.add("a.example", "TXT", '"v=spf1 " "-all"', '"\\255\\000"')
    names.add("_25._tcp.a.example", "TLSA", "3 1 0 00ff")
    names.add("_imaps._tcp.a.example", "SRV", "0 1 993 a.example.")
    names.add("1.2.0.192.in-addr.arpa", "PTR", "A.example.")
    names.add("1" + 23 * ".0" + ".8.b.d.0.1.0.0.2.ip6.arpa", "PTR", "six.example.")
    resolver = make()
    assert set((await resolver.a("a.example")).records) == {"192.0.2.1", "192.0.2.2"}
    assert (await resolver.aaaa("A.Example.")).records == ("2001:db8::1",)
    exchangers = (MailExchanger(10, "mx.example"), MailExchanger(20, "b.example"))
    assert (await resolver.mx("a.example")).records == exchangers
    assert set((await resolver.txt("a.example")).records) == {b"v=spf1 -all", b"\xff\0"}
    assert (await resolver.ptr("192.0.2.1")).records == ("a.example",)
    assert (await resolver.ptr("2001:db8::1")).records == ("six.example",)
    assert await resolver.texts("_25._tcp.a.example", "TLSA") == ["3 1 0 00ff"]
    assert await resolver.texts("_imaps._tcp.a.example", "SRV") == ["0 1 993 a.example."]
    assert set(await resolver.texts("a.example", "MX")) == {"20 b.example.", "10 mx.example."}
    assert await resolver.texts("1.2.0.192.in-addr.arpa", "PTR") == ["a.example."]
    there = await resolver.addresses("a.example")
    assert there.found[0] == "2001:db8::1"  # IPv6 first
    assert len(there.found) == 3
    assert (there.exists, there.secure, there.name) == (True, False, "a.example")


async def test_no_name_no_data_and_no_answer_are_three_things(
    names: NameServer, make: Make
) -> None:
    names.add("a.example", "A", "192.0.2.1")
    names.failing.add("bogus.example")
    names.silent.add("dead.example")
    resolver = make()
    assert await resolver.txt("a.example") == Answer((), exists=True, name="a.example")
    assert await resolver.txt("none.example") == Answer((), exists=False, name="none.example")
    with pytest.raises(LookupFailed) as bogus:
        await resolver.txt("bogus.example")
    assert bogus.value.reason == "SERVFAIL"
    with pytest.raises(LookupFailed) as dead:
        await make(timeout=0.1).txt("dead.example")
    assert dead.value.reason == "timeout"


@pytest.mark.parametrize(
    "name", ["a..example", "x" * 64 + ".example", 50 * "long." + "example", "\ud800.example", "\\1"]
)
async def test_a_name_that_cannot_be_is_not_asked_for(
    names: NameServer, make: Make, name: str
) -> None:
    assert not (await make().a(name)).exists
    assert names.asked == []


async def test_a_name_of_another_script_is_asked_for_as_it_is_in_dns(
    names: NameServer, make: Make
) -> None:
    names.add("xn--bcher-kva.example", "A", "192.0.2.1")
    assert (await make().a("Bücher.example")).records == ("192.0.2.1",)


async def test_signatures_count_only_when_the_resolver_is_believed(
    names: NameServer, make: Make
) -> None:
    names.add("_25._tcp.a.example", "TLSA", "3 1 0 00ff")
    names.secure.add("_25._tcp.a.example")
    assert await make(validating=True).tlsa("a.example", 25) == [TlsaRecord(3, 1, 0, b"\0\xff")]
    assert await make(validating=False).tlsa("a.example", 25) == []


async def test_aliases_are_followed_by_whom_the_resolver_leaves_it_to(
    names: NameServer, make: Make
) -> None:
    names.add("a.example", "CNAME", "b.example.")
    names.add("b.example", "CNAME", "c.example.")
    names.add("c.example", "A", "192.0.2.1")
    assert await make().a("a.example") == Answer(("192.0.2.1",), name="c.example")
    assert len(names.asked) == 1
    names.lazy = True
    assert await make().a("a.example") == Answer(("192.0.2.1",), name="c.example")
    assert len(names.asked) == 4
    names.secure |= {"a.example", "c.example"}  # and not all of the chain
    assert not (await make(validating=True).a("a.example")).secure
    names.secure.add("b.example")
    assert (await make(validating=True).a("a.example")).secure


@pytest.mark.parametrize("lazy", [False, True])
async def test_aliases_in_a_circle_are_a_failure(names: NameServer, make: Make, lazy: bool) -> None:
    names.lazy = lazy
    names.add("a.example", "CNAME", "b.example.")
    names.add("b.example", "CNAME", "a.example.")
    with pytest.raises(LookupFailed, match="without end"):
        await make().a("a.example")
    assert len(names.asked) <= 10


async def test_answers_are_kept_as_long_as_they_allow(
    names: NameServer, make: Make, clock: Clock
) -> None:
    names.add("a.example", "CNAME", "b.example.", ttl=60)
    names.add("b.example", "A", "192.0.2.1", ttl=30)
    names.add("long.example", "A", "192.0.2.1", ttl=1_000_000)
    resolver = make()

    async def asked(name: str) -> int:
        names.asked.clear()
        await resolver.a(name)
        return len(names.asked)

    assert [await asked("a.example"), await asked("A.EXAMPLE.")] == [1, 0]
    assert [await asked("long.example"), await asked("long.example")] == [1, 0]
    clock.now = 31
    assert [await asked("a.example"), await asked("long.example")] == [1, 0]
    clock.now = 3601
    assert await asked("long.example") == 1


async def test_that_there_is_nothing_is_kept_as_long_as_its_zone_says(
    names: NameServer, make: Make, clock: Clock
) -> None:
    names.add("a.example", "A", "192.0.2.1")
    names.soa = "ns.example. root.example. 1 3600 600 86400 40"
    resolver = make()
    for name in ("a.example", "none.example"):
        for clock.now, asked in ((0, 1), (39, 1), (41, 2)):
            await resolver.txt(name)
            assert names.asked.count((name, "TXT")) == asked
    names.soa = None
    for clock.now, asked in ((100, 1), (104, 1), (106, 2)):
        await resolver.txt("unsaid.example")
        assert names.asked.count(("unsaid.example", "TXT")) == asked


async def test_a_failure_is_kept_for_a_moment(names: NameServer, make: Make, clock: Clock) -> None:
    names.failing.add("bogus.example")
    resolver = make()
    for clock.now, asked in ((0, 1), (4, 1), (6, 2)):
        with pytest.raises(LookupFailed, match="SERVFAIL"):
            await resolver.a("bogus.example")
        assert len(names.asked) == asked


async def test_many_who_ask_the_same_ask_once(names: NameServer, make: Make) -> None:
    names.add("a.example", "A", "192.0.2.1")
    resolver = make()
    answers = await asyncio.gather(*(resolver.a("a.example") for _ in range(50)))
    assert {answer.records for answer in answers} == {("192.0.2.1",)}
    assert len(names.asked) == 1


async def test_who_has_no_time_left_does_not_wait(names: NameServer, make: Make) -> None:
    names.add("a.example", "A", "192.0.2.1")
    names.held.add("a.example")
    resolver = make()
    loop = asyncio.get_running_loop()
    patient = asyncio.create_task(resolver.a("a.example"))
    with pytest.raises(LookupFailed, match="no time left"):
        await resolver.a("a.example", deadline=loop.time() + 0.01)
    names.release()
    assert (await patient).records == ("192.0.2.1",)
    # what is remembered costs no time
    answer = await resolver.a("a.example", deadline=loop.time() - 1)
    assert answer.records == ("192.0.2.1",)


async def test_a_bounded_number_of_answers_is_kept(
    names: NameServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CACHED", 3)
    resolver = make()
    for number in range(5):
        await resolver.a(f"{number}.example")
    names.asked.clear()
    for number in (2, 3, 4, 0):
        await resolver.a(f"{number}.example")
    assert names.asked == [("0.example", "A")]


async def test_a_bounded_amount_of_octets_is_kept(
    names: NameServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        names.add(f"{number}.example", "TXT", '"' + "x" * 250 + '"')
    monkeypatch.setattr(module, "MAX_OCTETS", 1000)  # of three such answers
    resolver = make()
    for number in range(4):
        await resolver.txt(f"{number}.example")
    names.asked.clear()
    for number in (1, 3, 2, 0):  # the last one is asked for again, and there is no room for 1
        await resolver.txt(f"{number}.example")
    assert names.asked == [("0.example", "TXT")]
    await resolver.txt("3.example")
    await resolver.txt("1.example")
    assert names.asked == [("0.example", "TXT"), ("1.example", "TXT")]


async def test_each_lookup_is_told_of(names: NameServer, clock: Clock) -> None:
    told: list[tuple[str, float]] = []
    settings = Dns(servers=f"127.0.0.1:{names.port}", attempts=1)
    resolver = Resolver(settings, clock, lambda outcome, seconds: told.append((outcome, seconds)))
    names.add("a.example", "A", "192.0.2.1")
    names.failing.add("bogus.example")
    await asyncio.gather(resolver.a("a.example"), resolver.a("a.example"))
    await resolver.a("a.example")
    await resolver.a("none.example")
    for _ in range(2):
        with pytest.raises(LookupFailed):
            await resolver.a("bogus.example")
    outcomes = ["found", "remembered", "nothing", "failed", "remembered"]
    assert told == [(outcome, 0) for outcome in outcomes]
