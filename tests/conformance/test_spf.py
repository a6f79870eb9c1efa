"""The test suite of RFC 7208, with its zones in memory."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from mailserver.antispam.authentication.spf import check_spf
from tests.zone import Zone

SUITE = Path(__file__).parents[1] / "data" / "spf" / "rfc7208-tests.yml"
COUNT = 203
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def zone_of(data: Mapping[str, list[Any]]) -> Zone:
    """Read the zone of a scenario; records of the old type SPF also stand for TXT."""
    zone = Zone()
    for name, entries in data.items():
        typed = [each for each in entries if each != "TIMEOUT"]
        has_txt = any("TXT" in each for each in typed)
        for entry in typed:
            for kind, value in entry.items():
                if value == "TIMEOUT":
                    zone.failing.add((name.lower(), kind))
                elif kind == "SPF" and not has_txt:
                    zone.add(name, "TXT", _text("TXT", value))
                elif value != "NONE":
                    zone.add(name, kind, _text(kind, value))
        if "TIMEOUT" in entries:
            kinds = ("TXT", "A", "AAAA", "MX", "PTR")
            known = {kind for owner, kind in zone.records if owner == name.lower()}
            zone.failing |= {(name.lower(), kind) for kind in kinds if kind not in known}
    return zone


def _text(kind: str, value: Any) -> str:
    if kind == "MX":
        return f"{value[0]} {value[1]}"
    return "".join(value) if isinstance(value, list) else str(value)


def cases() -> Iterator[Any]:
    with SUITE.open("rb") as file:
        for scenario in yaml.safe_load_all(file):
            zone = zone_of(scenario["zonedata"])
            for name, test in scenario["tests"].items():
                yield pytest.param(zone, test, id=f"{scenario['description']}-{name}")


def test_the_suite_is_whole() -> None:
    assert sum(1 for _ in cases()) == COUNT


@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize(("zone", "test"), list(cases()))
async def test_result(zone: Zone, test: dict[str, Any], is_warm: bool) -> None:
    zone.is_warm = is_warm
    found = await check_spf(
        zone, ip=test["host"], sender=test["mailfrom"], helo=test["helo"], now=NOW
    )
    wanted = test["result"]
    assert found.result in ([wanted] if isinstance(wanted, str) else wanted)
    explanation = test.get("explanation")
    if explanation is not None and explanation != "DEFAULT":
        assert found.reason == explanation
    if explanation == "DEFAULT":
        assert found.reason == ""
