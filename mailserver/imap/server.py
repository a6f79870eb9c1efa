"""The wire of IMAP: sockets, TLS, buffers and time limits.

One task a connection. Octets are read into one buffer shared by all connections of the server and
copied into the connection's framing, so a silent connection costs no buffer of its own.
"""

import asyncio
import logging
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import cast

from mailserver import proxy
from mailserver.auth.credentials import Authenticator
from mailserver.config import Listener
from mailserver.imap.channel import Channel, Disconnected, ShuttingDown, TimedOut
from mailserver.imap.clients import Clients
from mailserver.imap.commands.dispatch import converse
from mailserver.imap.protocol.deflate import Deflaters, Inflater
from mailserver.imap.session import Session
from mailserver.imap.tls import RECORD, Tls
from mailserver.mail.context import Mail
from mailserver.mail.memory import Memory
from mailserver.networks import NOWHERE, Networks
from mailserver.tls import end_point

log = logging.getLogger(__name__)

READ_BUFFER = 256 * 1024  # octets taken from a socket at once
UNREAD_LIMIT = 128 * 1024  # octets kept of a client that sends ahead of the answers
LARGE_PIECE = 2048  # octets; to copy smaller pieces costs less than to send each by itself
HIGH_WATER = 512 * 1024  # octets that wait for a slow reader
HANDSHAKE_TIMEOUT = 30.0  # seconds
WRITE_TIMEOUT = 60.0  # seconds in which a client must read most of what waits for it
BACKLOG = 1024
COMPRESSORS = 64  # of the connections that sent last
INFLATED = 64 * 1024  # octets that are inflated at once
MEMORY = 256 * 1024 * 1024  # octets of commands that are read or done at the same time
DISK = 2 * 1024 * 1024 * 1024  # octets of large messages that are received at the same time


class Connection(asyncio.BufferedProtocol, Channel):
    """One client's socket."""

    __slots__ = (
        "_closed",
        "_deadline",
        "_inflater",
        "_late",
        "_reading_paused",
        "_server",
        "_silent_until",
        "_stopping",
        "_task",
        "_timer",
        "_timer_at",
        "_tls",
        "_transport",
        "_wakeup",
        "_woken",
        "_writable",
    )

    def __init__(self, server: "ImapServer") -> None:
        super().__init__(memory=server.memory, disk=server.disk, secure=server.implicit_tls)
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._wakeup: asyncio.Future[None] | None = None  # `more` waits for it
        self._woken = False  # `wake` was called
        self._writable: asyncio.Future[None] | None = None  # `drain` waits for it
        self._closed = False
        self._stopping = False
        self._reading_paused = False
        self._inflater: Inflater | None = None  # after COMPRESS
        self._deadline: float | None = None  # loop time until which the client must log in
        self._silent_until: float | None = None  # loop time until which it must say something
        self._timer: asyncio.TimerHandle | None = None  # looks whether one of the two has come
        self._timer_at = 0.0
        self._late = False  # one of the two has come
        self._task: asyncio.Task[None] | None = None
        self._tls: Tls | None = None

    # called by the event loop ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the conversation."""
        # uvloop's transport has the methods of asyncio.Transport without being one
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
        _no_delay(transport)
        address = transport.get_extra_info("peername")
        self.peer = address[0] if address else ""
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + self._server.mail.config.imap.login_timeout
        if self._server.implicit_tls:
            self._begin_tls()
        self._task = self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the conversation, whatever it waits for."""
        self._closed = True
        self._server.deflaters.forget(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _wake(self._wakeup)
        _wake(self._writable)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the server's buffer: it is emptied before the loop reads from another socket."""
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what arrived; stop reading when the client is far ahead, or itself reads nothing."""
        octets = self._server.buffer[:nbytes]
        self._silent_until = None
        if self._tls is None:
            self._take(octets)
        else:
            self._decrypt(self._tls, octets)
        if self._wakeup is not None:
            _wake(self._wakeup)
        elif not (self._reading_paused or self._closed) and (
            self._unread > UNREAD_LIMIT or self._writable is not None
        ):
            assert self._transport is not None
            self._reading_paused = True
            self._transport.pause_reading()

    def _take(self, octets: memoryview) -> None:
        if self._inflater is None:
            self.framing.feed(octets)
        else:
            self._inflater.feed(octets)

    def _decrypt(self, tls: Tls, octets: memoryview) -> None:
        """Take what the octets mean; close when they are no TLS, or say that nothing follows."""
        assert self._transport is not None
        try:
            for plain in tls.receive(octets, self._server.plain):
                self._take(plain)
        except ssl.SSLError as error:
            log.info("TLS failed", extra={"peer": self.peer, "error": error.reason})
            tls.ended = True
        answer = tls.pending()
        if answer:
            self._transport.write(answer)
        if tls.ended:
            self._closed = True
            self._transport.close()

    @property
    def _unread(self) -> int:
        compressed = self._inflater.waiting if self._inflater is not None else 0
        return self.framing.buffered + compressed

    def eof_received(self) -> bool:
        """Treat a half-closed connection as closed, though what was written is still sent."""
        self._closed = True
        _wake(self._wakeup)
        _wake(self._writable)
        return False

    def pause_writing(self) -> None:
        """Make `drain` wait."""
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Let `drain` go on."""
        writable, self._writable = self._writable, None
        _wake(writable)

    # called by the session -------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Send octets."""
        if self._transport is not None and not self._closed:
            if self._inflater is not None:
                data = self._server.deflaters.deflate(self, data)
            self._send(data)

    def write_all(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Send octets that are in pieces: large ones go to the socket as they are."""
        plain = self._tls is None and self._inflater is None
        if plain and sum(map(len, pieces)) > LARGE_PIECE * len(pieces):
            if self._transport is not None and not self._closed:
                self._transport.writelines(pieces)
        else:
            super().write_all(pieces)

    def _send(self, data: bytes | memoryview) -> None:
        assert self._transport is not None
        if self._tls is None:
            self._transport.write(data)
        else:
            for octets in self._tls.send(data):
                self._transport.write(octets)

    async def drain(self) -> None:
        """Wait until the client has read most of what was sent."""
        if self._closed:
            raise Disconnected
        if self._inflater is not None:
            await asyncio.sleep(0)  # to compress takes time in which others wait
        if self._writable is None:
            return
        try:
            async with asyncio.timeout(self._server.write_timeout):
                await asyncio.shield(self._writable)
        except TimeoutError:
            log.info("client does not read", extra={"peer": self.peer})
            self.abort()
            raise Disconnected from None
        if self._closed:
            raise Disconnected

    def wake(self) -> None:
        """Let `more` return."""
        self._woken = True
        _wake(self._wakeup)

    async def more(self) -> None:
        """Wait for octets."""
        await self.drain()
        if self._stopping:
            raise ShuttingDown
        if self._inflate():
            return
        if self._woken:
            self._woken = False
            return
        assert self._transport is not None
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        loop = asyncio.get_running_loop()
        self._wakeup = loop.create_future()
        self._watch_clock(loop)
        try:
            await self._wakeup
        finally:
            self._wakeup = None
            self._woken = False
        if self._late:
            raise TimedOut
        if self._closed:
            raise Disconnected
        if self._stopping:
            raise ShuttingDown
        self._inflate()

    def _watch_clock(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that the wait ends in time.

        The timer is not set anew for each wait: when it is due and the client has spoken since, it
        waits for the rest. A busy client costs no timers, a silent one has one.
        """
        if self._silent_until is None:
            self._silent_until = loop.time() + self._server.mail.config.imap.idle_timeout
        due = self._deadline or self._silent_until
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = loop.call_at(due, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        due = self._deadline or self._silent_until
        if self._wakeup is None or due is None:
            return  # whoever waits next sets it again
        if loop.time() < due:
            self._watch_clock(loop)
        else:
            self._late = True
            _wake(self._wakeup)

    def _inflate(self) -> bool:
        """Give the framing the next octets of what arrived compressed; False without any."""
        if self._inflater is None or not self._inflater.waiting:
            return False
        self.framing.feed(self._inflater.take(INFLATED))
        return True

    @property
    def compressed(self) -> bool:
        """Whether what is said is compressed."""
        return self._inflater is not None

    def compress(self) -> None:
        """Compress what is sent, and inflate what arrives, from now on."""
        self._inflater = Inflater()

    def end_compression(self) -> None:
        """Send and read plain octets again."""
        assert self._inflater is not None
        if self._transport is not None and not self._closed:
            self._send(self._server.deflaters.end(self))
        self.framing.feed(self._inflater.rest())
        self._inflater = None

    @property
    def can_start_tls(self) -> bool:
        """Whether there is a certificate and no TLS yet."""
        return self._server.tls is not None and not self.secure

    @property
    def end_point(self) -> bytes | None:
        """What SCRAM binds a login to."""
        return end_point(self._tls.connection) if self._tls is not None else None

    async def start_tls(self) -> None:
        """Go on under TLS; plain text that came after STARTTLS is thrown away unread."""
        assert self._transport is not None
        self.framing.clear()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        self._begin_tls()
        await self.shake_hands()
        self.secure = True

    def _begin_tls(self) -> None:
        """Take whatever arrives from now on for TLS."""
        assert self._server.tls is not None
        self._tls = Tls(self._server.tls)

    async def shake_hands(self) -> None:
        """Wait until TLS is agreed on; Disconnected when that fails or takes too long."""
        tls = self._tls
        assert tls is not None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                while not tls.established:
                    if self._closed or self._stopping:
                        raise Disconnected
                    self._wakeup = loop.create_future()
                    await self._wakeup
        except TimeoutError:
            self.abort()
            raise Disconnected from None
        finally:
            self._wakeup = None

    def logged_in(self) -> None:
        """Lift the time limit of the login."""
        self._deadline = None

    # called by the server --------------------------------------------------------------------

    def stop(self) -> None:
        """Let the running command end, then say good-bye."""
        self._stopping = True
        _wake(self._wakeup)

    def close(self) -> None:
        """Close when all that was written is sent, and soon even when it cannot be."""
        if self._transport is None:
            return
        if not self._transport.is_closing():
            if self._tls is not None:
                self._transport.write(self._tls.close())
            self._transport.close()
        # also when the client was the first to close: it may never read what waits for it
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(self._server.write_timeout, self.abort)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _no_delay(transport: asyncio.Transport) -> None:
    """Send small answers at once: Nagle against delayed ACKs costs 40 ms."""
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _random_id() -> str:
    return secrets.token_hex(6)


class ImapServer:
    """Listens, and keeps count of its connections."""

    def __init__(
        self,
        *,
        mail: Mail,
        authenticator: Authenticator,
        tls: ssl.SSLContext | None,
        implicit_tls: bool,
        session_id: Callable[[], str] = _random_id,
        write_timeout: float = WRITE_TIMEOUT,
        memory: Memory | None = None,
        disk: Memory | None = None,
        proxies: Networks = NOWHERE,
        clients: Clients | None = None,
    ) -> None:
        """Listeners of a process share `memory` and `disk` for what clients send, and `clients`.

        Peers in `proxies` name the client by the PROXY protocol.
        """
        if implicit_tls and tls is None:
            raise ValueError("implicit TLS needs a certificate")
        self.mail = mail
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.write_timeout = write_timeout
        self.memory = memory or Memory(MEMORY)
        self.disk = disk or Memory(DISK)
        self.proxies = proxies
        self.clients = clients or Clients(mail.config.imap, mail.events, mail.metrics)
        self.deflaters = Deflaters(COMPRESSORS)
        self.buffer = memoryview(bytearray(READ_BUFFER))  # what a socket gave
        self.plain = memoryview(bytearray(RECORD))  # what it means, under TLS
        self._authenticator = authenticator
        self._session_id = session_id
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._listening: asyncio.Server | None = None

    async def start(self, listener: Listener) -> tuple[str, int]:
        """Listen; return the address and the port, which the system chose when it was 0."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            self._factory(), listener.host, listener.port, backlog=BACKLOG
        )
        host, port = self._listening.sockets[0].getsockname()[:2]
        return host, port

    async def accept(self, listening: socket.socket) -> asyncio.Server:
        """Also take connections from a socket of somebody else, who closes what is returned."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(self._factory(), sock=listening, backlog=BACKLOG)

    def _factory(self) -> proxy.Factory:
        return proxy.behind(lambda: Connection(self), self.proxies)

    @property
    def busy(self) -> bool:
        """Whether anybody is connected."""
        return bool(self._connections)

    async def stop(self, grace: float) -> None:
        """Stop listening, let running commands end, say BYE; cut what is left after `grace` s."""
        if self._listening is not None:
            self._listening.close()
        tasks = list(self._connections.values())
        for connection in list(self._connections):
            connection.stop()
        if tasks:
            _, slow = await asyncio.wait(tasks, timeout=grace)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
        for connection in list(self._connections):
            connection.abort()

    def opened(self, connection: Connection) -> asyncio.Task[None]:
        """Begin to serve a connection, or turn it away when there are too many."""
        config = self.mail.config
        most = config.server.share(config.imap.max_connections)
        admitted = len(self._connections) < most and self.clients.enter(connection.peer)
        serve = self._serve(connection) if admitted else self._turn_away(connection)
        task = asyncio.get_running_loop().create_task(serve)
        if admitted:
            self._connections[connection] = task
        return task

    async def _turn_away(self, connection: Connection) -> None:
        if not self.implicit_tls:  # a handshake is more than is left for it
            connection.write(b"* BYE [UNAVAILABLE] Too many connections\r\n")
        connection.close()

    async def _serve(self, connection: Connection) -> None:
        gauge = self.mail.metrics.connections.labels("imap")
        gauge.inc()
        try:
            if self.implicit_tls:
                await connection.shake_hands()
            await self._converse(connection)
        except Disconnected:
            log.debug("no TLS", extra={"peer": connection.peer})
        finally:
            gauge.dec()
            self.clients.leave(connection.peer)
            connection.close()
            self._connections.pop(connection, None)

    async def _converse(self, connection: Connection) -> None:
        session = Session(
            mail=self.mail,
            authenticator=self._authenticator,
            channel=connection,
            session_id=self._session_id(),
            clients=self.clients,
        )
        log.debug("connected", extra={"session": session.id, "peer": connection.peer})
        try:
            await converse(session)
        except Exception:
            log.exception("session failed", extra={"session": session.id})
            connection.write(b"* BYE [SERVERBUG] Internal error\r\n")
        finally:
            log.debug("disconnected", extra={"session": session.id})
