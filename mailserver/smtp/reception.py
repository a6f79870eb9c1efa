"""A message while it arrives: what it costs in memory does not depend on its size.

Its first octets are kept in memory, the rest goes to a file without a name. When it is whole it is
brought into memory once, for those who look at it, and as many at a time as there is memory for.
"""

from mailserver.mail.memory import Memory
from mailserver.mail.spool import Spool
from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.framing import MAX_DRAIN, Data, LineEnds, Overflow
from mailserver.smtp.protocol.replies import Refused, Reply

IN_MEMORY = 128 * 1024  # octets of each message that never see a disk
ROOM_TIMEOUT = 30.0  # seconds a message waits for room on the disk, or in memory


class Reception:
    """Takes the content of one message, piece by piece."""

    __slots__ = (
        "_beginning",
        "_limit",
        "_line_ends",
        "_memory",
        "_spool",
        "_spooled",
        "_taken",
        "failure",
        "size",
    )

    def __init__(self, limit: int, memory: Memory, disk: Memory) -> None:
        """Take a message of up to `limit` octets; `memory` and `disk` are shared."""
        self.size = 0  # octets so far, kept or thrown away
        self.failure: Reply | None = None  # why nothing is kept any more
        self._limit = limit
        self._memory = memory
        self._taken = 0
        self._beginning = bytearray()
        self._spool = Spool(disk, ROOM_TIMEOUT)
        self._spooled = 0
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
        if self.size <= IN_MEMORY:
            self._beginning += piece
        elif await self._spool.write(piece):
            self._spooled += len(piece)
        else:
            self.fail(replies.NO_ROOM)

    def fail(self, reply: Reply) -> None:
        """Keep nothing, and say so in the end."""
        self.failure = self.failure or reply
        self.close()

    async def content(self) -> Data:
        """Return the whole message; Refused when it was not kept, or there is no memory for it."""
        if self.failure is not None:
            raise Refused(self.failure)
        content = bytes(self._beginning)
        if self._spooled:
            if not await self._memory.take(self.size, ROOM_TIMEOUT):
                raise Refused(replies.NO_ROOM)
            self._taken = self.size
            content += await self._spool.read(0, self._spooled)
            self._spool.close()
        self._beginning.clear()
        return Data(content, self._line_ends.end())

    def close(self) -> None:
        """Forget the message and give back what it took."""
        self._beginning.clear()
        self._spool.close()
        self._spooled = 0
        if self._taken:
            self._memory.give(self._taken)
            self._taken = 0
