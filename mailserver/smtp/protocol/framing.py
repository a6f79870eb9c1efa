"""Command lines and message data out of a byte stream, however the bytes arrive.

The stream is bytes from a stranger: a line is bounded by `MAX_LINE`, a skipped line by `MAX_SKIP`,
a message by its limit plus `MAX_DRAIN`. A command line ends with CR LF only, and data with
CR LF . CR LF only, so that no two servers can disagree on where a message ends (RFC 5321 §2.3.8).
"""

from dataclasses import dataclass
from enum import Enum

MAX_LINE = 8192  # octets with CR LF; RFC 5321 §4.5.3.1.4 asks for 512 plus the extensions' needs
MAX_AUTH_LINE = 12288  # octets with CR LF, RFC 4954 §4
MAX_SKIP = 1 << 20  # octets of one line thrown away before the connection is given up
MAX_DRAIN = 16 << 20  # octets of data thrown away past the limit, likewise
END_OF_DATA = b"\r\n.\r\n"
STUFFED = b"\r\n."


class Fault(Enum):
    """What is wrong with a line."""

    TOO_LONG = "too long"
    BARE_LINE_FEED = "bare line feed"


class Overflow(Exception):
    """The peer sent more than is worth skipping; the connection ends."""


class LineBuffer:
    """Bytes that arrived and were not taken yet."""

    __slots__ = ("_buffer", "_scanned", "_skipped")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # octets known to have no line feed
        self._skipped = 0  # octets dropped from the line that is being skipped; 0: none is

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        self._buffer += data

    def next_line(self, limit: int = MAX_LINE) -> bytes | Fault | None:
        """Take the next whole line without its CR LF; None when none is whole yet.

        Raises Overflow when a line without end passes MAX_SKIP.
        """
        buffer = self._buffer
        end = buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(buffer)
            if self._skipped or len(buffer) >= limit:
                self._skipped += len(buffer)
                self.clear(keep_skipping=True)
                if self._skipped > MAX_SKIP:
                    raise Overflow
            return None
        self._scanned = 0
        if self._skipped or end >= limit:
            self._skipped = 0
            del buffer[: end + 1]
            return Fault.TOO_LONG
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        if not line.endswith(b"\r"):
            return Fault.BARE_LINE_FEED
        return line[:-1]

    @property
    def has_line(self) -> bool:
        """Tell whether a line end has arrived, so that replies can wait for the next one."""
        return self._buffer.find(b"\n", self._scanned) >= 0

    def take(self, most: int | None = None) -> bytes:
        """Take everything, or so many octets at most, of the data that follows a command."""
        data = bytes(self._buffer[:most])
        del self._buffer[:most]
        self._scanned = 0
        return data

    def put_back(self, data: bytes) -> None:
        """Return what came after the end of the data."""
        self._buffer[:0] = data
        self._scanned = 0

    def clear(self, *, keep_skipping: bool = False) -> None:
        """Forget everything, as after STARTTLS (RFC 3207 §4.2)."""
        self._buffer.clear()
        self._scanned = 0
        if not keep_skipping:
            self._skipped = 0


@dataclass(frozen=True, slots=True)
class Data:
    """A message as the peer sent it, dots unstuffed, and what is wrong with it."""

    content: bytes
    bare: bool  # has a CR or an LF that is not part of a CR LF


class LineEnds:
    """Looks for a CR or an LF that is not part of a CR LF, in content that comes in pieces."""

    __slots__ = ("_ends_with_cr", "bare")

    def __init__(self) -> None:
        self._ends_with_cr = False  # the last piece; an LF may follow
        self.bare = False

    def feed(self, piece: bytes | bytearray) -> None:
        """Look at a piece."""
        if self.bare or not piece:
            return
        pairs = piece.count(b"\r\n")
        feeds, returns = piece.count(b"\n"), piece.count(b"\r")
        if self._ends_with_cr:
            if piece[0] != 10:
                self.bare = True
            feeds -= 1
        self._ends_with_cr = piece[-1] == 13
        if feeds != pairs or returns - self._ends_with_cr != pairs:
            self.bare = True

    def end(self) -> bool:
        """Return whether there was any."""
        return self.bare or self._ends_with_cr


class DataReader:
    """Decodes the data of one message up to CR LF . CR LF, a piece at a time (RFC 5321 §4.5.2)."""

    __slots__ = ("_begun", "_tail")

    def __init__(self) -> None:
        # The CR LF of the DATA command is where the first line starts: a lone dot there is the end.
        self._tail = b"\r\n"  # may begin the end of the data, or a stuffed dot
        self._begun = False

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Add bytes; return content, and what follows the end; None when there is more to come."""
        if self._tail:
            data = self._tail + data
        dot = data.find(STUFFED)  # searched for once: most pieces have neither this nor the end
        end = data.find(END_OF_DATA, dot) if dot >= 0 else -1
        if end >= 0:
            piece, rest = data[: end + 2], data[end + 5 :]
            self._tail = b""
        else:
            kept = _held_back(data)
            cut = len(data) - kept
            piece, self._tail, rest = data[:cut], data[cut:], None
        if 0 <= dot < len(piece):
            piece = piece.replace(STUFFED, b"\r\n")
        if not self._begun and piece:
            self._begun = True
            piece = piece[2:]
        return piece, rest


def _held_back(data: bytes) -> int:
    """Return how many octets at the end may belong to the end of the data."""
    if not data.endswith((b"\r", b"\n", b".")):
        return 0
    for size in range(len(END_OF_DATA) - 1, 0, -1):
        if data.endswith(END_OF_DATA[:size]):
            return size
    return 0
