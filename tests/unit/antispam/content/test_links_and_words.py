"""What is found fast is what the plain way finds."""

import random
import re

from hypothesis import given
from hypothesis import strategies as st

from mailserver.antispam.content.evals_body import check_for_uppercase
from mailserver.antispam.content.rulefile import RuleSet
from mailserver.antispam.content.tokens import GROUP_LIMIT, WORD_LIMIT, features
from mailserver.antispam.content.views import Views
from tests.unit.antispam.content.mails import inquiry, mail

_PIECES = (
    "http://", "HTTPS://", "ftp://", "www.", "WWW.", "mailto:", "MailTo:", "ann@example.org", "://",
    "httphttps://", "example.org", "/", "%41", ".", "_", "a", " ", "\n", "\u00a0", "<", '"',
    "\u0130", "\u00e9",
)  # fmt: skip
_LINK = re.compile(
    r"""(?:https?|ftp)://[^\s<>"'`{}|\\^\[\]]{1,2000}|\bwww\.[^\s<>"'`]{3,2000}""", re.I
)
_ADDRESS = re.compile(r"\bmailto:[^\s<>\"']{3,300}", re.IGNORECASE)


def _views(text: str) -> Views:
    return Views(inquiry(mail(text)))


@given(st.lists(st.sampled_from(_PIECES), max_size=14).map("".join))
def test_links_in_a_text_are_those_of_the_expressions(text: str) -> None:
    views = _views(text)
    (part,) = views.texts
    written = _LINK.findall(part.shown) + _ADDRESS.findall(part.shown)
    stripped = [each.rstrip(".,;:!?)]}'\"") for each in written]
    expected = [
        each if "://" in each or each[:7].lower() == "mailto:" else f"http://{each}"
        for each in stripped
    ]
    wanted = []
    for each in dict.fromkeys(expected):
        wanted += [each] if ":" in each[:12] else []
        wanted += [each.replace("%41", "A")] if ":" in each[:12] and "%" in each else []
    assert [each.decode() for each in views.uris] == wanted


def test_each_word_is_paired_with_two_before_it() -> None:
    assert [len(group) for group in features(_views("one two three four"))[-2:]] == [4, 5]
    assert [len(group) for group in features(_views("one"))[-2:]] == [1, 0]
    assert [len(group) for group in features(_views(""))[-2:]] == [0, 0]
    pairs = [set(features(_views(text)).pairs) for text in ("a b c", "b c", "a b", "a x c")]
    assert pairs[1] < pairs[0]
    assert pairs[2] < pairs[0]
    assert len(pairs[3] & pairs[0]) == 1  # a and c, with one between them


def test_of_a_long_text_the_start_counts_whole_words_only() -> None:
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghij", k=18)) for _ in range(WORD_LIMIT + 500)]
    whole, start = (features(_views(" ".join(some))) for some in (words, words[:WORD_LIMIT]))
    assert whole.words == start.words
    assert whole.pairs == start.pairs
    assert len(whole.pairs) == 2 * WORD_LIMIT - 3 <= GROUP_LIMIT


def test_capitals_count_in_every_script() -> None:
    for letters in ("Ab", "\u0416\u0436"):
        text = (letters[0] * 3 + letters[1] + " ") * 60
        assert check_for_uppercase(_views(text), ("70", "80"), RuleSet())
        assert not check_for_uppercase(_views(text), ("80", "100"), RuleSet())
        assert not check_for_uppercase(_views(text[:200]), ("70", "80"), RuleSet())
