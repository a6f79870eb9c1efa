from pathlib import Path

import pytest

from mailserver.antispam.content.filter import ContentFilter, FilterBroken
from mailserver.antispam.content.patterns import available
from tests.unit.antispam.content.mails import GTUBE, inquiry, mail

DEBIAN_RULES = Path("/usr/share/spamassassin")


async def test_gtube_is_spam() -> None:
    content = ContentFilter()
    await content.load()
    finding = await content.judge(inquiry(mail(GTUBE.decode())), ())
    assert finding.result == "spam"
    assert finding.score > 100
    assert "GTUBE" in [each.name for each in finding.symbols]


async def test_nothing_is_judged_before_the_rules_are_there() -> None:
    with pytest.raises(FilterBroken):
        await ContentFilter().judge(inquiry(mail("hi")), ())


async def test_the_rules_of_debian_load() -> None:
    if not DEBIAN_RULES.is_dir():
        pytest.skip("the package spamassassin is not installed")
    content = ContentFilter([DEBIAN_RULES])
    await content.load()
    broken = {
        name: why
        for name, why in content.engine.unusable.items()
        if not why.startswith(("needs ", "asks the network", "no function "))
    }
    if "pcre2" in available():
        assert all("too large" in why for why in broken.values()), broken
    assert len(broken) < 10
    assert len(content.engine) > 2200
