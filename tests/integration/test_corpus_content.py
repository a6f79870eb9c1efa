"""A sample of the public corpus goes through the content filter, each mail within its time."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailserver.antispam.content.filter import ContentFilter
from mailserver.antispam.content.stored import as_inquiry
from tests.data.corpus import load

pytestmark = pytest.mark.corpus

CACHE = Path(__file__).parents[2] / ".corpus"
EVERY = 20


async def test_no_mail_raises_or_takes_long() -> None:
    content = ContentFilter()
    await content.load()
    times, spam = [], []
    for name, raw in load(CACHE)[::EVERY]:
        inquiry = as_inquiry(raw, datetime(2002, 10, 1, tzinfo=UTC))
        started = time.process_time()
        finding = await content.judge(inquiry, ())
        times.append(time.process_time() - started)
        if finding.result == "spam":
            spam.append(name)
    assert len(times) > 300
    assert sorted(times)[len(times) // 2] < 0.03
    assert max(times) < 2
    wrong = [name for name in spam if not name.startswith("spam")]
    assert len(spam) > 10 * len(wrong)
