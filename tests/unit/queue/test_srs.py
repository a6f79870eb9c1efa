"""Reverse-paths that are rewritten, and the reports that come back to them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.address import Address, parse_address
from mailserver.errors import Invalid
from mailserver.queue.srs import MAX_AGE, Srs, is_rewritten

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SRS = Srs.of("a secret")


def back(path: str, now: datetime = NOW, srs: Srs = SRS) -> Address | None:
    local = parse_address(path).local_part
    assert is_rewritten(local)
    return srs.original(local, now)


def test_a_sender_comes_back() -> None:
    path = SRS.rewritten("ann@a.test", "here.test", NOW)
    assert path.startswith("SRS0=")
    assert path.endswith("=a.test=ann@here.test")
    assert back(path) == Address("ann", "a.test")
    assert back(path.lower()) == Address("ann", "a.test")
    assert back(path.replace("=ann@", "=eve@")) is None
    assert back(path.replace("a.test", "b.test")) is None
    assert back(path, srs=Srs.of("another")) is None


@pytest.mark.parametrize(
    ("age", "known"), [(-1, True), (0, True), (MAX_AGE, True), (MAX_AGE + 1, False), (400, False)]
)
def test_reports_come_back_for_some_weeks(age: int, known: bool) -> None:
    path = SRS.rewritten("ann@a.test", "here.test", NOW)
    assert (back(path, NOW + timedelta(days=age)) is not None) == known


def test_what_another_server_rewrote_goes_back_to_it() -> None:
    first = SRS.rewritten("ann@a.test", "one.test", NOW)
    second = Srs.of("two").rewritten(first, "two.test", NOW)
    assert second.startswith("SRS1=")
    found = back(second, srs=Srs.of("two"))
    assert found is not None
    assert found.domain == "one.test"
    assert SRS.original(found.local_part, NOW) == Address("ann", "a.test")
    third = Srs.of("three").rewritten(second, "three.test", NOW)
    assert len(third) < len(second) + len("three.test")
    assert back(third, srs=Srs.of("three")) == found  # not by way of the second


def test_a_long_sender_and_one_in_quotes() -> None:
    long = "bounces+12345-abcd-someone.else=example.com"
    path = SRS.rewritten(f"{long}@mail.esp.example.com", "here.test", NOW)
    assert back(path) == Address(long, "mail.esp.example.com")
    assert back(SRS.rewritten('"a b"@a.test', "here.test", NOW)) == Address("a b", "a.test")


@given(st.from_regex(r"[a-z0-9=+_-]{1,40}", fullmatch=True), st.datetimes())
def test_any_sender_comes_back(local: str, moment: datetime) -> None:
    now = moment.replace(tzinfo=UTC)
    if is_rewritten(local):
        return
    assert back(SRS.rewritten(f"{local}@a.test", "here.test", now), now) == Address(local, "a.test")


@given(st.text())
def test_any_local_part_is_read(text: str) -> None:
    for each in (text, f"SRS0={text}", f"SRS1={text}", f"SRS0=abcdefgh=aa={text}"):
        assert SRS.original(each, NOW) is None


def test_other_local_parts_are_no_longer_than_before() -> None:
    with pytest.raises(Invalid):
        parse_address("x" * 65 + "@a.test")
    with pytest.raises(Invalid):
        parse_address("SRS0=" + "x" * 500 + "@a.test")
