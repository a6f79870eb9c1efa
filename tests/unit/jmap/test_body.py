"""The cutting of body values (RFC 8621 §4.2)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.jmap.methods.body import truncated_text


def test_cuts_outside_of_tags_and_characters() -> None:
    assert truncated_text("<p>Hello <b>there</b>", 11, True) == ("<p>Hello ", True)
    assert truncated_text("<p>Hello <b>there</b>", 11, False) == ("<p>Hello <b", True)
    assert truncated_text("aü", 2, False) == ("a", True)
    assert truncated_text("aü", 3, False) == ("aü", False)
    assert truncated_text("anything", 0, False) == ("anything", False)


@settings(max_examples=150)
@given(st.text("a<>ü😀 ", max_size=40), st.integers(1, 60), st.booleans())
def test_never_longer_and_always_a_prefix(text: str, most: int, html: bool) -> None:
    cut, truncated = truncated_text(text, most, html)
    assert len(cut.encode()) <= most
    assert text.startswith(cut)
    assert truncated == (cut != text or len(text.encode()) > most)
