"""Words of texts in any language, as the index has them and as a query asks for them.

A text is a sequence of units: words, and the single letters of scripts that put no space between
words. It is found where a unit begins with it: "invo" finds "invoice", "new york" finds "New York",
case and accents do not count. The index has words and pairs of letters without their places; what
it cannot tell (the order of several units) is looked up in the texts.
"""

import itertools
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

MAX_WORD = 40  # characters of a word that count
MAX_WORDS_SIZE = 600_000  # octets of words that one message may have; PostgreSQL takes 1 MB
PREFIX = 3  # characters from which on a word also finds those that begin with it

# of Latin, Greek and Cyrillic; points of Hebrew and Arabic
_MARKS = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u0610-\u061a\u064b-\u065f\u0670]+"
)
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "\u0131": "i"}
)
# Thai, Lao, Burmese, Khmer, Japanese, Chinese; signs and pictures
_SINGLE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2600-\u27bf\u3005-\u3007\u3040-\u30ff\u3105-\u312f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
# vowel signs of the scripts of India are no letters to `re`
_UNITS = re.compile(rf"[{_SINGLE}]+|(?:[^\W_{_SINGLE}]|[\u0900-\u0963\u0966-\u0dff])+")
_ASCII_WORD = re.compile("[0-9a-z]")
# what is no word of ASCII becomes a blank: to translate and split costs a third of a pattern
_ASCII_BLANKS = {code: " " for code in range(128) if not _ASCII_WORD.match(chr(code))}
_IS_SINGLE = re.compile(f"[{_SINGLE}]")
_ADDRESS = re.compile(r"[^\s@<>,;()\x00-\x1f\ud800-\udfff]+@[^\s@<>,;()\x00-\x1f\ud800-\udfff]+")
_QUOTED = str.maketrans({"'": "''", "\\": "\\\\"})


def fold(text: str) -> str:
    """Return a text without the differences that do not count."""
    if text.isascii():
        return text.lower()
    plain = _MARKS.sub("", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize("NFC", plain).translate(_LETTERS)


def _units(folded: str) -> list[str]:
    """Return words and runs of single letters, in order."""
    return _ascii_words(folded) if folded.isascii() else _UNITS.findall(folded)


def _ascii_words(folded: str) -> list[str]:
    return folded.translate(_ASCII_BLANKS).split()


def words(text: str) -> set[str]:
    """Return what the index has of a text."""
    folded = fold(text)
    if folded.isascii():
        return {each[:MAX_WORD] for each in set(_ascii_words(folded))}
    found: set[str] = set()
    for unit in _UNITS.findall(folded):
        if _IS_SINGLE.match(unit):
            found.update(map("".join, itertools.pairwise(unit)))
            found.add(unit[-1])
        else:
            found.add(unit[:MAX_WORD])
    return found


def of_vocabulary(found: Collection[bytes]) -> str:
    """Return what the index has of a text, given as `vocabulary.words` has it, joined by blanks.

    Those of ASCII are whole words in any language; the others are looked at by pattern. A word
    may be there twice.
    """
    joined = b" ".join(found)
    others: set[str] = set()
    if not joined.isascii():
        joined = b" ".join(each for each in found if each.isascii())
        foreign = b" ".join(each for each in found if not each.isascii())
        others = words(foreign.decode("utf-8", "surrogatepass"))
    lowered = joined.lower().decode("ascii")
    if max(map(len, found), default=0) > MAX_WORD:
        lowered = " ".join(each[:MAX_WORD] for each in lowered.split())
    return " ".join(filter(None, (lowered, *others)))


def addresses(text: str) -> set[str]:
    """Return the mail addresses in a text, which the index has as a whole too."""
    return {each[: 2 * MAX_WORD] for each in _ADDRESS.findall(fold(text))}


def sequence(text: str) -> str:
    """Return the units of a text in order, with a blank before and behind each."""
    spaced: list[str] = []
    for unit in _units(fold(text)):
        if _IS_SINGLE.match(unit):
            spaced += unit
        else:
            spaced.append(unit)
    return f" {' '.join(spaced)} "


class Lexeme(NamedTuple):
    """A word as the index has it."""

    word: str
    begins: bool = False  # those that begin with it count too


@dataclass(frozen=True, slots=True)
class Term:
    """One text that is looked for."""

    lexemes: tuple[Lexeme, ...]  # the index has all of these where the text is
    exact: bool  # whether the text is wherever they are
    phrase: str  # what the sequence of units contains; empty: nothing that can be found
    begins: bool = False  # what begins with the last unit counts too
    address: Lexeme | None = None  # the whole of it, if it is a mail address


def term(text: str) -> Term:
    """Read a text that is looked for."""
    folded = fold(text.strip())
    units = _units(folded)
    if not units:
        return Term((), False, "")
    last = units[-1]
    begins = len(last) >= PREFIX or last >= "\u0e00"
    phrase = sequence(folded)
    lexemes = [each for unit in units[:-1] for each in _of_unit(unit, begins=False)]
    lexemes += _of_unit(last, begins=begins)
    whole = folded[: 2 * MAX_WORD] if _ADDRESS.fullmatch(folded) else None
    return Term(
        lexemes=tuple(dict.fromkeys(lexemes)),
        exact=len(units) == 1 and len(lexemes) == 1 and len(last) <= MAX_WORD,
        phrase=phrase[:-1] if begins else phrase,
        begins=begins,
        address=None if whole is None else Lexeme(whole, True),
    )


def _of_unit(unit: str, *, begins: bool) -> list[Lexeme]:
    if not _IS_SINGLE.match(unit):
        return [Lexeme(unit[:MAX_WORD], begins or len(unit) > MAX_WORD)]
    if len(unit) == 1:
        return [Lexeme(unit, True)]
    return [Lexeme(first + second) for first, second in itertools.pairwise(unit)]


def tsquery(lexemes: Iterable[Lexeme], marks: Sequence[str]) -> str:
    """Return what PostgreSQL looks for: every lexeme, each with any of the marks before it."""
    return " & ".join(
        "(" + " | ".join(_quoted(mark, lexeme) for mark in marks) + ")" for lexeme in lexemes
    )


def _quoted(mark: str, lexeme: Lexeme) -> str:
    return f"'{mark}{lexeme.word.translate(_QUOTED)}'{':*' if lexeme.begins else ''}"


# Where texts are -----------------------------------------------------------------------------

# what is between words, and what they are of: a single letter or sign is a word
_BETWEEN, _NO_BETWEEN = rf"(?:(?![{_SINGLE}])[\W_])", rf"[^\W_{_SINGLE}]"
_fold_one = lru_cache(maxsize=4096)(fold)


class Folded:
    """A text as it is compared, and where in it each character of that was."""

    def __init__(self, text: str) -> None:
        self._size = len(text)
        self._places: Sequence[int] | None = None
        if text.isascii():
            self.text = text.lower()
            return
        pieces = [_fold_one(character) for character in text]
        self.text = "".join(pieces)
        if len(self.text) != len(text) or any(len(piece) != 1 for piece in pieces):
            self._places = [at for at, piece in enumerate(pieces) for _ in piece]

    def spans(self, pattern: "re.Pattern[str]", most: int) -> list[tuple[int, int]]:
        """Return where a pattern is found in the text, the first so many times."""
        found = itertools.islice(pattern.finditer(self.text), most)
        return [self._span(*each.span()) for each in found]

    def _span(self, start: int, end: int) -> tuple[int, int]:
        if self._places is None:
            return start, end
        # what became nothing, as accents do, belongs to the letter before
        behind = self._places[end] if end < len(self._places) else self._size
        return self._places[start], max(behind, self._places[end - 1] + 1)


def pattern(texts: Iterable[str]) -> "re.Pattern[str] | None":
    """Return what any of these texts is found by in a folded text; None when none can be."""
    found = [each for text in texts if (each := _pattern(text))]
    return re.compile("|".join(sorted(found, key=len, reverse=True))) if found else None


def _pattern(text: str) -> str:
    """Write what finds the units of a text one after the other, the last perhaps longer."""
    units = sequence(text).split()
    if not units:
        return ""
    single = [_IS_SINGLE.match(unit) is not None for unit in units]
    found = re.escape(units[0])
    for at in range(1, len(units)):
        fewest = 0 if single[at - 1] or single[at] else 1
        found += f"{_BETWEEN}{{{fewest},20}}{re.escape(units[at])}"
    starts = "" if single[0] else rf"(?<!{_NO_BETWEEN})"
    ends = "" if single[-1] or term(text).begins else rf"(?!{_NO_BETWEEN})"
    return starts + found + ends
