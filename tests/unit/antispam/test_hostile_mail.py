"""Whatever a message is made of, every check comes to a result, and soon."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.address import Address
from mailserver.antispam import authentication, fields
from mailserver.antispam.authentication import Rules
from mailserver.antispam.authentication.content import Content
from mailserver.antispam.authentication.dmarc import author_domains
from mailserver.antispam.authors import authors
from mailserver.antispam.checks import Checks
from mailserver.antispam.content import evals_body, reputation
from mailserver.antispam.content.engine import Outcome
from mailserver.antispam.content.filter import ContentFilter
from mailserver.antispam.content.patterns import Budget
from mailserver.antispam.content.views import Views
from mailserver.antispam.dnsbl import DnsLists, NameLists, chosen
from mailserver.antispam.evidence import Client, Finding, Inquiry
from mailserver.antispam.pipeline import Pipeline
from mailserver.antispam.verdict import Decision
from mailserver.config import Antispam
from mailserver.metrics import Metrics
from mailserver.mime import HeaderBlock
from mailserver.model import AccountId
from tests.cost import least
from tests.zone import Zone

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LETTER = (
    b"Received: from a.example.org (a.example.org [192.0.2.7]) by b.example.org;\r\n"
    b"\tSun, 1 Nov 2026 00:00:00 +0000\r\n"
    b"Authentication-Results: mx.example.test; spf=pass smtp.mailfrom=example.org\r\n"
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=k;\r\n"
    b"\th=From:To:Subject; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n"
    b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=example.org; s=k; b=AAAA\r\n"
    b"X-Spam-Status: No\r\n"
    b'From: "Carol, B." <carol@example.org>, =?utf-8?q?D=C3=A4ve?= <dave@example.org>\r\n'
    b"To: alice@example.test\r\nSubject: =?utf-8?b?SGVsbG8=?=\r\n"
    b"Message-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/alternative; boundary="x"\r\n\r\n'
    b"--x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhttp://example.org/ h\xc3\xa4llo\r\n"
    b"--x\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b'<a href=3D"https://www.example.net/?q=3D1">here</a>=\r\n\r\n--x--\r\n'
)
PIECES = (b"\r\n", b"\r\n\r\n", b"=?", b"<", b"(")
EDITS = st.lists(
    st.tuples(
        st.integers(0, len(LETTER)),
        st.integers(0, 40),
        st.one_of(
            st.binary(max_size=12), st.sampled_from((b"\r\n", b"\r\n\r\n", b"=?", b"<", b"("))
        ),
    ),
    max_size=6,
)


def mutated(edits: list[tuple[int, int, bytes]]) -> bytes:
    raw = LETTER
    for at, length, put in edits:
        raw = raw[:at] + put + raw[at + length :]
    return raw


@pytest.fixture(scope="session")
def content() -> ContentFilter:
    made = ContentFilter()
    asyncio.run(made.load())
    return made


async def judge(content: ContentFilter, raw: bytes) -> Decision:
    zone = Zone()
    zone.add("_dmarc.example.org", "TXT", "v=DMARC1; p=none")
    zone.add("test.uribl.com.multi.uribl.com", "A", "127.0.0.2")
    lists = DnsLists(chosen("uribl", None, ""), zone, Metrics("lists"))
    await lists.test()
    checks = Checks(
        authentication=(zone, Rules("mx.example.test")), judges=[content, NameLists(lists)]
    )
    pipeline = Pipeline(Antispam(time_limit=60), checks, Metrics("test"), time.monotonic)
    visit = pipeline.arrive("s", "192.0.2.7", NOW)
    visit.helo = "mx.example.org"
    inquiry = Inquiry("s", visit.client(), Address("carol", "example.org"), (), raw, NOW)
    return await pipeline.message(visit, inquiry, {AccountId(1): "example.test"})


def failed(decision: Decision) -> list[str]:
    return [each.check for each in decision.verdict.findings if each.result == "error"]


@settings(max_examples=150)
@given(EDITS)
def test_no_message_makes_a_check_fail(
    content: ContentFilter, edits: list[tuple[int, int, bytes]]
) -> None:
    decision = asyncio.run(judge(content, mutated(edits)))
    assert failed(decision) == []
    assert decision.top.endswith(b"\r\n")
    for line in decision.top.split(b"\r\n")[:-1]:
        assert b"\r" not in line
        assert b"\n" not in line
        assert line[:1] in b"\t " or b":" in line


@pytest.mark.parametrize(
    "raw",
    [
        b"X-Long: " + b"a" * 10_000_000 + b"\r\n\r\nbody\r\n",
        b"X: y\r\n" * 1_500_000 + b"\r\nbody\r\n",
        b"From: " + b"a@b.c, " * 1_000_000 + b"\r\n\r\nbody\r\n",
        b"DKIM-Signature: v=1; d=example.org\r\n" * 100_000 + b"\r\n\r\nbody\r\n",
        b"Subject: x\r\n\r\n" + b"http://a.example/ " * 500_000,
        b"Subject: x\r\n\r\n" + b"<" * 5_000_000,
        b"",
    ],
    ids=["one line", "many fields", "many authors", "signatures", "links", "markup", "nothing"],
)
async def test_a_huge_message_is_judged_in_bounded_time(content: ContentFilter, raw: bytes) -> None:
    began = time.process_time()
    decision = await judge(content, raw)
    assert failed(decision) == []
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("unit", "tag"), [(b"<a ", "link"), (b"<a b\r\n", "link"), (b"<title ", "title")]
)
def test_tags_without_an_end_take_no_longer_than_their_length(unit: bytes, tag: str) -> None:
    raw = b"Content-Type: text/html\r\n\r\n" + unit * (60_000 // len(unit))
    inquiry = Inquiry("s", Client("192.0.2.7"), None, (), raw, NOW)

    def look() -> None:
        views = Views(inquiry)
        assert views.uris == []
        assert views.html.tags.keys() <= {"a", "title"}

    assert least(look, 0.15) < 0.15


def test_links_are_found_in_tags_that_have_no_end() -> None:
    markup = (
        b"<a title='<b' href='http://a.test/1' src=x> href=http://no.test/"
        b'<img src="http://a.test/2?a>b"><a <td background = http://a.test/3 <area HREF=http://a.test/4'
    )
    raw = b"Content-Type: text/html\r\n\r\n" + markup
    views = Views(Inquiry("s", Client("192.0.2.7"), None, (), raw, NOW))
    assert [uri for uri in views.uris if b"a.test" in uri] == [
        b"http://a.test/1",
        b"http://a.test/2?a>b",
        b"http://a.test/3",
        b"http://a.test/4",
    ]


@pytest.mark.parametrize(
    "unit",
    [
        "<a ",
        "<a b\r\n",
        "<img ",
        "<font ",
        "<a href=http://" + "h" * 250,
        "<",
        "<form action=",
        "< on",
    ],
)
def test_no_function_of_a_rule_holds_up_the_others(unit: str) -> None:
    raw = b"Content-Type: text/html\r\n\r\n" + unit.encode() * (60_000 // len(unit))
    views = Views(Inquiry("s", Client("192.0.2.7"), None, (), raw, NOW))
    assert len(views.html.source) > 40_000
    for pattern in (evals_body._TEXT_LINK, evals_body._IMAGE_TAG, *evals_body._HTML_TESTS.values()):
        find_all = partial(pattern.findall, views.html.source)
        assert least(find_all, 0.15) < 0.15, pattern.pattern


async def test_a_message_whose_rules_take_long_does_not_hold_up_the_others() -> None:
    ticks: Iterator[float] = itertools.repeat(0.0)
    content = ContentFilter(clock=lambda: next(ticks))
    await content.load()
    ticks = itertools.count(step=0.02)
    inquiry = Inquiry("s", Client("192.0.2.7"), None, (), LETTER, NOW)
    threads: set[int] = set()
    run = content.engine.run

    def watched(views: Views, budget: Budget, facts: Sequence[str] = ()) -> Outcome:
        threads.add(threading.get_ident())
        return run(views, budget, facts)

    content.engine.run = watched  # type: ignore[method-assign]
    await content.judge(inquiry, ())
    assert len(threads) == 2


@pytest.mark.parametrize(
    "name", [b'"<friend@example.com> %s"', b"(friend@example.com %s)", b"friend@example.com\0, "]
)
def test_the_author_is_the_one_that_dmarc_speaks_of(name: bytes) -> None:
    long = name % (b"x" * 40_000) if b"%s" in name else name
    raw = b"From: " + long + b" <carol@example.org>\r\n\r\nbody\r\n"
    views = Views(Inquiry("s", Client("192.0.2.7"), None, (), raw, NOW))
    passed = [Finding("dmarc", "pass")]
    assert author_domains(Content(raw)) == ["example.org"]
    assert reputation.names(views, passed) == ["dmarc:example.org"]
    assert str(views.author) == "carol@example.org"


@pytest.mark.parametrize(
    "line", [b"x: y\r\n", b"Received: x\r\n", b"Authentication-Results: a; b=c\r\n", b" x\r\n"]
)
def test_a_header_of_ten_megabytes_costs_no_more_than_its_first_part(line: bytes) -> None:
    start = b"From: a@example.org\r\nSubject: x\r\n"
    raw = start + line * (10_000_000 // len(line)) + b"\r\nbody\r\n"

    def look() -> None:
        block = HeaderBlock(raw)
        assert raw[block.body_start :] == b"body\r\n"
        assert raw[block.end :] == b"\r\nbody\r\n"
        assert list(map(str, authors(raw))) == ["a@example.org"]
        cleaned = authentication.without_forged(fields.without_forged(raw), ["mx.example.test"])
        assert cleaned.endswith(b"\r\nbody\r\n")

    assert least(look, 0.5) < 0.5
