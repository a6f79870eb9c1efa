"""The test suite of ValiMail for ARC, with its keys in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from mailserver.antispam.authentication.arc import check_arc
from mailserver.antispam.authentication.content import Content
from mailserver.mime.arc import Sealer, seal
from mailserver.mime.headers import HeaderBlock
from tests.zone import Zone

SUITE = Path(__file__).parents[1] / "data" / "arc"
VALIDATIONS = 171
SIGNATURES = 17


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


def signatures() -> Iterator[Any]:
    with (SUITE / "arc-draft-sign-tests.yml").open("rb") as file:
        for scenario in yaml.safe_load_all(file):
            for name, test in scenario["tests"].items():
                yield pytest.param(scenario, test, id=name)


def test_the_suite_of_signatures_is_whole() -> None:
    assert sum(1 for _ in signatures()) == SIGNATURES


@pytest.mark.parametrize(("scenario", "test"), list(signatures()))
async def test_signature(scenario: dict[str, Any], test: dict[str, Any]) -> None:
    key = serialization.load_pem_private_key(scenario["privatekey"].encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    private = key
    raw = test["message"].encode().replace(b"\n", b"\r\n")
    sealer = Sealer(
        test["srv-id"],
        scenario["domain"],
        scenario["sel"],
        "rsa-sha256",
        lambda octets: private.sign(octets, padding.PKCS1v15(), SHA256()),
    )
    made = seal(raw, sealer, test["t"], test["sig-headers"].split(":"))
    wanted = {"ARC-Seal": "AS", "ARC-Message-Signature": "AMS", "ARC-Authentication-Results": "AAR"}
    found = {field.name: _tags(field.value.decode()) for field in HeaderBlock(made)}
    assert found == {name: _tags(test[tag]) for name, tag in wanted.items() if test[tag]}


def _tags(value: str) -> set[str]:
    return set("".join(value.split()).split(";"))
