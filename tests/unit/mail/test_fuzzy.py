"""Tolerant matching of words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import fuzzy
from mailserver.mail.fuzzy import Query, distance, percent

WORDS = st.text("abcd\u00e9", max_size=6)


def _slips(left: str, right: str) -> int:
    """Return the distance by its definition: optimal string alignment."""
    if not left or not right:
        return len(left) + len(right)
    if left[-1] == right[-1]:
        return _slips(left[:-1], right[:-1])
    best = 1 + min(
        _slips(left[:-1], right), _slips(left, right[:-1]), _slips(left[:-1], right[:-1])
    )
    if len(left) > 1 and len(right) > 1 and left[-2:] == right[-1] + right[-2]:
        best = min(best, 1 + _slips(left[:-2], right[:-2]))
    return best


@given(WORDS, WORDS, st.integers(0, 3))
def test_distance(left: str, right: str, limit: int) -> None:
    slips = _slips(left, right)
    assert distance(left, right, limit) == (slips if slips <= limit else None)


def _score(query: str, *texts: str) -> int:
    scored = Query(query.encode()).score([(text.encode(), 1.0) for text in texts])
    return percent([scored]) if scored else 0


@pytest.mark.parametrize(
    ("query", "text", "score"),
    [
        ("helo", "helo", 100),
        ("helo", "say hello to all", 75),
        ("helo", "can you help me", 75),
        ("helo", "hleo", 75),
        ("helo", "nothing like it", 0),
        ("meeting", "meetings", 85),
        ("meetings", "to meet", 0),  # too short to be its stem
        ("tomorrow", "otmorrwo", 55),
        ("meetings", "a meeting", 60),
        ("tomorrow", "tomorow morning", 75),
        ("tomorrow", "tommorow", 55),
        ("eeting", "meeting", 70),
        ("is", "this", 70),  # it is in there, but stands not alone
        ("caf\u00e9", "caf\u00e8", 75),
        ("imap break", "the imap break", 100),
        ("imap break", "break of imap", 90),
        ("imap break", "imap is broken", 45),
        ("imap break", "break", 45),
        ("one two three", "one", 0),
        ("one two three", "one four two", 60),
        ("re: [x]", "re: [x] y", 100),
    ],
)
def test_scores(query: str, text: str, score: int) -> None:
    assert _score(query, text) == score


@given(st.text("abcde", min_size=4, max_size=12), st.text("abcde", max_size=12))
def test_no_word_that_is_near_is_overlooked(wanted: str, word: str) -> None:
    limit = 1 if len(wanted) < 8 else 2
    near = distance(wanted, word, limit) is not None
    assert not near or _score(wanted, word) >= 55


def test_words_may_be_in_different_texts() -> None:
    query = Query(b"alpha beta")
    assert query.score([(b"alpha", 1.0), (b"beta", 0.8)]) == pytest.approx(0.9 * 0.9)
    assert query.score([(b"other", 1.0), (b"alpha beta", 0.8)]) == pytest.approx(0.8)
    assert not query.score([])


def test_a_query_without_words() -> None:
    assert Query(b"").is_empty
    assert Query(b"?!").is_empty
    assert not Query("\u5317\u4eac".encode()).is_empty
    assert _score("\u5317\u4eac", "\u6211\u5728\u5317\u4eac\u5de5\u4f5c") == 70


@given(st.text("abc ", min_size=1, max_size=12), st.text("abc ", max_size=30))
def test_what_contains_the_query_matches(query: str, text: str) -> None:
    searched = Query(query.encode())
    if searched.is_empty:
        return
    assert searched.score([((text + query + text).encode(), 1.0)]) >= 0.45
    assert 0 <= searched.score([(text.encode(), 1.0)]) <= 1


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def counting(left: str, right: str, limit: int) -> int | None:
        compared.append(right)
        return None

    monkeypatch.setattr(fuzzy, "distance", counting)
    monkeypatch.setattr(fuzzy, "BUDGET", 100)
    monkeypatch.setattr(fuzzy, "MAX_KNOWN", 50)
    query = Query(b"meetings")
    texts = [b" ".join(b"mee%05d" % (n + 1000 * m) for n in range(200)) for m in range(5)]
    assert not any(query.score([(text, 1.0)]) for text in texts)
    assert len(compared) == 100
    # words that are the same or longer are still found
    assert query.score([(b"meetings", 1.0)]) == 1.0
    assert query.score([(b"x" * 100_000 + b" meetings2", 1.0)]) == 0.7  # too far behind to be split
    long = b"y" * 1000
    assert Query(long).score([(long, 1.0)]) == 1.0
    assert not Query(long).score([(long[:-1] + b"z", 1.0)])


def test_percent() -> None:
    assert percent([]) == 1
    assert percent([0.001]) == 1
    assert percent([1.0, 0.5]) == 75
