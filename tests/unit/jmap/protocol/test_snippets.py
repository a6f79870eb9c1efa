"""Snippets: marks in the right place, HTML escaped, never too large."""

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.jmap.protocol.filters import email_filter
from mailserver.jmap.protocol.snippets import MAX_PREVIEW, marked, marked_part, words_of_filter

TEXTS = st.text(st.sampled_from("abßİ <>&é\U0001f600\ud800 "), max_size=600)
WORDS = st.lists(st.text(st.sampled_from("absi<é&"), min_size=1, max_size=3), max_size=4)


def plain(snippet: str) -> str:
    return unescape(re.sub("</?mark>", "", snippet))


@pytest.mark.parametrize(
    ("text", "words", "shown"),
    [
        ("The Foosball <b> & co", ["foo"], "The <mark>Foo</mark>sball &lt;b&gt; &amp; co"),
        ("nothing here", ["foo"], None),
        ("aaaa", ["aa"], "<mark>aaaa</mark>"),
        ("Straße und mehr", ["und"], "Straße <mark>und</mark> mehr"),
        ("STRASSE, Straße", ["strasse"], "<mark>STRASSE</mark>, <mark>Straße</mark>"),
        ("one two three", ["two three", "one"], "<mark>one</mark> <mark>two three</mark>"),
        ("<script>", ["script"], "&lt;<mark>script</mark>&gt;"),
    ],
)
def test_marks(text: str, words: list[str], shown: str | None) -> None:
    assert marked(text, words) == shown
    assert marked_part(text, words) == shown


def test_the_part_is_around_the_first_match() -> None:
    text = "word " * 200 + "needle " + "other " * 200 + "needle"
    shown = marked_part(text, ["needle"])
    assert shown is not None
    assert shown.startswith("…word ")
    assert shown.endswith("…")
    assert shown.count("<mark>needle</mark>") == 1
    assert 200 < len(shown.encode()) <= MAX_PREVIEW


def test_a_match_that_has_no_room_is_cut_inside_its_mark() -> None:
    shown = marked_part("<" * 1000, ["<" * 900])
    assert shown is not None
    assert re.fullmatch("<mark>(&lt;)+</mark>…", shown)
    assert len(shown.encode()) <= MAX_PREVIEW


@given(TEXTS, WORDS)
def test_any_text(text: str, words: list[str]) -> None:
    words = [word.casefold() for word in words]
    whole, part = marked(text, words), marked_part(text, words)
    found = any(word in text.casefold() for word in words)
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
            for match in re.findall("<mark>(.*?)</mark>", snippet):
                assert unescape(match).casefold()[0] in {word[0] for word in words}


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
    assert words.subject == ("one", "two three", "four", "eight")
    assert words.body == ("four", "five")
    assert words_of_filter(email_filter(None)) == ((), ())
