"""From octets to whole commands: lines and the literals between them (RFC 9051 §4.3, RFC 7888).

`feed` takes what arrived, `command` and `line` hand out what is complete. What they return depends
on the octets alone, never on how they were cut; but large messages are handed out as they arrive. A
literal is accepted or refused when it is announced, so a client never sends what the server would
not keep.
"""

import re
from dataclasses import dataclass

LINE_LIMIT = 65536  # octets of one command without its literals
LONG_LINE_LIMIT = 1024 * 1024  # with sequence sets, after the login: clients name UIDs one by one
LITERAL_LIMIT = 65536  # octets of all literals of one command that is not APPEND
SPOOL_ABOVE = 262144  # octets of literals that one command may have in memory
CHUNK = 65536  # octets of a large literal that are handed out at once, or more
_SET_CHARACTERS = b"0123456789*:,"
_START = 256  # octets at the start of a line that is not kept: they name the command
_END = 32  # octets at its end: they tell whether a literal follows
_LITERAL = re.compile(rb"~?\{(\d{1,20})(\+?)\}\Z")
_TAG = re.compile(rb"([\x21\x23\x24\x26\x27\x2c-\x5b\x5d-\x7a\x7c\x7e]+) ")
_APPEND = re.compile(rb"[^ ]+ (?:APPEND|REPLACE|UID REPLACE) ", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Command:
    """A whole command: text, literal, text, literal, ..., text; no line ends, no `{n}`."""

    parts: "tuple[bytes | Spooled, ...]"


@dataclass(frozen=True, slots=True)
class Spooled:
    """A literal that was handed out in chunks: its place among all chunks of its command."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Octets of a message that is too large to be kept here."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Continuation:
    """A literal was announced that may be sent: the server has to say `+`."""


@dataclass(frozen=True, slots=True)
class LineTooLong:
    """A command longer than the limit was read and forgotten."""

    tag: bytes


@dataclass(frozen=True, slots=True)
class LiteralTooBig:
    """A command with a literal above the limit was refused or read and forgotten."""

    tag: bytes
    append: bool


@dataclass(frozen=True, slots=True)
class NoRoom:
    """A command that the server had no room for was read and forgotten."""

    tag: bytes


@dataclass(frozen=True, slots=True)
class Hopeless:
    """The client is sending so much that must be refused that reading on makes no sense."""


Outcome = Command | LineTooLong | LiteralTooBig | NoRoom | Hopeless
Event = Outcome | Continuation | Chunk


class Framing:
    """The reading side of one connection."""

    __slots__ = (
        "_buffer",
        "_kept",
        "_limit",
        "_octets",
        "_parts",
        "_plain",
        "_refusal",
        "_scanned",
        "_spooled",
        "_spooling",
        "_text",
        "_wanted",
        "append_limit",
    )

    def __init__(self) -> None:
        self.append_limit = 0  # octets of an APPEND literal; 0 until the client has logged in
        self._buffer = bytearray()
        self._scanned = 0  # octets at the start of the buffer that hold no line end
        self._forget()

    def _forget(self) -> None:
        self._parts: list[bytes | Spooled] = []
        self._text = 0  # octets of text so far
        self._plain = 0  # those of them that stand in no sequence set
        self._octets = 0  # octets of literals so far
        self._kept = 0  # those of them that are in memory
        self._spooled = 0  # those of them that were handed out
        self._spooling = False  # whether the literal that is being read is handed out
        self._limit = LITERAL_LIMIT
        self._wanted: int | None = None  # octets of the literal that is being read
        self._refusal: LineTooLong | LiteralTooBig | NoRoom | None = None

    @property
    def buffered(self) -> int:
        """Octets that arrived and were not handed out yet."""
        return len(self._buffer)

    @property
    def held(self) -> int:
        """Octets of the command under way in memory, when `command` has returned None."""
        if self._refusal is not None:
            return len(self._buffer)
        return self._text + self._kept + len(self._buffer)

    def give_up(self) -> None:
        """Read the rest of the command under way without keeping it, and report NoRoom.

        Only after `command` has returned None or a Chunk; more may have arrived since.
        """
        self._keep_start()
        self._refuse(NoRoom(self._tag()))

    def feed(self, data: bytes | memoryview) -> None:
        """Take what arrived."""
        self._buffer += data

    def clear(self) -> None:
        """Throw away what was sent before TLS began (RFC 9051 §11.1: no command injection)."""
        self._buffer.clear()
        self._scanned = 0
        self._forget()

    def line(self) -> bytes | LineTooLong | None:
        """Return the next line as it is, for DONE and SASL; None when it is not complete.

        A line that announces a literal is neither: it is a command that came too early, which is
        read to its end and reported as too long, lest the octets of a message count as commands.
        """
        while self._wanted is None or self._take_literal() is True:
            line = self._take_line(LINE_LIMIT)
            if line is None:
                return None
            announced = _LITERAL.search(line)
            if announced is None or not announced[2]:
                refused = self._refusal is not None
                self._forget()
                return LineTooLong(b"*") if refused else line
            self._refuse(LineTooLong(b"*"))
            self._wanted = int(announced[1])
        return None

    def command(self) -> Event | None:
        """Return the next event; None when more octets are needed."""
        while True:
            if self._wanted is not None:
                taken = self._take_literal()
                if taken is not True:
                    return taken or None
            line = self._take_line(self._line_limit - self._text)
            if line is None:
                return None
            event = self._take_text(line)
            if event is not None:
                return event

    @property
    def _line_limit(self) -> int:
        return LONG_LINE_LIMIT if self.append_limit else LINE_LIMIT

    def _take_line(self, limit: int) -> bytes | None:
        """Return the next line, which is refused above the limit; of a refused one only the end."""
        end = self._buffer.find(b"\n", self._scanned)
        there = len(self._buffer) if end < 0 else end
        if there > limit and self._refusal is None:
            self._keep_start()
            self._refuse(LineTooLong(self._tag()))
        if self._refusal is not None and there > _END:
            del self._buffer[: there - _END]
            there = _END
        if end < 0:
            self._scanned = there
            return None
        line = self._take(there).removesuffix(b"\r")
        del self._buffer[:1]
        self._scanned = 0
        return line

    def _keep_start(self) -> None:
        """Remember the start of a line that is not kept: it may have the tag."""
        if not self._parts:
            self._parts.append(bytes(self._buffer[:_START]).partition(b"\n")[0])

    def _refuse(self, refusal: LineTooLong | LiteralTooBig | NoRoom) -> None:
        """Read the rest of the command without keeping it; a literal sent at once belongs to it."""
        self._refusal = refusal
        del self._parts[1:]
        self._kept = 0

    def _take_literal(self) -> bool | Chunk:
        """Move the literal out of the buffer, when it is there whole, or large, or refused."""
        assert self._wanted is not None
        if self._refusal is not None:
            drained = min(self._wanted, len(self._buffer))
            del self._buffer[:drained]
            self._wanted -= drained
            if self._wanted:
                return False
        elif self._spooling:
            if self._wanted:
                return self._take_chunk()
            self._spooling = False
        elif len(self._buffer) < self._wanted:
            return False
        else:
            self._parts.append(self._take(self._wanted))
            self._kept += self._wanted
        self._wanted = None
        self._scanned = 0
        return True

    def _take_chunk(self) -> bool | Chunk:
        """Hand out what is there of a large literal, when it is enough or the end."""
        assert self._wanted is not None
        there = min(self._wanted, len(self._buffer))
        if there < min(self._wanted, CHUNK):
            return False
        self._wanted -= there
        return Chunk(self._take(there))

    def _take(self, size: int) -> bytes:
        octets = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return octets

    def _take_text(self, line: bytes) -> Event | None:
        announced = _LITERAL.search(line)
        if announced is None:
            self._count(line)
            refusal, parts = self._refusal, self._parts
            self._forget()
            return refusal or Command((*parts, line))
        if self.append_limit and _APPEND.match(self._start(line)):
            # the mailbox name may be a literal too
            self._limit = self.append_limit + LITERAL_LIMIT
        self._count(line)
        if self._refusal is None:
            self._parts.append(line[: announced.start()])
        return self._announce(int(announced[1]), synchronizing=not announced[2])

    def _count(self, line: bytes) -> None:
        """Refuse a command that is long, and not only because of its sequence sets."""
        self._text += len(line)
        self._plain += len(line.translate(None, _SET_CHARACTERS))
        if self._plain > LINE_LIMIT and self._refusal is None:
            if not self._parts:
                self._parts.append(line[:_START])
            self._refuse(LineTooLong(self._tag()))

    def _announce(self, size: int, *, synchronizing: bool) -> Event | None:
        """Decide about a literal before it is sent (RFC 7888 §4 for those sent at once)."""
        append = self._limit != LITERAL_LIMIT
        limit = self.append_limit if append else LITERAL_LIMIT
        if self._refusal is None and (size > limit or self._octets + size > self._limit):
            self._refuse(LiteralTooBig(self._tag(), append))
        self._octets += size
        if self._refusal is None:
            self._wanted = size
            if append and self._kept + size > SPOOL_ABOVE:
                self._spooling = True
                self._parts.append(Spooled(self._spooled, size))
                self._spooled += size
            return Continuation() if synchronizing else None
        if synchronizing:
            refusal = self._refusal
            self._forget()
            return refusal
        if self._octets > 2 * self._limit:
            return Hopeless()
        self._wanted = size
        return None

    def _tag(self) -> bytes:
        found = _TAG.match(self._start())
        return found[1] if found else b"*"

    def _start(self, line: bytes = b"") -> bytes:
        """Return the text at the start of the command, of which `line` is the first or a later."""
        first = self._parts[0] if self._parts else line
        assert isinstance(first, bytes)  # a command starts with text
        return first
