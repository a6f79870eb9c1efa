"""The wire as a session sees it: commands in, octets out."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence

from mailserver.errors import TooMany
from mailserver.imap.protocol.framing import (
    Chunk,
    Continuation,
    Framing,
    LineTooLong,
    Outcome,
    Spooled,
)
from mailserver.mail.memory import Memory
from mailserver.mail.spool import Spool

FREE_MEMORY = 128 * 1024  # octets of each command that are not counted: small mail never waits
MEMORY_STEP = 256 * 1024  # octets
ROOM_TIMEOUT = 30.0  # seconds a message waits for memory or disk


class Disconnected(Exception):
    """The client is gone, or was cut off because it did not read."""


class TimedOut(Exception):
    """The client said nothing for too long."""


class ShuttingDown(Exception):
    """The server stops."""


class Channel(ABC):
    """The wire as a session sees it; the server has the real one."""

    __slots__ = ("_disk", "_memory", "_spool", "_taken", "framing", "peer", "secure")

    def __init__(self, *, memory: Memory, disk: Memory, secure: bool) -> None:
        """Share `memory` and `disk` for commands that are large with other connections."""
        self.framing = Framing()
        self.peer = ""
        self.secure = secure
        self._memory = memory
        self._disk = disk
        self._taken = 0  # octets of memory for the command under way
        self._spool: Spool | None = None  # the large literals of that command

    @abstractmethod
    def write(self, data: bytes | memoryview) -> None:
        """Send octets; they are buffered without limit until `drain`."""

    def write_all(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Send octets that are in pieces."""
        self.write(b"".join(pieces) if len(pieces) > 1 else pieces[0])

    @abstractmethod
    async def drain(self) -> None:
        """Wait until the client has read most of what was sent; Disconnected when it never does."""

    @abstractmethod
    async def more(self) -> None:
        """Wait for octets and feed them to `framing`, perhaps in vain.

        Raises Disconnected, TimedOut, ShuttingDown, Garbled.
        """

    @abstractmethod
    def wake(self) -> None:
        """Let `more` return although nothing came: now, or at once when it is called next."""

    @abstractmethod
    async def start_tls(self) -> None:
        """Go on under TLS; what was sent in plain text and not read yet is thrown away."""

    @abstractmethod
    def logged_in(self) -> None:
        """From now on only silence, not the time since the start, ends the connection."""

    @property
    @abstractmethod
    def compressed(self) -> bool:
        """Whether what is said is compressed."""

    @abstractmethod
    def compress(self) -> None:
        """Compress what is sent, and inflate what arrives, from now on."""

    @abstractmethod
    def end_compression(self) -> None:
        """Send and read plain octets again."""

    @property
    @abstractmethod
    def can_start_tls(self) -> bool:
        """Whether there is a certificate and no TLS yet."""

    @property
    @abstractmethod
    def end_point(self) -> bytes | None:
        """What SCRAM binds a login to: the hash of the certificate (RFC 5929 §4)."""

    async def command(self) -> Outcome | None:
        """Return the next command, or how it cannot be one; None when it is not there after a wait.

        Whoever waits can do something else then, and call again.
        """
        waited = False
        while True:
            event = self.framing.command()
            if isinstance(event, Chunk):
                await self._write_aside(event.octets)
            elif isinstance(event, Continuation):
                self.write(b"+ OK\r\n")
            elif event is None and self.framing.held > self._taken + FREE_MEMORY:
                await self._charge()  # more may arrive while it waits
            elif event is not None or waited:
                if not waited:
                    await asyncio.sleep(0)  # a client that sends ahead does not keep others waiting
                return event
            else:
                await self.more()
                waited = True

    async def _charge(self) -> None:
        """Take memory for what arrived of a command; without any the command is forgotten."""
        while self.framing.held > self._taken + FREE_MEMORY:
            if await self._memory.take(MEMORY_STEP, ROOM_TIMEOUT):
                self._taken += MEMORY_STEP
            else:
                self._give_up()
                return

    async def _write_aside(self, octets: bytes) -> None:
        """Keep a piece of a large message on disk; without room there it is forgotten."""
        if self._spool is None:
            self._spool = Spool(self._disk, ROOM_TIMEOUT)
        if not await self._spool.write(octets):
            self._give_up()

    def _give_up(self) -> None:
        self.framing.give_up()
        self.release()

    async def spooled(self, literal: Spooled) -> bytes:
        """Bring a large literal into memory, for the command under way."""
        assert self._spool is not None
        if not await self._memory.take(literal.size, ROOM_TIMEOUT):
            raise TooMany("memory for messages")
        self._taken += literal.size
        return await self._spool.read(literal.offset, literal.size)

    def release(self) -> None:
        """Give back memory and disk taken for the last command."""
        if self._taken:
            self._memory.give(self._taken)
            self._taken = 0
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    async def line(self) -> bytes | LineTooLong:
        """Return the next line as it is."""
        while True:
            line = self.framing.line()
            if line is not None:
                return line
            await self.more()
