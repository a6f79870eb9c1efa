"""i;unicode-casemap: equal is what differs in case and spelling only."""

import sys
import unicodedata

import pytest

from mailserver.mail.casemap import casemap


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hello", "HeLLo"),
        ("grün", "GRÜN"),
        ("grün", "gru\u0308n"),
        ("жизнь", "ЖИЗНЬ"),
        ("ﬀ", "ﬀ"),
        ("①", "1"),
        ("ǆ", "ǅ"),
        ("\u017f", "s"),
        ("\u212b", "å"),
    ],
)
def test_equal(one: str, other: str) -> None:
    assert casemap(one) == casemap(other)


@pytest.mark.parametrize(
    ("one", "other"), [("ß", "ss"), ("a", "b"), ("ﬁ", "FI"), ("\u10d0", "\u1c90")]
)
def test_different(one: str, other: str) -> None:
    """Letters that become several in upper case stay as they are: RFC 5051 §2 maps one to one."""
    assert casemap(one) != casemap(other)


def test_a_text_without_its_marks_is_found_where_they_follow() -> None:
    assert casemap("entwu") in casemap("Entwürfe")
    assert casemap("entwur") not in casemap("Entwürfe")


def test_every_character_is_titled_and_decomposed() -> None:
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        title = character.title()
        wanted = unicodedata.normalize("NFKD", title if len(title) == 1 else character)
        assert casemap(character) == wanted
