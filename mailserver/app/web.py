"""uvicorn inside the event loop of the server, with the limits that it lacks."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mailserver import proxy
from mailserver.app.web_sockets import PING_INTERVAL, PING_TIMEOUT, BoundedWebSocket
from mailserver.config import Http, Listener
from mailserver.networks import NOWHERE, Networks
from mailserver.smtp.limits import Connections

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

HEAD_TIMEOUT = 20.0  # seconds from the first byte, or the connection, to the end of the head
HEAD_LIMIT = 64 * 1024  # bytes of request line and headers
BODY_TIMEOUT = 60.0  # seconds between two reads of a body
SEND_TIMEOUT = 60.0  # seconds in which a peer takes SEND_LEAST octets of an answer, or all of it
SEND_LEAST = 64 * 1024
KEEP_ALIVE = 75  # seconds between two requests
BACKLOG = 1024
FRAME_SLACK = 1024  # octets above the largest request, so that a little too much is told as such


_BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 that drops peers who stall in a request or an answer, or whose head does not end."""

    head_timeout, head_limit, body_timeout = HEAD_TIMEOUT, HEAD_LIMIT, BODY_TIMEOUT
    send_timeout, send_least = SEND_TIMEOUT, SEND_LEAST
    _timer: asyncio.TimerHandle | None = None
    _part: str | None = None  # of a request, "head" or "body"; None between two of them
    _head = 0  # bytes read of an unfinished head, not counting its first read
    _sending: asyncio.TimerHandle | None = None  # runs while the peer has not taken an answer
    connections_of: Connections | None = None  # of each address, on this listener
    exempt: Networks = NOWHERE
    _counted = ""  # the address, while it is counted

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: a peer that connects must ask for something."""
        super().connection_made(transport)
        self._arm(self.head_timeout)
        peer = str((transport.get_extra_info("peername") or ("",))[0])
        if self.connections_of is None or peer in self.exempt:
            return
        if self.connections_of.enter(peer):
            self._counted = peer
        else:
            transport.write(_BUSY)
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, within bounds."""
        before = self._part
        if before == "body":
            self._arm(self.body_timeout)
        super().data_received(data)
        if before == self._part == "head":
            self._head += len(data)
            if self._head > self.head_limit:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """Note that a request starts."""
        super().on_message_begin()
        self._part, self._head = "head", 0
        self._arm(self.head_timeout)

    def on_headers_complete(self) -> None:
        """Note that the body starts."""
        super().on_headers_complete()
        self._part = "body"
        self._arm(self.body_timeout)

    def on_message_complete(self) -> None:
        """Stop the clock: from here on it is the server that works."""
        super().on_message_complete()
        self._part = None
        self._disarm()

    def handle_websocket_upgrade(self) -> None:
        """Stop the clock: what follows is another protocol's, with clocks of its own."""
        self._part = None
        self._disarm()
        most = self.config.limit_concurrency
        if most is not None and len(self.connections) > most:
            self.transport.write(_BUSY)
            self.transport.close()
            return
        super().handle_websocket_upgrade()
        upgraded = self.transport.get_protocol()
        if isinstance(upgraded, BoundedWebSocket):
            upgraded.leave = self._leave

    def pause_writing(self) -> None:
        """Watch whether the peer takes what it asked for.

        An answer is handed over whole, so without this its memory would be kept for as long as
        the peer likes: even a closed connection first sends what it holds.
        """
        super().pause_writing()
        if self._sending is None:
            self._watch_sending()

    def resume_writing(self) -> None:
        """Stop watching: almost all is sent."""
        super().resume_writing()
        self._stop_watching()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks for good."""
        self._disarm()
        self._stop_watching()
        self._leave()
        super().connection_lost(exc)

    def _leave(self) -> None:
        if self._counted and self.connections_of is not None:
            self.connections_of.leave(self._counted)
            self._counted = ""

    def _watch_sending(self) -> None:
        held = self.transport.get_write_buffer_size()
        self._sending = self.loop.call_later(self.send_timeout, self._see_sending, held)

    def _see_sending(self, held: int) -> None:
        self._sending = None
        if held - self.transport.get_write_buffer_size() < self.send_least:
            self.transport.abort()
        else:
            self._watch_sending()

    def _stop_watching(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._too_late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        if self._part == "body" and self.flow.read_paused:
            self._arm(self.body_timeout)  # the server is slow, not the peer
        else:
            self.transport.abort()


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves signals alone and tells when it accepts."""

    def __init__(self, config: uvicorn.Config, limits: Http) -> None:
        super().__init__(config)
        self._exempt = Networks(limits.forwarded_networks)
        self._connections_of = Connections(limits.max_connections, limits.max_connections_per_ip)
        self.accepts = asyncio.Event()
        self.ends = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as usual, then say so."""
        await super().startup(sockets)
        self.accepts.set()

    async def main_loop(self) -> None:
        """Renew the date of answers every second; uvicorn looks ten times as often."""
        seconds = 0
        while not await self.on_tick(10 * seconds):
            seconds += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.ends.wait()

    def end(self) -> None:
        """Let the loop end."""
        self.should_exit = True
        self.ends.set()

    def protocol(self) -> asyncio.Protocol:
        """Make the protocol of one connection."""
        made: BoundedProtocol = self.config.http_protocol_class(  # type: ignore[call-arg, assignment]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        made.connections_of, made.exempt = self._connections_of, self._exempt
        return made


class WebServer:
    """One HTTP or HTTPS listener of an ASGI application."""

    def __init__(
        self,
        application: Application,
        limits: Http,
        tls: ssl.SSLContext | None,
        protocol: type[BoundedProtocol] = BoundedProtocol,
        proxies: Networks = NOWHERE,
    ) -> None:
        """Take the application; peers in `proxies` name the client by the PROXY protocol."""
        self._tls = tls
        self._proxies = proxies
        self._config = uvicorn.Config(
            application,
            loop="none",
            http=protocol,
            ws=BoundedWebSocket,
            ws_max_size=limits.max_request_size + FRAME_SLACK,
            ws_per_message_deflate=False,
            ws_ping_interval=PING_INTERVAL,
            ws_ping_timeout=PING_TIMEOUT,
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=limits.max_connections,
            timeout_keep_alive=KEEP_ALIVE,
            ssl_context_factory=None if tls is None else lambda config, default: tls,
        )
        self._server = _Uvicorn(self._config, limits)
        self._task: asyncio.Task[None] | None = None
        self._listening: asyncio.Server | None = None

    async def start(self, listener: Listener) -> tuple[str, int]:
        """Listen and return the address and the port."""
        family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
        listening = socket.create_server(
            (listener.host, listener.port), family=family, backlog=BACKLOG
        )
        listening.setblocking(False)
        # accepted sockets inherit it; asyncio itself sets it only where the protocol is spelled out
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._listening = await self.accept(listening)
        host, port = listening.getsockname()[:2]
        return host, port

    async def accept(self, listening: socket.socket) -> asyncio.Server:
        """Also take connections from a socket of somebody else, who closes what is returned."""
        if self._task is None:
            await self._run()
        return await asyncio.get_running_loop().create_server(
            proxy.behind(self._server.protocol, self._proxies, tls=self._tls),
            sock=listening,
            ssl=None if self._proxies else self._tls,
            backlog=BACKLOG,
        )

    @property
    def busy(self) -> bool:
        """Whether anybody is connected."""
        return bool(self._server.server_state.connections)

    async def _run(self) -> None:
        self._task = asyncio.create_task(self._server.serve(sockets=[]))
        accepts = asyncio.create_task(self._server.accepts.wait())
        await asyncio.wait({self._task, accepts}, return_when=asyncio.FIRST_COMPLETED)
        accepts.cancel()
        if self._task.done():
            await self._task

    async def stop(self, grace: float) -> None:
        """Let running requests end within `grace` seconds, then close every connection."""
        if self._listening is not None:
            self._listening.close()
        if self._task is None:
            return
        self._config.timeout_graceful_shutdown = max(1, round(grace))
        self._server.end()
        await self._task
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
