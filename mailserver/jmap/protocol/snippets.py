"""What a search found, for people to see: text with the words of the filter in <mark> tags."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from mailserver.mail.criteria import All, AnyOf, Contains, Criterion, HeaderField, Place

MAX_PREVIEW = 255  # octets (RFC 8621 §5)
MAX_WORDS = 100  # that are marked
_LEAD = 60  # octets before the first match, about
_BEFORE, _AFTER = "<mark>", "</mark>"
_MORE = "\N{HORIZONTAL ELLIPSIS}"

Span = tuple[int, int]


class Words(NamedTuple):
    """What is looked for in subjects and in bodies, in folded case."""

    subject: tuple[str, ...]
    body: tuple[str, ...]


def words_of_filter(criterion: Criterion) -> Words:
    """Return the words of a filter; what must not occur (NOT) is not marked."""
    subject: dict[str, None] = {}
    body: dict[str, None] = {}
    waiting: list[Criterion] = [criterion]
    while waiting:
        match waiting.pop():
            case Contains(place, words):
                if place in (Place.TEXT, Place.SUBJECT):
                    subject.update(dict.fromkeys(words))
                if place in (Place.TEXT, Place.BODY):
                    body.update(dict.fromkeys(words))
            case HeaderField("subject", str() as text) if text:
                subject[text] = None
            case All(inner) | AnyOf(inner):
                waiting.extend(reversed(inner))
    return Words(tuple(subject)[:MAX_WORDS], tuple(body)[:MAX_WORDS])


def marked(text: str, words: Sequence[str]) -> str | None:
    """Return a whole text with its matches marked, None without any (RFC 8621 §5)."""
    spans = _Folded(text).spans(words)
    if not spans:
        return None
    pieces, at = [], 0
    for start, end in spans:
        pieces += [_safe(text[at:start]), _BEFORE, _safe(text[start:end]), _AFTER]
        at = end
    return "".join((*pieces, _safe(text[at:])))


def marked_part(text: str, words: Sequence[str], most: int = MAX_PREVIEW) -> str | None:
    """Return the part of a text around its first match, marked, in at most `most` octets."""
    first = _Folded(text).first(words)
    if first is None:
        return None
    start = _start_before(text, first)
    longest = max(map(len, words))
    shown = text[start : start + most + longest]  # no character is less than an octet
    part = _Part(most - 2 * len(_MORE.encode()))
    at = 0
    for begin, end in _Folded(shown).spans(words):
        if not (part.add(shown[at:begin]) and part.mark(shown[begin:end])):
            break
        at = end
    else:
        part.add(shown[at:])
    whole = part.whole and start + len(shown) == len(text)
    return f"{_MORE if start else ''}{part.text}{'' if whole else _MORE}"


class _Part:
    """Marked text of bounded size."""

    def __init__(self, octets: int) -> None:
        self.text = ""
        self.whole = True  # everything had room
        self._left = octets

    def add(self, text: str) -> bool:
        """Add as much of a text as has room, escaped; tell whether that was all."""
        for character in text:
            piece = _safe(character)
            size = len(piece.encode())
            if size > self._left:
                self.whole = False
                break
            self.text += piece
            self._left -= size
        return self.whole

    def mark(self, text: str) -> bool:
        """Add a match."""
        self._left -= len(_BEFORE) + len(_AFTER)
        if self._left <= 0:
            self.whole = False
        else:
            self.text += _BEFORE
            self.add(text)
            self.text += _AFTER
        return self.whole


def _start_before(text: str, first: int) -> int:
    """Return where a part begins that leads to a match, at a word where there is one."""
    start, room = first, _LEAD
    while start and room > 0:
        start -= 1
        room -= len(_safe(text[start]).encode())
    if start == 0:
        return 0
    blank = text.find(" ", start, first)
    return start if blank < 0 else blank + 1


def _safe(text: str) -> str:
    return escape(text.encode("utf-8", "replace").decode(), quote=False)


class _Folded:
    """A text in folded case, and where in it each character of the folded one was."""

    def __init__(self, text: str) -> None:
        self.text = text.casefold()
        self._places: list[int] | None = None
        if len(self.text) != len(text):  # case folding makes some characters longer, none shorter
            folded = [character.casefold() for character in text]
            self._places = [at for at, each in enumerate(folded) for _ in each]

    def _place(self, index: int) -> int:
        return index if self._places is None else self._places[index]

    def first(self, words: Iterable[str]) -> int | None:
        """Return where the first match begins."""
        found = [at for at in map(self.text.find, words) if at >= 0]
        return self._place(min(found)) if found else None

    def spans(self, words: Iterable[str]) -> list[Span]:
        """Return all matches in order; those that overlap or touch are one."""
        found: list[Span] = []
        for word in words:
            at = self.text.find(word)
            while at >= 0:
                found.append((self._place(at), self._place(at + len(word) - 1) + 1))
                at = self.text.find(word, at + len(word))
        merged: list[Span] = []
        for start, end in sorted(found):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged
