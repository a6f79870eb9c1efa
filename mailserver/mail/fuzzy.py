"""Tolerant matching of words, with a score (RFC 6203): what a person meant, roughly.

A word is like another when it is the same, begins with it, contains it, or differs by a slip or
two. What that costs is bounded: by the words of a query, the octets of a text that are split into
words, and the pairs of words that are compared letter by letter in one search.
"""

import itertools
import re
from collections.abc import Iterable, Sequence

MAX_WORDS = 8  # of a query; further ones are ignored
MAX_LETTERS = 40  # of a word that is compared letter by letter
SPLIT_OCTETS = 32 * 1024  # of a text; the rest is looked at for the whole query only
MAX_KNOWN = 50_000  # words of texts that a query remembers
BUDGET = 50_000  # pairs of words that one search compares letter by letter

_SAME, _BEGINS, _CONTAINS, _STEM = 1.0, 0.85, 0.7, 0.6
_SLIPS = (_SAME, 0.75, 0.55)  # by how many there are
_SCATTERED = 0.9  # all words, but not one after the other
# every octet of a letter beyond ASCII is in here
_WORD = re.compile(rb"[0-9A-Za-z\x80-\xff]+")

Text = tuple[bytes, float]  # as it is compared, in UTF-8, and what a match in it is worth, up to 1


class Query:
    """What is looked for, as it is compared."""

    def __init__(self, text: bytes) -> None:
        self.phrase = text
        self._words = [_Wanted(word) for word in dict.fromkeys(_WORD.findall(text))][:MAX_WORDS]
        self._budget = BUDGET
        self._alike: dict[bytes, tuple[float, ...]] = {}  # words that were compared
        self._other: set[bytes] = set()  # and those that are like none

    @property
    def is_empty(self) -> bool:
        """Whether there is no word in it."""
        return not self._words

    def may_match(self, text: bytes) -> bool:
        """Whether a text, or one of several joined, is worth a closer look."""
        return any(piece in text for word in self._words for piece in word.pieces)

    def score(self, texts: Sequence[Text]) -> float:
        """Return how well texts match together: 0 is not at all, 1 as well as can be.

        At least half of the words have to be found.
        """
        best = [0.0] * len(self._words)
        whole = 0.0
        for text, worth in texts:
            if self.phrase in text:
                whole = max(whole, worth * _CONTAINS)
                if self._stands_alone(text):
                    whole = max(whole, worth)
            for place, likeness in enumerate(self._likeness(text)):
                best[place] = max(best[place], worth * likeness)
        found = sum(each > 0 for each in best)
        if 2 * found < len(best) or not found:
            return whole
        scattered = _SCATTERED if len(best) > 1 else 1.0
        return max(whole, scattered * sum(best) / len(best))

    def _stands_alone(self, text: bytes) -> bool:
        """Whether the phrase is in a text with no letter before or behind it."""
        at = text.find(self.phrase)
        end = at + len(self.phrase)
        return not _WORD.match(text[at - 1 : at]) and not _WORD.match(text[end : end + 1])

    def _likeness(self, text: bytes) -> list[float]:
        """Return for each word of the query how like it the likest word of a text is."""
        best = [0.0] * len(self._words)
        if not self.may_match(text):
            return best
        for word in set(_WORD.findall(text, 0, SPLIT_OCTETS)) - self._other:
            for place, likeness in enumerate(self._alike.get(word) or self._compare(word)):
                best[place] = max(best[place], likeness)
        return best

    def _compare(self, word: bytes) -> Sequence[float]:
        likeness = []
        for wanted in self._words:
            if not any(piece in word for piece in wanted.pieces):
                likeness.append(0.0)
                continue
            close = self._budget > 0
            self._budget -= 1
            likeness.append(wanted.likeness(word, close=close))
        if len(self._alike) + len(self._other) > MAX_KNOWN:
            self._alike.clear()
            self._other.clear()
        if any(likeness):
            self._alike[word] = tuple(likeness)
        else:
            self._other.add(word)
        return likeness


class _Wanted:
    """One word of a query."""

    __slots__ = ("_letters", "_octets", "_slips", "pieces")

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._letters = octets.decode("utf-8", "replace")
        count = len(self._letters)
        self._slips = 0 if count < 4 or count > MAX_LETTERS else 1 if count < 8 else 2
        # with so many slips at least one piece is left as it is
        self.pieces = _pieces(self._letters, self._slips + 1)

    def likeness(self, word: bytes, *, close: bool) -> float:
        """Return how like a word of a text is, from 0 to 1; letter by letter only if `close`."""
        wanted = self._octets
        if word == wanted:
            return _SAME
        if word.startswith(wanted) and len(self._letters) > 1:
            return _BEGINS
        if wanted in word and len(self._letters) > 2:
            return _CONTAINS
        if wanted.startswith(word) and len(word) >= max(4, 0.6 * len(wanted)):
            return _STEM
        if not close or not self._slips:
            return 0.0
        letters = word.decode("utf-8", "replace")
        slips = distance(self._letters, letters, self._slips)
        return 0.0 if slips is None else _SLIPS[slips]


def _pieces(letters: str, count: int) -> tuple[bytes, ...]:
    """Cut a word; with the ends of each piece also as they are when letters swap across a cut."""
    cuts = [len(letters) * place // count for place in range(count + 1)]
    pieces = [letters[start:end] for start, end in itertools.pairwise(cuts)]
    for start, cut, end in zip(cuts, cuts[1:], cuts[2:], strict=False):
        pieces.append(letters[start : cut - 1] + letters[cut])
        pieces.append(letters[cut - 1] + letters[cut + 1 : end])
    return tuple(piece.encode("utf-8", "surrogatepass") for piece in dict.fromkeys(pieces))


def distance(left: str, right: str, limit: int) -> int | None:
    """Return how many letters are missing, too many, wrong or swapped; None: more than `limit`."""
    if abs(len(left) - len(right)) > limit:
        return None
    before: Sequence[int] = ()
    row: list[int] = list(range(len(right) + 1))
    for i, letter in enumerate(left, 1):
        before, above, row = row, before, [i]
        for j, other in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            swapped = i > 1 and j > 1 and letter == right[j - 2] and left[i - 2] == other
            row.append(min(cost, above[j - 2] + 1) if swapped else cost)
        if min(row) > limit:
            return None
    return row[-1] if row[-1] <= limit else None


def percent(scores: Iterable[float]) -> int:
    """Return the relevancy of a message, 1 to 100, by the scores of what it matched."""
    values = list(scores)
    return max(1, round(100 * sum(values) / len(values))) if values else 1
