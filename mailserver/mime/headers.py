"""Header blocks: raw fields in order, found by one regular expression (RFC 5322 §2.2).

Every pattern here uses possessive quantifiers, so that matching is linear whatever a peer sends.
A line ends with LF; the CR before it belongs to the line end; a CR elsewhere is an ordinary octet.
"""

import functools
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

# Octets of one header block that are interpreted. What is above it keeps its place in the message
# but names no field: a megabyte of header costs no more than this much of it.
HEADER_LIMIT = 256 * 1024

# A value is matched up to its LF: the CR before it is taken off when the value is asked for.
# Groups repeat inside (?>...): CPython 3.11.2 loses its place in a possessive repeat of a group.
_NAME = rb"[!-9;-~]*+[ \t]*+:"
_VALUE = rb"[^\n]*+(?>(?:\n[ \t][^\n]*+)*)"
_FROM = rb">?From [^\n]*+"  # mbox "From " lines end up anywhere in headers

# Lines that a client forgot to indent belong to the field before them (RFC 7103 §7.2, option 3).
_STRAY = rb"\n(?!\r?\n|[!-9;-~]++[ \t]*+:|>?From |\Z)"
_LOOSE_VALUE = rb"[^\n]*+(?>(?:" + _STRAY + rb"[^\n]*+)*)"


def _block(value: bytes) -> re.Pattern[bytes]:
    fields = _NAME + value + rb"(?:\n|\Z)|" + _FROM + rb"(?:\n|\Z)"
    return re.compile(rb"(?>(?:" + fields + rb")*)")


_BLOCK = _block(_VALUE)
_LOOSE_BLOCK = _block(_LOOSE_VALUE)
_FIELD = re.compile(rb"(?m:^)([!-9;-~]*+)[ \t]*+:(" + _VALUE + rb")")
_LOOSE_FIELD = re.compile(rb"(?m:^)([!-9;-~]*+)[ \t]*+:(" + _LOOSE_VALUE + rb")")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_EMPTY_LINE = re.compile(rb"\r?\n")
_FOLD = re.compile(rb"\r*+\n|\r")
_HEADER_START = re.compile(rb"[!-9;-~]++[ \t]*+:|>?From |\r?\n|\Z")
_SPACE = re.compile(rb"[ \t]*+(?:\r*+\n|\r)[ \t]*+")


class Field(NamedTuple):
    """One header field and its place: `start` to `end` is the whole field with its line end."""

    name: str  # as written
    value: bytes  # after the colon, before the line end; folds are still in it
    start: int
    end: int


class HeaderBlock:
    """The fields of one header, in order, as they are in the message.

    `first` and `last` of a lower-case name are dictionary look-ups. Offsets count from the start of
    the octets that were scanned.
    """

    __slots__ = ("_first", "_last", "_loose", "_pairs", "_raw", "body_start", "end", "start")

    def __init__(self, raw: bytes, start: int = 0, end: int | None = None) -> None:
        stop = len(raw) if end is None else end
        self._raw = raw
        self.start = start
        self._loose = False
        if not self._scan_plain(stop):
            self._scan(stop)

    def _scan_plain(self, stop: int) -> bool:
        """Read a header as it should be: small, ended by an empty line, nothing but fields."""
        raw, start = self._raw, self.start
        blank = _BLANK_LINE.search(raw, start, min(stop, start + HEADER_LIMIT))
        if blank is None:
            return False
        end = blank.start() + 1
        pairs: list[tuple[bytes, bytes]] = _FIELD.findall(raw, start, end)
        folds = 0
        for _, value in pairs:
            if b"\n" in value:
                folds += value.count(b"\n")
        if len(pairs) + folds != raw.count(b"\n", start, end):
            return False
        self._take(end, blank.end(), pairs)
        return True

    def _take(self, end: int, body_start: int, pairs: list[tuple[bytes, bytes]]) -> None:
        self.end = end
        self.body_start = body_start
        self._pairs = pairs
        lowered = [(name.lower(), value) for name, value in pairs]
        self._last = dict(lowered)
        lowered.reverse()
        self._first = dict(lowered)

    def _limit(self) -> int:
        return min(self.end, self.start + HEADER_LIMIT)

    def _scan(self, stop: int) -> None:
        """Read any header: it ends at the empty line, or at the first line that is no field."""
        raw, start = self._raw, self.start
        self.end = self._end(_BLOCK, stop)
        if self.end not in (start, stop) and raw[self.end] not in b"\r\n":
            reach = min(stop, self.end + HEADER_LIMIT)
            if _BLANK_LINE.search(raw, self.end, reach):
                self._loose = True
                self.end = self._end(_LOOSE_BLOCK, stop)
        blank = _EMPTY_LINE.match(raw, self.end, stop)
        pattern = _LOOSE_FIELD if self._loose else _FIELD
        pairs = pattern.findall(raw, start, self._limit())
        self._take(self.end, blank.end() if blank else self.end, pairs)

    def _end(self, pattern: re.Pattern[bytes], stop: int) -> int:
        """Return where a header ends; one that is not read to its end goes to the empty line."""
        near = min(stop, self.start + 2 * HEADER_LIMIT)
        block = pattern.match(self._raw, self.start, near)
        end = block.end() if block else self.start
        if near == stop or end <= self.start + HEADER_LIMIT:
            return end
        # megabytes of lines take seconds one by one, in which nothing else runs
        found = (self._raw.find(empty, end - 1, stop) for empty in (b"\n\r\n", b"\n\n"))
        return min((place + 1 for place in found if place >= 0), default=stop)

    def get_first(self, name: bytes) -> bytes | None:
        """Return the first value of a lower-case name as octets; the form the parser uses."""
        value = self._first.get(name)
        return None if value is None else value.removesuffix(b"\r")

    def get_last(self, name: bytes) -> bytes | None:
        """Return the last value of a lower-case name: what JMAP calls *the* value."""
        value = self._last.get(name)
        return None if value is None else value.removesuffix(b"\r")

    def first(self, name: str) -> bytes | None:
        """Return the raw value of the first field of that name, None without one."""
        return self.get_first(_key(name))

    def last(self, name: str) -> bytes | None:
        """Return the raw value of the last field of that name (RFC 8621 §4.1.3)."""
        return self.get_last(_key(name))

    def all(self, name: str) -> tuple[bytes, ...]:
        """Return the raw values of all fields of that name, in order."""
        wanted = _key(name)
        if wanted not in self._first:
            return ()
        return tuple(value for found, value in self.pairs() if found.lower() == wanted)

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """Return (name, value) of every field, in order."""
        return [(name, value.removesuffix(b"\r")) for name, value in self._pairs]

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[Field]:
        pattern = _LOOSE_FIELD if self._loose else _FIELD
        for found in pattern.finditer(self._raw, self.start, self._limit()):
            line_end = _EMPTY_LINE.match(self._raw, found.end(), self.end)
            end = line_end.end() if line_end else found.end()
            value = found[2].removesuffix(b"\r")
            yield Field(found[1].decode("ascii"), value, found.start(), end)


# A line that neither is a field, nor belongs to one, nor ends the header.
_ODD_LINE = re.compile(rb"\n(?![!-9;-~]++[ \t]*+:|[ \t]|\r?\n?\Z)")
_FIELD_NAME = re.compile(rb"[!-9;-~]+")


@functools.lru_cache(maxsize=128)
def _values(name: bytes) -> Callable[[bytes], list[bytes]]:
    pattern = rb"\n(?i:" + re.escape(name) + rb")[ \t]*+:(" + _VALUE + rb")"
    return re.compile(pattern).findall


def field_reader(name: str) -> Callable[[bytes], Sequence[bytes]]:
    """Return what `HeaderBlock.all` of a name returns, for many header blocks: in a tenth of it."""
    wanted = _key(name)
    find = _values(wanted) if _FIELD_NAME.fullmatch(wanted) else None

    def values(block: bytes) -> Sequence[bytes]:
        lines = b"\n" + block
        odd = len(block) > HEADER_LIMIT or block.startswith((b" ", b"\t"))
        if find is None or odd or _ODD_LINE.search(lines):
            return HeaderBlock(block).all(name)
        return [value.removesuffix(b"\r") for value in find(lines)]

    return values


def below_fields(raw: bytes) -> bytes:
    """Return a message that stays as it is read now when fields are put on top of it.

    A message that begins with something else than a field has no header. Without an empty line its
    first lines would go on with the last field above, and a From that nobody has checked would
    come to light below them.
    """
    return raw if _HEADER_START.match(raw) else b"\r\n" + raw


def _key(name: str) -> bytes:
    return name.lower().encode("ascii", "replace")


def unfold(value: bytes) -> bytes:
    """Remove the line ends of a folded value (RFC 5322 §2.2.3); a stray CR becomes a space."""
    if b"\n" not in value and b"\r" not in value:
        return value
    # where all folds are as they should be, no pattern is needed
    plain = value.replace(b"\r\n\t", b"\t").replace(b"\r\n ", b" ")
    if b"\n" not in plain and b"\r" not in plain:
        return plain
    return _FOLD.sub(_unfolded, value)


def _unfolded(found: re.Match[bytes]) -> bytes:
    following = found.string[found.end() : found.end() + 1]
    return b"" if following in (b" ", b"\t", b"") else b" "


def one_line(value: bytes) -> bytes:
    """Unfold and trim; each fold becomes one space, tabs become spaces, NUL is dropped."""
    if b"\n" in value or b"\r" in value:
        value = _SPACE.sub(b" ", value)
    if b"\t" in value:
        value = value.replace(b"\t", b" ")
    if b"\0" in value:
        value = value.replace(b"\0", b"")
    return value.strip(b" ")


@functools.lru_cache(maxsize=128)
def _selection(names: frozenset[bytes], exclude: bool) -> re.Pattern[bytes]:
    names_or = b"|".join(re.escape(name) for name in sorted(names)) if names else rb"(?!)"
    if exclude:
        head = rb"(?!(?:" + names_or + rb")[ \t]*+:)[!-9;-~]++[ \t]*+:"
    else:
        head = rb"(?:" + names_or + rb")[ \t]*+:"
        if names and all(names):  # most lines begin otherwise, which one look tells
            firsts = {each for name in names for each in (name[:1], name[:1].upper())}
            head = rb"(?=[" + b"".join(map(re.escape, sorted(firsts))) + rb"])" + head
    # the line end before a field is a literal, which is found ten times faster than (?m:^)
    return re.compile(rb"\n((?i:" + head + rb")" + _LOOSE_VALUE + rb")(?=\n|\Z)")


def header_fields(block: bytes, names: Collection[str], *, exclude: bool = False) -> bytes:
    """Return the fields of HEADER.FIELDS, or of HEADER.FIELDS.NOT (RFC 9051 §6.4.5.1).

    `block` is a header with its blank line; the blank line is in the result when it is there.
    """
    return field_chooser(names, exclude=exclude)(block)


def field_chooser(names: Collection[str], *, exclude: bool = False) -> Callable[[bytes], bytes]:
    """Return `header_fields` with these names, for many blocks."""
    find = _selection(frozenset(map(_key, names)), exclude).findall

    def chosen(block: bytes) -> bytes:
        fields: list[bytes] = find(b"\n" + block)
        if block.endswith(b"\n\r\n") or block == b"\r\n":
            fields.append(b"\r\n")
        elif block.endswith(b"\n\n") or block == b"\n":
            fields.append(b"\n")
        elif fields and (b"\n" + block).endswith(b"\n" + fields[-1]):
            return b"\n".join(fields)  # the block is cut in the middle of this field
        else:
            fields.append(b"")
        return b"\n".join(fields)

    return chosen
