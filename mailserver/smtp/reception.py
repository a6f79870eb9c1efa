"""A message while it arrives: what it costs in memory does not depend on its size.

Its first octets are kept in memory. What follows is kept there too while there is room that all
connections share, and else goes to a file without a name. When the message is whole it is brought
into memory once, for those who look at it, and as many at a time as there is memory for.
"""

from dataclasses import dataclass

from mailserver.mail.memory import Memory
from mailserver.mail.spool import Spool
from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.framing import MAX_DRAIN, Data, LineEnds, Overflow
from mailserver.smtp.protocol.replies import Refused, Reply

IN_MEMORY = 128 * 1024  # octets of each message that are kept in memory without asking
ROOM_TIMEOUT = 30.0  # seconds a message waits for room on the disk, or in memory


@dataclass(frozen=True, slots=True)
class Room:
    """What the messages of a process share."""

    arriving: Memory  # octets of messages under way that may stay in memory
    disk: Memory  # octets of those that do not
    memory: Memory  # octets of messages that are whole, until they are stored


class Reception:
    """Takes the content of one message, piece by piece."""

    __slots__ = (
        "_beginning",
        "_borrowed",
        "_limit",
        "_line_ends",
        "_room",
        "_spool",
        "_spooled",
        "_taken",
        "failure",
        "size",
    )

    def __init__(self, limit: int, room: Room) -> None:
        """Take a message of up to `limit` octets."""
        self.size = 0  # octets so far, kept or thrown away
        self.failure: Reply | None = None  # why nothing is kept any more
        self._limit = limit
        self._room = room
        self._taken = 0  # octets of memory for the whole message
        self._borrowed = 0  # octets of memory for what arrives
        self._beginning: list[bytes] = []
        self._spool = Spool(room.disk, ROOM_TIMEOUT)
        self._spooled = 0  # octets
        self._line_ends = LineEnds()

    def expect(self, size: int) -> None:
        """Raise Overflow when so much will come that it is not worth reading."""
        if self.size + size > self._limit + MAX_DRAIN:
            raise Overflow

    async def add(self, piece: bytes) -> None:
        """Take content; Overflow when the peer goes on too far past the limit."""
        self.expect(len(piece))
        self.size += len(piece)
        if self.failure is None and self.size > self._limit:
            self.fail(replies.TOO_BIG)
        if self.failure is not None:
            return
        self._line_ends.feed(piece)
        if self._stays(len(piece)):
            self._beginning.append(piece)
        elif await self._spool.write(piece):
            self._spooled += len(piece)
        else:
            self.fail(replies.NO_ROOM)

    def _stays(self, size: int) -> bool:
        """Tell whether a piece is kept in memory; nothing is once a part is in the file."""
        if self.size <= IN_MEMORY:
            return True
        if self._spooled or not self._room.arriving.take_now(size):
            return False
        self._borrowed += size
        return True

    def fail(self, reply: Reply) -> None:
        """Keep nothing, and say so in the end."""
        self.failure = self.failure or reply
        self.close()

    async def content(self) -> Data:
        """Return the whole message; Refused when it was not kept, or there is no memory for it."""
        if self.failure is not None:
            raise Refused(self.failure)
        if self.size > IN_MEMORY:
            if not await self._room.memory.take(self.size, ROOM_TIMEOUT):
                raise Refused(replies.NO_ROOM)
            self._taken = self.size
        if self._spooled:
            self._beginning.append(await self._spool.read(0, self._spooled))
        content = b"".join(self._beginning)
        self._forget()
        return Data(content, self._line_ends.end())

    def close(self) -> None:
        """Forget the message and give back what it took."""
        self._forget()
        if self._taken:
            self._room.memory.give(self._taken)
            self._taken = 0

    def _forget(self) -> None:
        """Forget what has arrived."""
        self._beginning = []
        self._spool.close()
        self._spooled = 0
        if self._borrowed:
            self._room.arriving.give(self._borrowed)
            self._borrowed = 0
