"""What a search found, for people to see: text with the words of the filter in <mark> tags."""

from html import escape
from itertools import islice
from re import Pattern
from typing import NamedTuple

from mailserver.mail.criteria import All, AnyOf, Contains, Criterion, HeaderField, Place
from mailserver.mail.tokens import Folded, pattern

MAX_PREVIEW = 255  # octets (RFC 8621 §5)
MAX_WORDS = 30  # that are marked
MAX_MARKS = 200  # in one text
_LEAD = 60  # octets before the first match, about
_BEFORE, _AFTER = "<mark>", "</mark>"
_MORE = "\N{HORIZONTAL ELLIPSIS}"


class Words(NamedTuple):
    """What finds the words of a filter in subjects and in bodies; None where there are none."""

    subject: Pattern[str] | None
    body: Pattern[str] | None


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
    return Words(pattern(islice(subject, MAX_WORDS)), pattern(islice(body, MAX_WORDS)))


def marked(text: str, words: Pattern[str] | None) -> str | None:
    """Return a whole text with its matches marked, None without any (RFC 8621 §5)."""
    spans = Folded(text).spans(words, MAX_MARKS) if words else []
    if not spans:
        return None
    pieces, at = [], 0
    for start, end in spans:
        pieces += [_safe(text[at:start]), _BEFORE, _safe(text[start:end]), _AFTER]
        at = end
    return "".join((*pieces, _safe(text[at:])))


def marked_part(text: str, words: Pattern[str] | None, most: int = MAX_PREVIEW) -> str | None:
    """Return the part of a text around its first match, marked, in at most `most` octets."""
    spans = Folded(text).spans(words, most) if words else []
    if not spans:
        return None
    start = _start_before(text, spans[0][0])
    part = _Part(most - 2 * len(_MORE.encode()))
    at = start
    for begin, end in spans:
        if not (part.add(text[at:begin]) and part.mark(text[begin:end])):
            break
        at = end
    else:
        part.add(text[at : at + most])  # no character is less than an octet
        part.whole = part.whole and at + most >= len(text)
    return f"{_MORE if start else ''}{part.text}{'' if part.whole else _MORE}"


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
