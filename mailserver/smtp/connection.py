"""One connection of SMTP, on aiosmtpd.

Kept from aiosmtpd 1.4.6, the pinned version: the stream protocol, the two-step `connection_made`,
and the upgrade of a running connection to TLS, which also begins the connections of port 465. Its
command loop, replies, timeouts, DATA and parameters are replaced. What this module touches of its
private surface is `_reader`, `_writer`, `_timeout_handle`, `_tls_protocol`, `_original_transport`,
`_handler_coroutine` and `_reset_timeout`; a test fails when one of them changes.
"""

import asyncio
import contextlib
import logging
import secrets
import ssl
from asyncio import sslproto
from collections.abc import Iterator
from typing import cast

from aiosmtpd.smtp import SMTP, TLSSetupException

from mailserver import proxy
from mailserver.smtp import commands
from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.framing import (
    MAX_AUTH_LINE,
    MAX_DRAIN,
    MAX_LINE,
    DataReader,
    Fault,
    LineBuffer,
    Overflow,
)
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.reception import Reception
from mailserver.smtp.session import Disconnected, Judged, Session
from mailserver.smtp.shared import Shared
from mailserver.tls import end_point

log = logging.getLogger(__name__)
logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's, a line for every event

READ_SIZE = 256 * 1024  # octets taken from the stream at once
STREAM_LIMIT = 64 * 1024  # octets; reading pauses at twice that
HANDSHAKE_TIMEOUT = 60.0  # seconds
PROCESSING_TIMEOUT = 600.0  # seconds; as long as a client waits, RFC 5321 §4.5.3.2.6
SESSION_TIME = 4 * 3600.0  # seconds; then a client has to connect again
MINIMUM_RATE = 1000.0  # octets a second of DATA, once RATE_GRACE is over
RATE_GRACE = 120.0  # seconds
TRIES = 20  # errors, in the weights of the table of commands, after which refusals take time
LINGER = 5.0  # seconds to send the last reply before the connection is cut
LINGER_OCTETS = MAX_DRAIN  # that a client may still send which has not read it
_FAULTS = {
    Fault.TOO_LONG: replies.LINE_TOO_LONG,
    Fault.BARE_LINE_FEED: replies.BARE_LINE_FEED,
}
_LAST = frozenset({221, 421})  # codes after which the server closes


class Connection(SMTP):
    """One connection: bytes in, lines to the commands, replies out."""

    def __init__(self, server: Shared, loop: asyncio.AbstractEventLoop) -> None:
        # SMTP.__init__ inspects every method for each connection, 0.08 ms; nothing of what it
        # finds is used here, so its parent is initialised and what is used is set below.
        reader = asyncio.StreamReader(limit=STREAM_LIMIT, loop=loop)
        super(SMTP, self).__init__(reader, self._cb_client_connected, loop)
        self.loop = loop
        self.tls_context = server.tls
        self.transport: asyncio.BaseTransport | None = None
        self._original_transport: asyncio.BaseTransport | None = None
        self._tls_protocol = None
        self._handler_coroutine = None
        self._handle_hooks = {}
        limits = server.mail.config.smtp
        self._timeout_handle: asyncio.TimerHandle | None = None
        self._timeout_duration = limits.command_timeout
        self._linger: asyncio.TimerHandle | None = None
        self._tick = min(limits.command_timeout, limits.data_timeout, HANDSHAKE_TIMEOUT)
        self._deadline = 0.0
        self._born = loop.time()
        self._server = server
        self._lines = LineBuffer()
        self._out: list[bytes] = []
        self._greeted = False
        self._early = False  # the client spoke before it was greeted
        self._idle = False  # waits for a command
        self._receiving = False  # a message
        self._unread: int | None = None  # octets that are still thrown away after the last reply
        self._hello = b""  # of TLS, if it comes before TLS can take it
        self._ended = ""  # why the server ended the connection
        self._over = False  # the conversation has ended
        self._dialogue: Session | None = None

    # What aiosmtpd and the event loop call ------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the conversation, or go on in TLS with nothing left of what came before it."""
        super().connection_made(transport)
        if self._tls_protocol is not None:
            self._lines.clear()
            self._session.secured(_tls_text(transport.get_extra_info("ssl_object")))

    def connection_lost(self, error: Exception | None) -> None:
        """End the conversation; a message that is being committed is still committed."""
        if self._original_transport is not None:
            self._original_transport.close()
        if self._linger is not None:
            self._linger.cancel()
        super(SMTP, self).connection_lost(error)
        self.transport = None
        self._let_go()

    def data_received(self, data: bytes) -> None:
        """Take octets, and notice a client that does not wait for the greeting."""
        if self._unread is not None:
            self._unread -= len(data)
            if self._unread < 0:
                self.abort()
            return
        if self._server.kind.implicit_tls and self._tls_protocol is None:
            self._hello += data  # uvloop reads before the conversation has begun
            return
        if not self._greeted:
            self._early = True
        super().data_received(data)

    def eof_received(self) -> bool:
        """Answer what has arrived; in TLS there is no half-closed connection to do that on."""
        super(SMTP, self).eof_received()
        return self._tls_protocol is None and self._unread is None

    async def push(self, status: str | bytes) -> None:
        """Send aiosmtpd's own reply, the invitation to begin TLS."""
        self._send(Reply(220, "2.0.0", "Ready to start TLS"))
        await self._flush()
        if self._reader.at_eof():
            raise Disconnected

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Set the time by which something must have happened; one timer serves them all."""
        self._deadline = self.loop.time() + (duration or self._timeout_duration)
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_later(self._tick, self._timeout_cb)

    def _timeout_cb(self) -> None:
        if self.transport is None:
            return
        left = self._deadline - self.loop.time()
        if left > 0:
            self._timeout_handle = self.loop.call_later(min(left, self._tick), self._timeout_cb)
        else:
            self._end("timeout", replies.TIMED_OUT)

    # For the server -----------------------------------------------------------------------------

    @property
    def task(self) -> "asyncio.Task[None] | None":
        """Return the task that runs the conversation."""
        return self._handler_coroutine

    def drain(self) -> None:
        """End an idle connection; others end after the command that they run."""
        if self._idle and self.transport is not None:  # else it has ended this moment
            self._end("shutdown", replies.SHUTTING_DOWN)

    def abort(self) -> None:
        """Cut the connection."""
        for transport in (self.transport, self._original_transport):
            if transport is not None:
                # the type says BaseTransport, and uvloop's classes are no subclasses of any
                cast(asyncio.WriteTransport, transport).abort()

    # What handlers ask for (session.Wire) -------------------------------------------------------

    @property
    def can_start_tls(self) -> bool:
        """Tell whether STARTTLS is possible now."""
        return self.tls_context is not None and self._tls_protocol is None

    @property
    def end_point(self) -> bytes | None:
        """Return what SCRAM binds a login to."""
        return end_point(self._writer.get_extra_info("ssl_object"))

    async def start_tls(self) -> None:
        """Upgrade the connection; Disconnected when the handshake fails."""
        self._reset_timeout(HANDSHAKE_TIMEOUT)
        if self._reader.at_eof():  # TLS would not be told, and wait for what never comes
            raise Disconnected
        try:
            if self._server.kind.implicit_tls:
                await self._begin_tls()
            else:
                await self.smtp_STARTTLS("")
        except TLSSetupException as error:
            self._ended = "handshake"
            log.info(
                "TLS handshake failed",
                extra={
                    "session": self._session.id,
                    "peer": self._session.peer,
                    "error": str(error.__cause__),
                },
            )
            raise Disconnected from None
        if not self._session.tls:  # the peer went away during the handshake
            raise Disconnected

    async def _begin_tls(self) -> None:
        """Do what smtp_STARTTLS does, and give TLS what the client has said already."""
        assert self.tls_context is not None
        waiter: asyncio.Future[None] = self.loop.create_future()
        transport = cast(asyncio.Transport, self.transport)
        layer = sslproto.SSLProtocol(self.loop, self, self.tls_context, waiter, server_side=True)
        self._tls_protocol = layer
        self._original_transport = transport
        transport.set_protocol(layer)
        self.transport = layer._app_transport
        layer.connection_made(transport)
        proxy.feed(transport, self._hello)
        self._hello = b""
        try:
            await waiter
        except OSError as error:  # errors of TLS are OSError
            raise TLSSetupException from error

    async def ask(self, reply: Reply) -> bytes:
        """Send a reply that the client answers with a line that is no command."""
        self._send(reply)
        line = await self._next_line(MAX_AUTH_LINE)
        if line is None:
            raise Disconnected
        if isinstance(line, Fault):
            raise Refused(_FAULTS[line])
        return line

    def say(self, reply: Reply) -> None:
        """Send a reply before the one that the handler returns."""
        self._send(reply)

    def reception(self) -> Reception:
        """Return what takes the next message."""
        most = self._server.mail.config.smtp.max_message_size
        return Reception(most, self._server.limits.room)

    async def receive(self, reception: Reception) -> None:
        """Invite the client to send a message, and read it to its end."""
        self._send(replies.START_DATA)
        reader = DataReader()
        arrived = self._lines.take()
        began = self.loop.time()
        rest = None
        with self._unless_too_big():
            while rest is None:
                arrived = arrived or await self._read_data(began, reception.size)
                piece, rest = reader.feed(arrived)
                await reception.add(piece)
                arrived = b""
            self._lines.put_back(rest)
            self._reset_timeout(PROCESSING_TIMEOUT)
            return
        await self._cut()

    async def receive_chunk(self, size: int, reception: Reception) -> None:
        """Read so many octets of a message (RFC 3030 §2)."""
        began = self.loop.time()
        left = size
        with self._unless_too_big():
            reception.expect(size)
            while left:
                arrived = self._lines.take(left)
                if not arrived:
                    self._lines.feed(await self._read_data(began, size - left))
                    continue
                left -= len(arrived)
                await reception.add(arrived)
            self._reset_timeout(PROCESSING_TIMEOUT)
            return
        await self._cut()

    @contextlib.contextmanager
    def _unless_too_big(self) -> Iterator[None]:
        """Say that a message is too big even to be thrown away, and let what follows be done."""
        self._receiving = True
        try:
            yield
            self._receiving = False
        except Overflow:
            self._ended = "message too big"
            self._send(replies.TOO_BIG)

    async def _cut(self) -> None:
        await self._flush()
        raise Disconnected

    # Inside -------------------------------------------------------------------------------------

    @property
    def _session(self) -> Session:
        assert self._dialogue is not None
        return self._dialogue

    async def _handle_client(self) -> None:
        """Run the conversation from the greeting to the end, and clean up after it."""
        server = self._server
        peername = self._writer.get_extra_info("peername") or ("unknown", 0)
        session = Session(
            mail=server.mail,
            policy=server.policy,
            authenticator=server.authenticator,
            wire=self,
            outcomes=server.outcomes,
            id=secrets.token_hex(8),
            peer=peername[0],
            relay=peername[0],
            relays=server.relays,
            clock=self.loop.time,
            token=lambda: secrets.token_hex(16),
            gate=server.gate,
        )
        self._dialogue = session
        admitted = server.limits.connections.enter(session.relay)
        server.open.add(self)
        connections = server.mail.metrics.connections.labels("smtp")
        connections.inc()
        try:
            if admitted:
                with server.mail.tracing.span(
                    "SMTP session", kind="server", session=session.id, listener=server.name
                ):
                    await self._converse(session)
            else:
                self._ended = "too many connections"
                self._send(replies.TOO_MANY_CONNECTIONS)
                await self._flush()
        except (Disconnected, Overflow, OSError) as error:
            self._ended = self._ended or type(error).__name__
        except Exception:
            log.exception("session crashed", extra={"session": session.id})
            self._ended = "crash"
        finally:
            connections.dec()
            server.open.discard(self)
            session.policy.ended(session)
            if admitted:
                server.limits.connections.leave(session.relay)
            if session.messages:
                server.limits.strangers.met(session.peer)
            session.reset()
            self._close()
            self._log_end(session)
            self._over = True
            self._let_go()

    async def _converse(self, session: Session) -> None:
        """Greet, then answer one line after the other."""
        if self._server.kind.implicit_tls:
            await self.start_tls()
        try:
            if self._server.kind.pauses:
                await self._wait_for_early_talkers(session)
            await session.policy.connected(session)
        except Refused as refusal:
            self._ended = "refused"
            verdict = refusal.verdict if isinstance(refusal, Judged) else None
            session.record("connect", refusal.reply, verdict=verdict)
            self._send(refusal.reply)
            await self._flush()
            return
        self._send(replies.greeting(session.hostname, session.protocol))
        self._greeted = True
        while (line := await self._next_line(MAX_LINE)) is not None:
            self._reset_timeout(PROCESSING_TIMEOUT)
            if isinstance(line, Fault):
                reply: Reply | None = commands.count(session, _FAULTS[line])
            else:
                reply = await commands.run(session, line)
            if reply is not None:
                await self._slow_down(session, reply)
                self._send(reply)
                if reply.code in _LAST:
                    self._ended = "quit" if reply.code == 221 else reply.text
                    break
        await self._flush()

    async def _wait_for_early_talkers(self, session: Session) -> None:
        """Let a stranger wait for the greeting; Refused when it speaks first (RFC 5321 §3.1)."""
        pause = self._server.mail.config.smtp.greeting_pause
        if pause and self._server.limits.strangers.includes(session.peer):
            await asyncio.sleep(pause)
        if self._early:
            raise Refused(replies.TOO_EARLY)

    async def _slow_down(self, session: Session, reply: Reply) -> None:
        """Let a stranger that only tries wait for each further refusal; a timer is all it costs."""
        if reply.code < 500 or session.errors < TRIES or session.principal is not None:
            return
        if not session.messages and self._server.limits.strangers.includes(session.peer):
            await asyncio.sleep(self._server.mail.config.smtp.error_pause)

    async def _next_line(self, limit: int) -> bytes | Fault | None:
        """Wait for a line; replies are held back while a whole line is here (RFC 2920 §3.2)."""
        waiting = False
        while self.transport is not None:
            line = self._lines.next_line(limit)
            if line is not None:
                return line
            if not waiting:
                self._reset_timeout()
                waiting = True
            await self._flush()
            if self._must_end():
                return None
            self._idle = True
            try:
                arrived = await self._reader.read(READ_SIZE)
            finally:
                self._idle = False
            if not arrived:
                return None
            self._lines.feed(arrived)
        return None

    def _must_end(self) -> bool:
        """End the connection between two commands when the server stops or it lasts too long."""
        if self._server.stopping:
            self._end("shutdown", replies.SHUTTING_DOWN)
        elif self.loop.time() - self._born > SESSION_TIME:
            self._end("session time", replies.SESSION_TOO_LONG)
        return bool(self._ended)

    async def _read_data(self, began: float, size: int) -> bytes:
        """Wait for more of a message: soon, and on the whole not too slowly."""
        if self._out:
            await self._flush()
        now = self.loop.time()
        slowest = began + RATE_GRACE + size / MINIMUM_RATE
        timeout = min(self._server.mail.config.smtp.data_timeout, slowest - now)
        self._reset_timeout(max(timeout, 0.001))
        data = await self._reader.read(READ_SIZE)
        if not data or self._unread is not None:  # it was told that this came too late
            raise Disconnected
        return data

    def _send(self, reply: Reply) -> None:
        self._out.append(bytes(reply))

    async def _flush(self) -> None:
        """Write the replies of a group at once."""
        if not self._out:
            return
        if self.transport is None or self._unread is not None:
            raise Disconnected
        self._writer.write(b"".join(self._out))
        self._out.clear()
        try:
            await self._writer.drain()
        except OSError as error:  # in the middle of a command too it is the client that failed
            self._ended = self._ended or type(error).__name__
            raise Disconnected from error

    def _end(self, reason: str, reply: Reply) -> None:
        """Say why and close, from outside the conversation."""
        self._ended = reason
        if self._tls_protocol is None or self._session.tls:
            self._send(reply)
            self._writer.write(b"".join(self._out))
            self._out.clear()
        self._close()

    def _close(self) -> None:
        """Close the connection, and cut it when the peer does not take the last reply."""
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        if self.transport is None or self._unread is not None:
            return
        self._linger = self.loop.call_later(LINGER, self.abort)
        if self._receiving and not self._reader.at_eof() and not self._writer.is_closing():
            self._wait_for_the_end()
        else:
            self._writer.close()

    def _wait_for_the_end(self) -> None:
        """Let a client that is in the middle of a message read the last reply.

        With octets of it unread, the system would reset the connection, and many read nothing then.
        """
        transport = cast(asyncio.Transport, self.transport)
        self._unread = LINGER_OCTETS
        if transport.can_write_eof():  # not under TLS
            transport.write_eof()
        self._reader.feed_eof()
        transport.resume_reading()

    def _let_go(self) -> None:
        """Undo the circles of references when all has ended.

        The collector of garbage comes seldom to what is old, and each connection is 7 kB.
        """
        if self._over and self.transport is None:
            self._client_connected_cb = self._handler_coroutine = self._dialogue = None
            self._timeout_handle = self._linger = None
            self._tls_protocol = self._original_transport = None
            self.__dict__.pop("_reader", None)
            self.__dict__.pop("_writer", None)

    def _log_end(self, session: Session) -> None:
        log.info(
            "session ended",
            extra={
                "session": session.id,
                "peer": session.peer,
                "kind": self._server.name,
                "account": session.principal.login if session.principal else None,
                "tls": session.tls,
                "messages": session.messages,
                "errors": session.errors,
                "reason": self._ended or "closed by the client",
                "seconds": round(self.loop.time() - self._born, 3),
            },
        )


def _tls_text(ssl_object: ssl.SSLObject | None) -> str:
    """Return the version and the cipher, as a Received field shows them."""
    cipher = ssl_object.cipher() if ssl_object is not None else None
    return f"{cipher[1]} {cipher[0]}" if cipher else "TLS"
