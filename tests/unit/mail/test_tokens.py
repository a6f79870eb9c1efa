"""Words of texts: what the index has of them, and what a query asks for."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.mail import vocabulary
from mailserver.mail.casemap import casemap
from mailserver.mail.frames import compared
from mailserver.mail.tokens import (
    MAX_WORD,
    Lexeme,
    addresses,
    fold,
    of_vocabulary,
    sequence,
    term,
    tsquery,
    words,
)

LETTERS = st.text(
    st.sampled_from(
        string.ascii_letters + "0123456789äßéÅøŁ中文字ความがカ한국어हिन्दीאבשלום 🎉☀\n.,-_@'\\\""
    )
)


def found(query: str, text: str) -> bool:
    """Say what the index would, and then the text itself."""
    asked = term(query)
    there = words(text)
    by_index = all(
        any(each.startswith(word) for each in there) if begins else word in there
        for word, begins in asked.lexemes
    )
    by_text = bool(asked.phrase) and asked.phrase in sequence(text)
    if by_text:
        assert by_index
    if asked.exact:
        assert by_index == by_text
    return by_text


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("invoice", "The INVOICE, please"),
        ("invo", "invoices"),
        ("cafe", "Café"),
        ("café", "cafe"),
        ("strasse", "Straße"),
        ("STRAßE", "strasse"),
        ("smorrebrod", "Smørrebrød"),
        ("new york", "in New\nYork City"),
        ("new yor", "in New York City"),
        ("東京", "私は東京都に住む"),
        ("京", "私は東京都に住む"),
        ("東京都", "私は東京都に住む"),
        ("rfc 9051", "(RFC-9051)"),
        ("shalom", "Shalom שָׁלוֹם"),
        ("שלום", "Shalom שָׁלוֹם"),
        ("हिन्दी", "यह हिन्दी है"),
        ("한국", "한국어는"),
        ("🎉", "party🎉time"),
        ("alice@example.test", "mail alice@example.test now"),
        ("x" * 60, "so " + "x" * 70),
        ("is", "it is so"),
    ],
)
def test_what_is_found(query: str, text: str) -> None:
    assert found(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("voice", "invoice"),
        ("york new", "New York"),
        ("new york", "newer york"),
        ("京東", "東京"),
        ("x" * 60, "so " + "x" * 50),
        ("is", "island"),
        ("new yo", "in New York City"),
        ("!", "what!"),
    ],
)
def test_what_is_not_found(query: str, text: str) -> None:
    assert not found(query, text)


@given(LETTERS, LETTERS, LETTERS)
@example("", "a1", "")
def test_a_text_of_whole_words_is_found_where_it_is(before: str, text: str, after: str) -> None:
    assert found(text, f"{before} {text} {after}") == bool(term(text).phrase)


@given(st.text())
def test_what_is_compared_by_imap_has_the_same_words(text: str) -> None:
    assert fold(casemap(text)) == fold(fold(text)) or not text.isascii()
    assert all(word and " " not in word for word in words(text))
    assert all(" " not in each for each in addresses(text))


@given(LETTERS)
def test_folding_twice_is_folding(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert fold(casemap(text)) == fold(text)


def test_addresses_are_whole_words_too() -> None:
    assert addresses('"A" <Alice@Example.test>, bob@x') == {"alice@example.test", "bob@x"}


def test_a_query_is_quoted() -> None:
    assert tsquery([Lexeme("a'b\\", True), Lexeme("c")], ("", "F")) == (
        "('a''b\\\\':* | 'Fa''b\\\\':*) & ('c' | 'Fc')"
    )


def test_long_words_count_up_to_a_length() -> None:
    assert words("x" * 100) == {"x" * MAX_WORD}


@given(st.text(st.characters(blacklist_characters="\0\u0345"), max_size=30), LETTERS)
@example("\u0131 \u017f \u0149 \ufb01 \u00bd \ud800", "x" * 60)
def test_words_of_a_vocabulary_are_those_of_the_text(any_text: str, common: str) -> None:
    text = f"{common} {any_text}"
    joined = of_vocabulary(vocabulary.words(compared(text)))
    assert set(joined.split(" ") if joined else ()) == words(text)
