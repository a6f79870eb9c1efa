from pathlib import Path

import pytest

from mailserver.antispam.content import rulefile
from mailserver.antispam.content.engine import Engine
from mailserver.antispam.content.filter import ContentFilter, FilterBroken
from mailserver.antispam.content.models import Models
from mailserver.antispam.content.patterns import available
from mailserver.metrics import Metrics
from mailserver.storage.database import Database
from tests.unit.antispam.content.mails import GTUBE, inquiry, mail

DEBIAN_RULES = Path("/usr/share/spamassassin")
PATIENCE = 60.0  # seconds; a busy machine may take its time for the rules


async def test_gtube_is_spam() -> None:
    content = ContentFilter(budget=PATIENCE)
    await content.load()
    finding = await content.judge(inquiry(mail(GTUBE.decode())), ())
    assert finding.result == "spam"
    assert finding.score > 100
    assert "GTUBE" in [each.name for each in finding.symbols]


async def test_a_filter_without_its_rules_says_nothing_and_tells(tmp_path: Path) -> None:
    (tmp_path / "99.cf").write_text("body GTUBE /something else/\n")
    metrics = Metrics("test")
    content = ContentFilter([tmp_path], metrics=metrics)
    with pytest.raises(FilterBroken):
        await content.load()
    assert metrics.content_filter_broken._value.get() == 1
    with pytest.raises(FilterBroken):
        content.engine  # noqa: B018


async def test_messages_wait_until_the_rules_are_compiled() -> None:
    content = ContentFilter(budget=PATIENCE)
    finding = await content.judge(inquiry(mail(GTUBE.decode())), ())
    assert finding.result == "spam"


async def test_a_filter_without_time_is_not_broken() -> None:
    metrics = Metrics("test")
    await ContentFilter(metrics=metrics, budget=0.0).load()
    assert metrics.content_filter_broken._value.get() == 0


async def test_without_the_database_there_are_the_rules() -> None:
    away = Database(lambda: "postgresql://nobody@127.0.0.1:1/nothing", size=1)
    content = ContentFilter(models=Models(away), budget=PATIENCE)
    finding = await content.judge(inquiry(mail(GTUBE.decode())), ())
    assert finding.result == "spam"


async def test_a_broken_filter_fails_each_message_and_is_tried_again(tmp_path: Path) -> None:
    rules = tmp_path / "99.cf"
    rules.write_text("body GTUBE /something else/\n")
    content = ContentFilter([tmp_path], budget=PATIENCE)
    for _ in range(2):
        with pytest.raises(FilterBroken):
            await content.judge(inquiry(mail(GTUBE.decode())), ())
    rules.unlink()
    await content.load()
    assert (await content.judge(inquiry(mail(GTUBE.decode())), ())).result == "spam"


def test_the_rules_of_debian_load() -> None:
    if not DEBIAN_RULES.is_dir():
        pytest.skip("the package spamassassin is not installed")
    for engines in (["pcre2"], ["re"]):
        if engines[0] not in [*available(), "re"]:
            continue
        engine = Engine(rulefile.load([DEBIAN_RULES]), engines=engines)
        broken = {
            name: why
            for name, why in engine.unusable.items()
            if not why.startswith(("needs ", "asks the network", "no function "))
        }
        assert len(broken) < (10 if engines == ["pcre2"] else 400), broken
        assert len(engine) > 1900
