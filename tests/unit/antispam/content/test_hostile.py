"""Mail that is broken on purpose goes through the filter without an exception, and quickly."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.antispam.content import rulefile
from mailserver.antispam.content.engine import Engine
from mailserver.antispam.content.filter import OWN_RULES
from mailserver.antispam.content.patterns import Budget
from mailserver.antispam.content.stored import as_inquiry
from mailserver.antispam.content.tokens import GROUP_LIMIT, features
from mailserver.antispam.content.views import TEXT_LIMIT, Views
from tests.unit.antispam.content.mails import inquiry, mail

ENGINE = Engine(rulefile.load([OWN_RULES]))
NOW = datetime(2026, 11, 1, tzinfo=UTC)
SEED = mail(
    '<html><body><a href="http://1.2.3.4/login">https://bank.example</a><img src=x width=1>'
    "<font color=red size=7>click here</font></body></html>",
    subject="=?utf-8?B?0JDQkdCS?= verify your account",
    fields=(
        "Received: from a.example (a.example [8.8.8.8]) by b.example with SMTP id 1; now\r\n"
        "Reply-To: other@example.org\r\nX-Mailer: test\r\n"
    ),
    subtype="html",
)


def run(raw: bytes) -> float:
    """Return the CPU seconds that everything takes."""
    started = time.process_time()
    views = Views(as_inquiry(raw, NOW))
    ENGINE.run(views, Budget(5, time.monotonic))
    found = features(views)
    assert all(len(group) <= GROUP_LIMIT for group in found)
    return time.process_time() - started


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_mail_that_is_cut_doubled_and_replaced(data: st.DataObject) -> None:
    raw = SEED
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw)))
        end = data.draw(st.integers(at, len(raw)))
        middle = data.draw(st.sampled_from([b"", raw[at:end] * 2, b"\0\xff=?", b"\r\n\r\n", b"<"]))
        raw = raw[:at] + middle + raw[end:]
    run(raw)


HOSTILE = {
    "no header": b"\r\n\r\n",
    "nothing": b"",
    "header of 10 MB": b"X-A: " + b"a " * 5_000_000 + b"\r\n\r\nbody",
    "100,000 fields": b"X-A: b\r\n" * 100_000 + b"\r\nbody",
    "100,000 recipients": b"To: " + b"<a@b.example>, " * 100_000 + b"\r\n\r\n",
    "one word of 20 MB": b"Subject: a\r\n\r\n" + b"a" * 20_000_000,
    "tags": b"Content-Type: text/html\r\n\r\n" + b"<a href=" * 200_000,
    "nested": b"Content-Type: text/html\r\n\r\n" + b"<div>" * 200_000,
    "spaces": b"Subject: a" + b" " * 100_000 + b"b\r\n\r\n" + b" \t" * 500_000,
    "links": b"Subject: a\r\n\r\n" + b"http://a.example/%41 " * 100_000,
    "parts": b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\na\r\n" * 50_000,
    "comments": b"From: " + b"(" * 100_000 + b"\r\nReceived: from " + b"(" * 100_000 + b"\r\n\r\n",
    "digits": b"Subject: 1\r\n\r\n" + b"1" * 300_000 + b" " + b"$1,0" * 50_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_mail_costs_little(name: str) -> None:
    assert run(HOSTILE[name]) < 5


def test_what_is_looked_at_is_bounded() -> None:
    views = Views(inquiry(b"Subject: a\r\n\r\n" + b"word " * 5_000_000))
    assert len(views.body) < 4 * TEXT_LIMIT
    assert sum(len(part.shown) for part in views.texts) <= TEXT_LIMIT + 1
