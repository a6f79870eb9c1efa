"""SPF beside its suite: limits, faults, several checks at once; and iprev."""

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.antispam.authentication.iprev import check_iprev
from mailserver.antispam.authentication.results import Iprev, Spf
from mailserver.antispam.authentication.spf import check_spf
from tests.zone import Zone

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def check(zone: Zone, ip: str = "192.0.2.1", sender: str = "ann@a.test") -> Spf:
    return await check_spf(zone, ip=ip, sender=sender, helo="mx.a.test", now=NOW, limit=5)


def includes(count: int) -> Zone:
    names = [f"i{number}.a.test" for number in range(count)]
    zone = Zone({(name, "TXT"): ["v=spf1 ip4:198.51.100.1 ?all"] for name in names})
    zone.add("a.test", "TXT", " ".join(["v=spf1", *(f"include:{name}" for name in names), "+all"]))
    return zone


@pytest.mark.parametrize(("count", "result"), [(10, "pass"), (11, "permerror")])
async def test_ten_lookups_and_no_more(count: int, result: str) -> None:
    zone = includes(count)
    assert (await check(zone)).result == result
    assert len(zone.asked) <= 11


async def test_an_include_that_is_nowhere_is_an_error_of_the_record() -> None:
    zone = Zone({("a.test", "TXT"): ["v=spf1 include:gone.test -all"]})
    assert (await check(zone)).result == "permerror"


async def test_a_resolver_that_fails_is_a_temporary_error() -> None:
    zone = Zone({("a.test", "TXT"): ["v=spf1 a:b.test -all"]})
    zone.failing.add(("b.test", "A"))
    assert (await check(zone)).result == "temperror"


async def test_a_resolver_that_hangs_is_a_temporary_error() -> None:
    class Hanging(Zone):
        async def texts(self, name: str, kind: str, deadline: float | None = None) -> list[str]:
            await asyncio.get_running_loop().create_future()
            return []

    found = await check_spf(
        Hanging(), ip="192.0.2.1", sender="ann@a.test", helo="x.test", now=NOW, limit=0
    )
    assert found.result == "temperror"


async def test_what_a_domain_says_about_a_fail_is_asked_only_then() -> None:
    zone = Zone(
        {
            ("a.test", "TXT"): ["v=spf1 ip4:192.0.2.1 -all exp=why.a.test"],
            ("why.a.test", "TXT"): ["%{i} may not send for %{d}"],
        }
    )
    assert (await check(zone)).result == "pass"
    assert ("why.a.test", "TXT") not in zone.asked
    found = await check(zone, ip="192.0.2.2")
    assert (found.result, found.reason) == ("fail", "192.0.2.2 may not send for a.test")


async def test_addresses_of_mail_exchangers_are_asked_for_at_once() -> None:
    zone = Zone({("a.test", "TXT"): ["v=spf1 mx -all"]})
    zone.add("a.test", "MX", *(f"{number} mx{number}.a.test." for number in range(10)))
    zone.add("mx9.a.test", "A", "192.0.2.1")
    for number in range(9):
        zone.add(f"mx{number}.a.test", "A", "198.51.100.1")
    assert (await check(zone)).result == "pass"
    assert len(zone.asked) == 12


async def test_checks_at_the_same_time_know_nothing_of_each_other() -> None:
    zones = [includes(number % 12) for number in range(48)]
    found = await asyncio.gather(*map(check, zones))
    assert [each.result for each in found] == [
        "pass" if number % 12 <= 10 else "permerror" for number in range(48)
    ]


async def test_huge_records_are_refused_before_they_cost_time() -> None:
    zone = Zone({("a.test", "TXT"): ["v=spf1 a:" + "a." * 30_000 + "!"]})
    assert (await check(zone)).result == "permerror"


@pytest.mark.parametrize("helo", ["localhost", "[192.0.2.1]", "", "a" * 300 + ".test", "a..test"])
async def test_a_name_that_is_no_domain_is_not_asked_for(helo: str) -> None:
    zone = Zone()
    found = await check_spf(zone, ip="192.0.2.1", sender="", helo=helo, now=NOW)
    assert found.result == "none"
    assert zone.asked == []


_TERMS = st.sampled_from(
    [
        "all", "-all", "a", "a:%{d}", "mx", "ptr", "exists:%{ir}.%{v}._x.%{d2}", "include:b.test",
        "ip4:192.0.2.0/24", "ip6:2001:db8::/32", "redirect=b.test", "exp=why.%{o}", "%{p}", "a/33",
        "mx//129", "x=", "a:%{l256r-}.test", "include:%", "ptr:%{h}",
    ]
)  # fmt: skip


@given(st.lists(st.one_of(_TERMS, st.text(max_size=40)), max_size=8), st.text(max_size=30))
async def test_any_record_has_a_result(terms: list[str], local_part: str) -> None:
    record = " ".join(["v=spf1", *terms])
    zone = Zone({("a.test", "TXT"): [record], ("b.test", "TXT"): [record]})
    zone.add("1.2.0.192.in-addr.arpa", "PTR", "a.test.", "mx.a.test.")
    for name in ("a.test", "b.test", "mx.a.test"):
        zone.add(name, "A", "192.0.2.9")
        zone.add(name, "MX", "5 mx.a.test.", "0 .")
    found = await check(zone, sender=f"{local_part}@a.test")
    assert found.result in {"pass", "fail", "softfail", "neutral", "permerror", "none"}


PTR = ("1.2.0.192.in-addr.arpa", "PTR")


@pytest.mark.parametrize(
    ("records", "failing", "result", "name"),
    [
        ({PTR: ["mx.a.test."], ("mx.a.test", "A"): ["192.0.2.1"]}, [], "pass", "mx.a.test"),
        ({PTR: ["mx.a.test."], ("mx.a.test", "A"): ["192.0.2.2"]}, [], "fail", ""),
        ({PTR: ["mx.a.test."]}, [], "fail", ""),
        ({}, [], "permerror", ""),
        ({}, [PTR], "temperror", ""),
        ({PTR: ["mx.a.test."]}, [("mx.a.test", "A")], "temperror", ""),
        (
            {PTR: ["b.test.", "mx.a.test."], ("mx.a.test", "A"): ["192.0.2.1"]},
            [("b.test", "A")],
            "pass",
            "mx.a.test",
        ),
    ],
)
@pytest.mark.parametrize("ip", ["192.0.2.1", "::ffff:192.0.2.1"])
async def test_iprev(
    ip: str,
    records: dict[tuple[str, str], list[str]],
    failing: list[tuple[str, str]],
    result: str,
    name: str,
) -> None:
    zone = Zone(records)
    zone.failing |= set(failing)
    assert await check_iprev(zone, ip) == Iprev(result, ip, name)


async def test_iprev_asks_for_ten_names_at_most() -> None:
    zone = Zone({PTR: [f"n{number}.test." for number in range(1000)]})
    assert (await check_iprev(zone, "192.0.2.1")).result == "fail"
    assert len(zone.asked) == 11
