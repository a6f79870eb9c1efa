"""Many regular expressions over one text: found together, each in bounded time.

With Hyperscan all expressions are looked for in one pass, and what it reports is confirmed by
PCRE2, whose matching is limited by `(*LIMIT_MATCH=)`. Without Hyperscan PCRE2 tries each one.
Without both there is `re`, which knows no limit: an expression that may take more than polynomial
time is then not used at all. Expressions and texts are octets, UTF-8.
"""

import re
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

from mailserver.antispam.content.rulefile import Pattern

try:
    import pcre2
except ImportError:
    pcre2 = None
try:
    import hyperscan
except ImportError:
    hyperscan = None  # type: ignore[assignment]

MATCH_LIMIT = 100_000  # steps of PCRE2 for one search: about a millisecond
TEXT_LIMIT_OF_RE = 16 * 1024  # octets of a text that `re` looks at, for it has no limit of its own

Clock = Callable[[], float]


class OutOfTime(Exception):
    """The time for a message is over."""


class Unusable(Exception):
    """An expression cannot be used here."""


class Search(Protocol):
    """One compiled expression."""

    def __call__(self, text: bytes, most: int) -> int:
        """Return how often it is found, counting up to `most`."""
        ...


class Budget:
    """Time that is left for a message."""

    __slots__ = ("_clock", "_end")

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def check(self) -> None:
        """Raise OutOfTime when it is over."""
        if self._clock() > self._end:
            raise OutOfTime


class Wanted(NamedTuple):
    """An expression of a group, and how often it is counted."""

    name: str
    pattern: Pattern
    max_hits: int = 1


class Row(NamedTuple):
    """An expression for Hyperscan."""

    expression: bytes
    id: int
    flags: int


class Database(NamedTuple):
    """What Hyperscan made of rows, as octets; none when it can do nothing with any of them."""

    octets: bytes
    refused: list[int]  # the ids of those that it cannot do


Compile = Callable[[Sequence[Row]], Database]


class Group:
    """Expressions that are looked for in the same texts."""

    def __init__(
        self,
        wanted: Sequence[Wanted],
        *,
        engines: Sequence[str] = (),
        compile_rows: "Compile | None" = None,
    ) -> None:
        """Compile; `unusable` has the names of those that cannot be, with the reason.

        `engines` names what may be used, all that is installed by default. `compile_rows` does what
        `compiled` does.
        """
        may = engines or available()
        self.unusable: dict[str, str] = {}
        self._wanted: list[Wanted] = []
        self._searches: list[Search] = []
        compile_one = _pcre2 if "pcre2" in may else _re
        for each in wanted:
            try:
                self._searches.append(compile_one(each.pattern))
            except Unusable as error:
                self.unusable[each.name] = str(error)
            else:
                self._wanted.append(each)
        sieved = "hyperscan" in may and len(self._wanted) > _FEW
        self._sieve = _Sieve(self._wanted, compile_rows or compiled) if sieved else None
        self._all = range(len(self._wanted))

    def __len__(self) -> int:
        return len(self._wanted)

    def find(self, text: bytes, budget: Budget, found: dict[str, int]) -> None:
        """Add to `found` how often each expression is in the text; OutOfTime ends it early."""
        candidates = self._all if self._sieve is None else self._sieve.candidates(text)
        for index in candidates:
            budget.check()
            each = self._wanted[index]
            before = found.get(each.name, 0)
            if before >= each.max_hits:
                continue
            hits = self._searches[index](text, each.max_hits - before)
            if hits:
                found[each.name] = before + hits


def available() -> Sequence[str]:
    """Return the engines that are installed."""
    return [
        name for name, module in (("hyperscan", hyperscan), ("pcre2", pcre2)) if module is not None
    ]


# Hyperscan: which expressions may match at all ---------------------------------------------------


_ASSERTION = re.compile(r"\(\?(?:[=!>]|<[=!])|[*+?}]\+|\\[1-9Kkg]")  # what Hyperscan cannot do
# Long expressions and large counts take seconds and much memory to compile; PCRE2 does them.
_SIEVED_LENGTH = 1000
_LARGE_COUNT = re.compile(r"\{(?:\d*,)?\d{3,}\}|\{\d{3,},\d*\}")
# A large count that is one, not a part of an escape or of a class of letters (both are kept).
_LOOSENED = re.compile(
    r"(\\[xpPNgko]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\])"
    r"|\{(\d+)(?:,\d{3,}|(?<=\d{3})(?:,\d*)?)\}",
    re.DOTALL,
)
_FEW = 8  # expressions for which a database is not worth it


class _Sieve:
    """One database; expressions that Hyperscan cannot take are always candidates.

    What it cannot do exactly it does loosely (`HS_FLAG_PREFILTER`): PCRE2 looks again anyway.
    """

    def __init__(self, wanted: Sequence[Wanted], compile_rows: Compile) -> None:
        rows = []
        self._always: list[int] = []
        for index, each in enumerate(wanted):
            row = _row(index, each.pattern)
            if row is None:
                self._always.append(index)
            else:
                rows.append(row)
        made = compile_rows(rows) if rows else Database(b"", [])
        self._always += made.refused
        self._database = _loaded(made.octets) if made.octets else None
        self._scratches = threading.local()

    def candidates(self, text: bytes) -> list[int]:
        """Return which expressions may match."""
        found = list(self._always)
        if self._database is None or not text:
            return found
        scratch = getattr(self._scratches, "value", None)
        if scratch is None:  # one for each thread
            scratch = self._scratches.value = hyperscan.Scratch(self._database)

        def matched(index: int, start: int, end: int, flags: int, context: object) -> None:
            found.append(index)

        self._database.scan(text, match_event_handler=matched, scratch=scratch)
        return found


def compiled(rows: Sequence[Row]) -> Database:
    """Compile all; when one cannot be, each is tried alone."""
    refused: list[int] = []
    try:
        return Database(_compiled(rows), refused)
    except hyperscan.error:
        good = []
        for row in rows:
            try:
                _compiled([row])
            except hyperscan.error:
                refused.append(row.id)
            else:
                good.append(row)
        return Database(_compiled(good) if good else b"", refused)


def _row(index: int, pattern: Pattern) -> Row | None:
    source = pattern.source
    if len(source) > _SIEVED_LENGTH or "x" in pattern.flags or "\0" in source:
        return None
    flags = hyperscan.HS_FLAG_SINGLEMATCH
    if _ASSERTION.search(source):
        flags |= hyperscan.HS_FLAG_PREFILTER
    elif "\\Q" not in source:  # any number instead: what PCRE2 finds is still among the candidates
        source = _LOOSENED.sub(_loosened, source)
    if _LARGE_COUNT.search(source):
        return None
    for letter, flag in (
        ("i", hyperscan.HS_FLAG_CASELESS),
        ("s", hyperscan.HS_FLAG_DOTALL),
        ("m", hyperscan.HS_FLAG_MULTILINE),
    ):
        flags |= flag if letter in pattern.flags else 0
    return Row(_octets(source), index, flags)


def _loosened(found: re.Match[str]) -> str:
    return found[1] or ("+" if int(found[2]) else "*")


def _loaded(octets: bytes) -> Any:
    return hyperscan.loadb(octets, mode=hyperscan.HS_MODE_BLOCK)


def _compiled(rows: Sequence[Row]) -> bytes:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    expressions, ids, flags = zip(*rows, strict=True)
    database.compile(
        expressions=list(expressions), ids=list(ids), elements=len(rows), flags=list(flags)
    )
    octets: bytes = hyperscan.dumpb(database)
    return octets


# PCRE2: the reference ----------------------------------------------------------------------------


def _octets(source: str) -> bytes:
    return source.encode("utf-8", "replace")


def _pcre2(pattern: Pattern) -> Search:
    flags = 0
    for letter, flag in (("i", pcre2.I), ("m", pcre2.M), ("s", pcre2.S), ("x", pcre2.X)):
        flags |= flag if letter in pattern.flags else 0
    source = b"(*LIMIT_MATCH=%d)" % MATCH_LIMIT + _octets(pattern.source)
    try:
        compiled = pcre2.compile(source, flags)
    except Exception as error:
        raise Unusable(f"{type(error).__name__}: {error}"[:200]) from None

    def search(text: bytes, most: int) -> int:
        try:
            if most == 1:
                return int(compiled.search(text) is not None)
            return sum(1 for _ in islice(compiled.finditer(text), most))
        except pcre2.LibraryError:  # the limit: whoever makes it so hard is not believed
            return 0

    return search


# re: where nothing else is installed -------------------------------------------------------------

_CLASSES = {
    "[:alpha:]": "a-zA-Z",
    "[:digit:]": "0-9", "[:alnum:]": "a-zA-Z0-9", "[:space:]": r"\s",
    "[:upper:]": "A-Z", "[:lower:]": "a-z", "[:xdigit:]": "0-9a-fA-F",
    "[:punct:]": r"!-/:-@\[-`{-~",
    "[:blank:]": r" \t", "[:cntrl:]": r"\x00-\x1f\x7f", "[:print:]": " -~",
    "[:word:]": r"\w",
}  # fmt: skip
_ESCAPES = {r"\z": r"\Z", r"\Z": r"(?=\n?\Z)", r"\h": r"[ \t]", r"\R": r"(?:\r\n|\n|\r)"}
_ESCAPE = re.compile(r"\\.", re.DOTALL)
_CHOICE = re.compile(r"[*+?]|\{\d*,\d*\}")  # how often
_MANY_TIMES = re.compile(r"[*+]|\{\d*,\}|\{(?:\d*,)?\d{2,}\}")


def _re(pattern: Pattern) -> Search:
    source = pattern.source
    for name, members in _CLASSES.items():
        source = source.replace(name, members)
    source = _ESCAPE.sub(lambda each: _ESCAPES.get(each[0], each[0]), source)
    if may_explode(source):
        raise Unusable("may take too long without PCRE2")
    flags = re.NOFLAG
    for letter, flag in (("i", re.I), ("m", re.M), ("s", re.S), ("x", re.X)):
        flags |= flag if letter in pattern.flags else re.NOFLAG
    try:
        compiled = re.compile(_octets(source), flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise Unusable(f"re: {error}"[:200]) from None

    def search(text: bytes, most: int) -> int:
        text = text[:TEXT_LIMIT_OF_RE]
        if most == 1:
            return int(compiled.search(text) is not None)
        return sum(1 for _ in islice(compiled.finditer(text), most))

    return search


def may_explode(source: str) -> bool:
    """Tell whether a group that is repeated often can match one text in several ways.

    That is how an expression takes exponential time; many that are harmless are told too.
    """
    opened: list[bool] = [False]  # whether each open group has a choice in it
    position, in_class = 0, False
    while position < len(source):
        letter = source[position]
        if letter == "\\":
            position += 2
            continue
        if in_class:
            in_class = letter != "]"
        elif letter == "[":
            in_class = True
            position += source[position + 1 : position + 2] == "^"
            position += source[position + 1 : position + 2] == "]"
        elif letter == "(":
            opened.append(False)
            position += source[position + 1 : position + 2] == "?"
        elif letter == ")" and len(opened) > 1:
            inner = opened.pop()
            repeated = _MANY_TIMES.match(source, position + 1)
            possessive = repeated and source[repeated.end() : repeated.end() + 1] == "+"
            if inner and repeated and not possessive:
                return True
            opened[-1] |= inner
        elif letter == "|" or _CHOICE.match(source, position):
            opened[-1] = True
        position += 1
    return False
