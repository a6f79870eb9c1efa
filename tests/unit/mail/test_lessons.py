"""What changes of keywords say about spam."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail.lessons import Opinion, opinion
from mailserver.model import Flags

SPAM, NO_SPAM, NEITHER = Opinion(True), Opinion(False), Opinion(None)
WORDS = ("$Junk", "$NotJunk", "Junk", "NonJunk", "NotJunk", "\\Seen", "work")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "$Junk", SPAM),
        ("", "Junk", SPAM),
        ("", "JUNK work", SPAM),
        ("", "NonJunk", NO_SPAM),
        ("", "$NotJunk NotJunk", NO_SPAM),  # as Apple Mail says it
        ("", "$Junk Junk", SPAM),
        ("$Junk", "$Junk Junk", None),  # the same again is no lesson
        ("Junk", "$Junk Junk", None),
        ("$Junk", "$Junk NonJunk", NO_SPAM),  # delivered as junk, and Thunderbird knows better
        ("$Junk NonJunk", "$Junk Junk", SPAM),
        ("Junk", "NonJunk", NO_SPAM),
        ("Junk", "", NEITHER),
        ("$Junk Junk", "$Junk", None),
        ("$Junk NonJunk", "$Junk", SPAM),
        ("$Junk", "$Junk $NotJunk", NEITHER),
        ("Junk", "Junk NonJunk", NEITHER),
        ("\\Seen", "", None),
        ("work", "play", None),
        ("Junk work", "Junk", None),
    ],
)
def test_what_is_said(old: str, new: str, said: Opinion | None) -> None:
    assert opinion(Flags.of(old.split()), Flags.of(new.split())) == said


@given(st.sets(st.sampled_from(WORDS)), st.sampled_from([("Junk", SPAM), ("NonJunk", NO_SPAM)]))
def test_what_thunderbird_sets_is_what_it_says(before: set[str], said: tuple[str, Opinion]) -> None:
    word, meant = said
    after = before - {"Junk", "NonJunk", "NotJunk"} | {word}
    found = opinion(Flags.of(sorted(before)), Flags.of(sorted(after)))
    assert found in (None, meant)
    if not before & {"$Junk", "$NotJunk", word, "NotJunk"}:
        assert found == meant


@given(st.sets(st.sampled_from(WORDS)))
def test_nothing_new_is_no_lesson(words: set[str]) -> None:
    flags = Flags.of(sorted(words))
    assert opinion(flags, flags) is None
