"""The DMARC cases of mailauth; those for RFC 9989 that it does not pass itself are among them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mailserver.antispam.authentication.content import Content
from mailserver.antispam.authentication.dmarc import Evidence, check_dmarc
from mailserver.antispam.authentication.results import Arc, Signature, Spf
from tests.zone import Zone

CASES = yaml.safe_load((Path(__file__).parents[1] / "data" / "dmarc" / "mailauth.yml").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_case(case: dict[str, Any]) -> None:
    zone = Zone({(name, "TXT"): texts for name, texts in case["zone"].items()})
    zone.failing |= {(name, "TXT") for name in case.get("failing", [])}
    spf = Spf("none", "mailfrom")
    for domain in case.get("spf", []):
        spf = Spf("pass", "mailfrom", domain)
    signatures = [Signature("pass", domain) for domain in case.get("dkim", [])]
    content = Content(f"From: user@{case['from']}\r\n\r\n".encode())
    found = await check_dmarc(zone, content, Evidence(spf, signatures, Arc("none")))
    assert found.result == case["result"]
    for key in ("policy", "policy_domain", "disposition"):
        assert getattr(found, key) == case.get(key, getattr(found, key))
    if "aligned" in case:
        assert list(found.aligned) == case["aligned"]
    if "asked" in case:
        assert [name for name, _ in zone.asked] == case["asked"]
