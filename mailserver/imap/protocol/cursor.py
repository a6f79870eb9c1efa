"""A place in a command, and readers named like the rules of the ABNF (RFC 9051 §9, RFC 3501 §9).

Every reader moves past what it read or raises ProtocolError.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import NoReturn, TypeVar

from mailserver.imap.protocol import utf7
from mailserver.imap.protocol.errors import BadName, ProtocolError
from mailserver.imap.protocol.framing import Spooled
from mailserver.imap.protocol.sequences import SAVED, STAR, SequenceSet, runs

T = TypeVar("T")

MAX_NUMBER = 0xFFFFFFFF
MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun",
          b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")  # fmt: skip
_MONTH = {name.lower(): number for number, name in enumerate(MONTHS, 1)}
MANY = 1000  # items of a sequence set
MAX_RANGE = 21  # octets of "4294967295:4294967295"
MAX_MAILBOX = 1000  # characters of a mailbox name, all levels together

_ATOM_CHAR = rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]"
_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
_ASTRING = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\]+")  # ATOM-CHAR and "]"
_LIST_MAILBOX = re.compile(rb"[^\x00-\x20\x7f-\xff(){\"\\]+")  # and the wildcards
TAG = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]+")
_QUOTED = re.compile(rb'"((?:[^"\\\x00\r\n]|\\["\\])*)"')
_ESCAPED = re.compile(rb"\\([\"\\])")
_NUMBER = re.compile(rb"\d{1,20}")
_FLAG = re.compile(rb"\\?" + _ATOM_CHAR + rb"+")
_SEQUENCE_SET = re.compile(rb"[0-9*][0-9*:,]*|\$")
_SEQUENCE_RANGE = re.compile(rb"(\d{1,10}|\*)(?::(\d{1,10}|\*))?\Z")
_DATE = re.compile(rb"(\d{1,2})-([A-Za-z]{3})-(\d{4})")
_DATE_TIME = re.compile(
    rb'"([ \d]\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)"'
)


class Cursor:
    """A position in a command as framing delivers it: text, literal, text, ...

    With `utf8` mailbox names and quoted strings are UTF-8 (RFC 9051 §5.1, RFC 6855 §3); without it
    names are modified UTF-7 and strings are octets.
    """

    __slots__ = ("_part", "_parts", "_position", "_text", "_utf8")

    def __init__(self, parts: tuple[bytes | Spooled, ...], *, utf8: bool = False) -> None:
        self._utf8 = utf8
        self._parts = parts
        self._go_to(0)

    def _go_to(self, part: int) -> None:
        text = self._parts[part]
        assert isinstance(text, bytes)
        self._part = part
        self._text = text
        self._position = 0

    def _match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        found = pattern.match(self._text, self._position)
        if found:
            self._position = found.end()
        return found

    def maybe(self, pattern: re.Pattern[bytes]) -> bytes:
        """Read what a pattern matches here; b"" when it does not."""
        found = self._match(pattern)
        return found[0] if found else b""

    def match(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        """Demand that a pattern matches here."""
        found = self._match(pattern)
        return found[0] if found else self.fail(f"Expected {what}")

    def fail(self, text: str, code: bytes | None = None) -> NoReturn:
        """Reject the command."""
        raise ProtocolError(text, code)

    def at_literal(self) -> bool:
        """Whether a literal comes next."""
        return self._position == len(self._text) and self._part + 2 < len(self._parts)

    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self._position == len(self._text) and self._part + 1 == len(self._parts)

    def end(self) -> None:
        """Demand that nothing is left."""
        # QUIRK(several): a space before the end of the line is forgiven
        while self.take(b" "):
            pass
        if not self.at_end():
            self.fail("Unexpected text after the arguments")

    def peek(self, text: bytes) -> bool:
        """Whether exactly this comes next, in any case."""
        end = self._position + len(text)
        return self._text[self._position : end].upper() == text.upper()

    def take(self, text: bytes) -> bool:
        """Move past exactly this, in any case, when it comes next."""
        if not self.peek(text):
            return False
        self._position += len(text)
        return True

    def expect(self, text: bytes) -> None:
        """Demand exactly this, in any case."""
        if not self.take(text):
            self.fail(f"Expected {text.decode('ascii')!r}")

    def space(self) -> None:
        """SP."""
        if not self.take(b" "):
            self.fail("Expected a space")

    def word(self) -> bytes:
        """Read an atom as a keyword of the grammar: upper-case."""
        return self.atom().upper()

    def tag(self) -> bytes:
        """Tag = 1*<any ASTRING-CHAR except "+">."""
        return self.match(TAG, "a tag")

    def atom(self) -> bytes:
        """Atom = 1*ATOM-CHAR."""
        return self.match(_ATOM, "an atom")

    def astring(self) -> bytes:
        """Astring = 1*ASTRING-CHAR / string."""
        found = self._match(_ASTRING)
        return found[0] if found else self.string()

    def string(self) -> bytes:
        """String = quoted / literal."""
        if self.at_literal():
            return self.literal()
        found = self._match(_QUOTED)
        if found is None:
            self.fail("Expected a string")
        if self._utf8 and not found[1].isascii():
            self._decoded(found[1])
        return _ESCAPED.sub(rb"\1", found[1])

    def _decoded(self, octets: bytes) -> str:
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError:
            self.fail("Text is not UTF-8")

    def nstring(self) -> bytes | None:
        """Nstring = string / nil."""
        return None if self.take(b"NIL") else self.string()

    def literal(self) -> bytes:
        """Read a literal as the framing took it from the wire."""
        literal = self.message()
        return literal if isinstance(literal, bytes) else self.fail("Literal is too large")

    def message(self) -> bytes | Spooled:
        """Read a literal, which may be so large that it is not in memory."""
        if not self.at_literal():
            self.fail("Expected a literal")
        literal = self._parts[self._part + 1]
        self._go_to(self._part + 2)
        return literal

    def number(self) -> int:
        """Number = 1*DIGIT, unsigned 32 bits."""
        value = int(self.match(_NUMBER, "a number"))
        return value if value <= MAX_NUMBER else self.fail("Number is too large")

    def sequence_set(self) -> SequenceSet:
        """sequence-set = (seq-number / seq-range) *("," sequence-set) / "$"."""
        text = self.match(_SEQUENCE_SET, "a sequence set")
        if text == b"$":
            return SAVED
        items = text.split(b",")
        if len(items) <= MANY:
            return SequenceSet(tuple(map(_sequence_range, items)))
        # of a large set neither the order nor what comes twice is worth its memory
        distinct = set(items)
        if max(map(len, distinct)) > MAX_RANGE:
            self.fail("Malformed sequence set")
        ranges = [_sequence_range(item) for item in distinct if not item.isdigit()]
        numbers = sorted({int(item) for item in distinct if item.isdigit()})
        if numbers and not 0 < numbers[0] <= numbers[-1] <= MAX_NUMBER:
            self.fail("Number in a sequence set is out of range")
        return SequenceSet((*runs(numbers), *ranges))

    def at_sequence_set(self) -> bool:
        """Whether a sequence set comes next: no atom of the grammar begins like one."""
        return _SEQUENCE_SET.match(self._text, self._position) is not None

    def parenthesized(self, item: Callable[[], T], *, allow_empty: bool = False) -> list[T]:
        """Read "(" item *(SP item) ")"."""
        self.expect(b"(")
        items: list[T] = []
        if allow_empty and self.take(b")"):
            return items
        items.append(item())
        while not self.take(b")"):
            self.space()
            items.append(item())
        return items

    def flag(self) -> str:
        r"""Flag = "\Answered" / ... / flag-keyword / flag-extension."""
        return self.match(_FLAG, "a flag").decode("ascii")

    def flag_list(self) -> list[str]:
        """flag-list = "(" [flag *(SP flag)] ")"."""
        return self.parenthesized(self.flag, allow_empty=True)

    def mailbox(self) -> str:
        """Mailbox = "INBOX" / astring, decoded."""
        return self._name(self.astring())

    def _name(self, octets: bytes) -> str:
        name = self._decoded(octets) if self._utf8 else utf7.decode(octets)
        if len(name) > MAX_MAILBOX:
            self.fail("Mailbox name is too long")
        return name

    def list_mailbox(self) -> str | None:
        """list-mailbox = 1*list-char / string, decoded; None when it can match no name."""
        found = self._match(_LIST_MAILBOX)
        octets = found[0] if found else self.string()
        try:
            return self._name(octets)
        except BadName:
            return None

    def date(self) -> date:
        """Date = date-text / DQUOTE date-text DQUOTE."""
        quoted = self.take(b'"')
        found = self._match(_DATE)
        if found is None:
            self.fail("Expected a date")
        if quoted:
            self.expect(b'"')
        try:
            return date(int(found[3]), _month(found[2]), int(found[1]))
        except ValueError:
            self.fail("There is no such date")

    def date_time(self) -> datetime:
        """date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE."""
        found = self._match(_DATE_TIME)
        if found is None:
            self.fail("Expected a date and time")
        day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = found.groups()
        offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
        try:
            zone = timezone(-offset if sign == b"-" else offset)
            return datetime(
                int(year), _month(month), int(day), int(hour), int(minute),
                min(int(second), 59),  # a leap second
                tzinfo=zone,
            ).astimezone(UTC)  # fmt: skip
        except (ValueError, OverflowError):
            self.fail("There is no such date and time")


def _sequence_range(text: bytes) -> tuple[int, int]:
    found = _SEQUENCE_RANGE.match(text)
    if found is None:
        raise ProtocolError("Malformed sequence set")
    first = _sequence_number(found[1])
    return first, _sequence_number(found[2]) if found[2] else first


def _sequence_number(text: bytes) -> int:
    if text == b"*":
        return STAR
    value = int(text)
    if not 0 < value <= MAX_NUMBER:
        raise ProtocolError("Number in a sequence set is out of range")
    return value


def _month(name: bytes) -> int:
    number = _MONTH.get(name.lower())
    if number is None:
        raise ProtocolError("There is no such month")
    return number
