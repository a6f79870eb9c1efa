"""Turns: so many in any stretch of time, and none is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.jmap.push import pace
from mailserver.jmap.push.pace import Pace


@given(st.lists(st.integers(0, 5), max_size=40))
def test_no_stretch_of_time_has_more(pauses: list[int]) -> None:
    now = 0.0
    turns = []
    paced = Pace(3, 10.0, lambda: now)
    for pause in pauses:
        now += pause
        turns.append(now + paced.delay("a"))
    assert turns == sorted(turns)
    for first, fourth in zip(turns, turns[3:], strict=False):
        assert fourth - first >= 10.0


def test_keys_do_not_wait_for_each_other() -> None:
    paced = Pace(1, 10.0, lambda: 0.0)
    assert [paced.delay(key) for key in ("a", "a", "b", "a")] == [0.0, 10.0, 0.0, 20.0]


def test_old_keys_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MAX_KEYS", 2)
    paced = Pace(1, 10.0, lambda: 0.0)
    assert [paced.delay(key) for key in "abca"] == [0.0] * 4
