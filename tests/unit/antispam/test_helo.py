"""What the name by which a client greets is worth."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.antispam.evidence import Client, Finding, Inquiry
from mailserver.antispam.helo import HeloNames

NOW = datetime(2026, 11, 27, tzinfo=UTC)


async def judged(helo: str, ip: str = "8.8.8.8") -> Finding:
    inquiry = Inquiry("session", Client(ip, helo), None, (), b"", NOW)
    return await HeloNames(["Mail.example.test"]).judge(inquiry, ())


@pytest.mark.parametrize(
    ("helo", "symbol"),
    [
        ("mx.example.org", ""),
        ("MX.EXAMPLE.ORG.", ""),
        ("mx_1.example.org", ""),
        ("[8.8.8.8]", ""),
        ("mail.example.test", "HELO_IS_US"),
        ("8.8.8.8", "HELO_BARE_IP"),
        ("2001:4860::1", "HELO_BARE_IP"),
        ("[8.8.4.4]", "HELO_OTHER_IP"),
        ("[IPv6:2001:4860::1]", "HELO_OTHER_IP"),
        ("[nonsense]", "HELO_OTHER_IP"),
        ("localhost", "HELO_LOCALHOST"),
        ("laptop.local", "HELO_LOCALHOST"),
        ("friend", "HELO_NO_DOMAIN"),
        ("", "HELO_NO_DOMAIN"),
    ],
)
async def test_names_score_and_no_more(helo: str, symbol: str) -> None:
    found = await judged(helo)
    assert [each.name for each in found.symbols] == ([symbol] if symbol else [])
    assert found.score < 5  # of a junk score
    assert found.demand is None


async def test_who_is_not_of_the_internet_may_have_any_name() -> None:
    for ip in ("127.0.0.1", "10.1.2.3", "fe80::1%eth0", ""):
        assert (await judged("friend", ip)).symbols == ()
    assert (await judged("[IPv6:2001:4860::1]", "2001:4860::1")).symbols == ()


@given(st.text(max_size=30), st.sampled_from(["8.8.8.8", "2001:4860::1"]))
async def test_any_name_is_judged(helo: str, ip: str) -> None:
    assert 0 <= (await judged(helo, ip)).score < 5
