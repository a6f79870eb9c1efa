"""The test suite of ValiMail for ARC, with its keys in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mailserver.antispam.authentication.arc import check_arc
from mailserver.antispam.authentication.content import Content
from tests.zone import Zone

SUITE = Path(__file__).parents[1] / "data" / "arc"
VALIDATIONS = 171


def validations() -> Iterator[Any]:
    with (SUITE / "arc-draft-validation-tests.yml").open("rb") as file:
        for scenario in yaml.safe_load_all(file):
            zone = zone_of(scenario)
            for name, test in scenario["tests"].items():
                yield pytest.param(zone, test, id=name)


def zone_of(scenario: dict[str, Any]) -> Zone:
    records = scenario["txt-records"]
    return Zone({(name, "TXT"): [text] for name, text in records.items()})


def test_the_suite_is_whole() -> None:
    assert sum(1 for _ in validations()) == VALIDATIONS


@pytest.mark.parametrize(("zone", "test"), list(validations()))
async def test_validation(zone: Zone, test: dict[str, Any]) -> None:
    found = await check_arc(zone, Content(test["message"].encode()))
    # where the newest seal itself says "fail" the suite leaves the result empty
    assert found.result == (test["cv"].lower() or "fail"), (found, test["description"])
