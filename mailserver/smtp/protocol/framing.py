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

    def take(self) -> bytes:
        """Take everything, for the data that follows a command."""
        data = bytes(self._buffer)
        self.clear()
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

    content: bytearray
    bare: bool  # has a CR or an LF that is not part of a CR LF


class DataReader:
    """Collects the data of one message up to CR LF . CR LF."""

    __slots__ = ("_body", "_dropped", "_limit", "_sent", "_stuffed")

    def __init__(self, limit: int) -> None:
        # The CR LF of the DATA command is where the first line starts: a lone dot there is the end.
        self._body = bytearray(b"\r\n")
        self._limit = limit
        self._dropped = 0
        self._sent = 0  # octets so far
        self._stuffed = 0  # of them, dots that are not content

    @property
    def size(self) -> int:
        """Return the octets of content so far, kept or thrown away."""
        return self._sent - self._stuffed

    @property
    def held(self) -> int:
        """Return the octets kept in memory."""
        return len(self._body)

    @property
    def too_large(self) -> bool:
        """Tell whether the message passed its limit; its content is thrown away then."""
        return self._dropped > 0 or self.size > self._limit

    def discard(self) -> None:
        """Keep no content from here on, but go on to look for the end."""
        self._limit = 0
        self._drop()

    def feed(self, data: bytes) -> bytes | None:
        """Add bytes; return what follows the end of the data, or None when there is more to come.

        Raises Overflow when the peer goes on too far past the limit.
        """
        body = self._body
        before = len(body)
        body += data
        end = body.find(b"\r\n.\r\n", max(before - 4, 0))
        rest = None
        self._sent += len(data)
        if end >= 0:
            rest = bytes(body[end + 5 :])
            del body[end + 2 :]
            self._sent -= len(rest) + 3
            if end + 2 < before:
                self._stuffed -= (
                    1  # the dot of the end came earlier and was taken for a stuffed one
                )
        self._stuffed += body.count(b"\r\n.", max(before - 2, 0))
        if self._dropped or self.size > self._limit:
            self._drop()
        if self._dropped > MAX_DRAIN + self._limit:
            raise Overflow
        return rest

    def finish(self) -> Data:
        """Return the message without stuffed dots (RFC 5321 §4.5.2), once its end was found."""
        body = self._body
        if self._stuffed:
            body = body.replace(b"\r\n.", b"\r\n")
        del body[:2]
        line_ends = body.count(b"\r\n")
        bare = body.count(b"\n") != line_ends or body.count(b"\r") != line_ends
        return Data(body, bare)

    def _drop(self) -> None:
        """Keep only the last octets, which may begin the end."""
        excess = len(self._body) - 4
        if excess > 0:
            self._dropped += excess
            del self._body[:excess]
