"""Snippets: marks in the right place, HTML escaped, never too large."""

import re
from html import unescape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.jmap.protocol.filters import email_filter
from mailserver.jmap.protocol.snippets import (
    MAX_PREVIEW,
    Words,
    marked,
    marked_part,
    words_of_filter,
)
from mailserver.mail.tokens import pattern, sequence, term

TEXTS = st.text(st.sampled_from("abßİ <>&é-\U0001f600\u65e5\u0301\ud800 "), max_size=600)
WORDS = st.lists(st.text(st.sampled_from("abs <é&\u65e5"), min_size=1, max_size=5), max_size=4)


def plain(snippet: str) -> str:
    return unescape(re.sub("</?mark>", "", snippet))


@pytest.mark.parametrize(
    ("text", "words", "shown"),
    [
        ("The Foosball <b> & co", ["foo"], "The <mark>Foo</mark>sball &lt;b&gt; &amp; co"),
        ("nothing here but barfoo", ["foo"], None),
        ("no, nothing", ["no"], "<mark>no</mark>, nothing"),
        ("Straße und mehr", ["und"], "Straße <mark>und</mark> mehr"),
        ("STRASSE, Straße", ["strasse"], "<mark>STRASSE</mark>, <mark>Straße</mark>"),
        ("a cafe\u0301, CAFÉ", ["café"], "a <mark>cafe\u0301</mark>, <mark>CAFÉ</mark>"),
        ("one two-three", ["two three", "one"], "<mark>one</mark> <mark>two-three</mark>"),
        ("<script>", ["script"], "&lt;<mark>script</mark>&gt;"),
        ("\u65e5\u672c\u8a9e", ["\u672c\u8a9e"], "\u65e5<mark>\u672c\u8a9e</mark>"),
        ("newyork", ["new york"], None),
        ("\u65e5\U0001f600\u65e5", ["\u65e5\u65e5"], None),
        ("no\u65e5", ["no"], "<mark>no</mark>\u65e5"),
        ("anything", ["!"], None),
    ],
)
def test_marks(text: str, words: list[str], shown: str | None) -> None:
    found = pattern(words)
    assert marked(text, found) == shown
    assert marked_part(text, found) == shown


def test_the_part_is_around_the_first_match() -> None:
    text = "word " * 200 + "needle " + "other " * 200 + "needle"
    shown = marked_part(text, pattern(["needle"]))
    assert shown is not None
    assert shown.startswith("…word ")
    assert shown.endswith("…")
    assert shown.count("<mark>needle</mark>") == 1
    assert 200 < len(shown.encode()) <= MAX_PREVIEW


def test_a_match_that_has_no_room_is_cut_inside_its_mark() -> None:
    shown = marked_part("x" * 1000, pattern(["x" * 900]))
    assert shown is not None
    assert re.fullmatch("<mark>x+</mark>…", shown)
    assert len(shown.encode()) <= MAX_PREVIEW


@given(TEXTS, WORDS)
@example("a日", ["a"])
@example("日a", ["a"])
def test_any_text(text: str, words: list[str]) -> None:
    pattern_of_words = pattern(words)
    whole, part = marked(text, pattern_of_words), marked_part(text, pattern_of_words)
    found = any(each and each in sequence(text) for each in (term(word).phrase for word in words))
    assert (whole is not None) is found
    assert (part is not None) is found
    if whole is not None and part is not None:
        assert plain(whole) == text.encode("utf-8", "replace").decode()
        assert len(part.encode()) <= MAX_PREVIEW
        assert "<mark>" in part
        for snippet in (whole, part):
            assert re.fullmatch(
                "([^<>&]|&(lt|gt|amp);|<mark>([^<>&]|&(lt|gt|amp);)+</mark>)*", snippet
            )


def test_words_of_a_filter() -> None:
    inner = [
        {"subject": "one 'two three'"},
        {"text": "Four"},
        {"body": "five", "from": "six"},
        {"operator": "NOT", "conditions": [{"text": "seven"}]},
        {"header": ["Subject", "eight"]},
        {"header": ["X-Thing", "nine"]},
    ]
    words = words_of_filter(email_filter({"operator": "OR", "conditions": inner}))
    text = "one two three four five six seven eight nine"
    assert re.findall("<mark>(.*?)</mark>", marked(text, words.subject) or "") == [
        "one", "two three", "four", "eight",
    ]  # fmt: skip
    assert re.findall("<mark>(.*?)</mark>", marked(text, words.body) or "") == ["four", "five"]
    assert words_of_filter(email_filter(None)) == Words(None, None)
