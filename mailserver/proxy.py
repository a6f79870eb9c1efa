"""Connections that come through a proxy which says for whom (PROXY protocol).

A listener whose proxies are in `networks` wraps the factory of its protocols:

    loop.create_server(proxy.behind(lambda: Connection(self), networks), sock=listening)

Peers in `networks` must then send the header first, and within HEADER_TIMEOUT; nothing is guessed.
All others are served as they are, and a header from them is just a bad command. The protocol
finds the client where it always does, in `transport.get_extra_info("peername")`. With `tls` the
connection goes on under TLS after the header; a protocol that begins TLS by itself needs no `tls`.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from mailserver.networks import Networks
from mailserver.proxy_header import EndPoint, Header, HeaderReader, NotProxy

log = logging.getLogger(__name__)

HEADER_TIMEOUT = 5.0  # seconds; the protocol asks for at least 3
TLS_TIMEOUT = 60.0  # seconds for a handshake

Factory = Callable[[], asyncio.BaseProtocol]


def behind(
    factory: Factory,
    networks: Networks,
    *,
    tls: ssl.SSLContext | None = None,
    timeout: float = HEADER_TIMEOUT,
) -> Factory:
    """Return a factory for connections of which those from `networks` begin with a header.

    Without networks it is the same factory, so `tls` is then the business of `create_server`.
    """
    if not networks:
        return factory
    return lambda: _Door(factory, networks, tls, timeout)


class _Door(asyncio.Protocol):
    """Stands in for the protocol until it is known who comes."""

    def __init__(
        self, factory: Factory, networks: Networks, tls: ssl.SSLContext | None, timeout: float
    ) -> None:
        self._factory = factory
        self._networks = networks
        self._tls = tls
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._header: HeaderReader | None = None  # while a header is read
        self._early = b""  # said while nobody is there to hear it
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the header of a proxy; let others in at once."""
        if self._transport is not None:
            return  # under TLS
        # uvloop's transport has the methods of asyncio.Transport without being one
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if peer and peer[0] in self._networks:
            self._header = HeaderReader()
            self._timer = self._loop.call_later(self._timeout, self._refuse, "no header in time")
        else:
            self._admit(Header(), b"")

    def data_received(self, data: bytes) -> None:
        """Read the header."""
        reader = self._header
        if reader is None:
            self._early += data
            return
        try:
            header = reader.feed(data)
        except NotProxy:
            self._refuse("no header")
            return
        if header is not None:
            self._header = None
            self._admit(header, reader.rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection that ended before anybody was let in."""
        if self._timer is not None:
            self._timer.cancel()

    def _refuse(self, reason: str) -> None:
        assert self._transport is not None
        peer = self._transport.get_extra_info("peername")
        log.warning("proxy refused", extra={"peer": peer[0] if peer else "", "reason": reason})
        self._transport.abort()

    def _admit(self, header: Header, rest: bytes) -> None:
        assert self._transport is not None
        if self._timer is not None:
            self._timer.cancel()
        if self._tls is None:
            self._hand_over(self._transport, header, rest)
        else:
            self._early = rest
            self._task = self._loop.create_task(self._secure(self._tls, header))

    async def _secure(self, context: ssl.SSLContext, header: Header) -> None:
        """Begin TLS, with the part of the handshake that came together with the header."""
        assert self._transport is not None
        handshake = self._loop.create_task(
            self._loop.start_tls(
                self._transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=TLS_TIMEOUT,
            )
        )
        # Two rounds of the loop: one to put the layer of TLS in place, one in which it learns
        # of its transport. Before the third nothing is read from the socket.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        early, self._early = self._early, b""
        feed(self._transport, early)
        try:
            transport = await handshake
        except (OSError, TimeoutError) as error:  # errors of TLS are OSError
            peer = header.source or self._transport.get_extra_info("peername") or ("",)
            log.info("TLS handshake failed", extra={"peer": peer[0], "error": str(error)})
            self._transport.abort()
            return
        if transport is not None:
            self._hand_over(transport, header, self._early)

    def _hand_over(self, transport: asyncio.Transport, header: Header, rest: bytes) -> None:
        """Let the protocol begin, and hear what was said already once it has."""
        protocol = self._factory()
        transport.pause_reading()
        transport.set_protocol(protocol)
        if header.source is not None and header.destination is not None:
            forwarded = _Forwarded(transport, header.source, header.destination)
            protocol.connection_made(cast(asyncio.Transport, forwarded))
        else:
            protocol.connection_made(transport)
        # A protocol that begins TLS by itself does so in a task that it has just made.
        self._loop.call_soon(self._go_on, transport, rest)

    def _go_on(self, transport: asyncio.Transport, rest: bytes) -> None:
        if not transport.is_closing():
            transport.resume_reading()
            feed(transport, rest)


class _Forwarded:
    """A transport whose ends are those that the proxy named."""

    def __init__(
        self, transport: asyncio.Transport, source: EndPoint, destination: EndPoint
    ) -> None:
        self._transport = transport
        # The socket is that of the proxy, and who has it could take its ends for the client's.
        self._named = {"peername": source, "sockname": destination, "socket": None}
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name in self._named:
            return self._named[name] or default
        return self._transport.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def feed(transport: asyncio.Transport, octets: bytes) -> None:
    """Let whoever reads from a transport now have octets that were read before."""
    # uvloop's layer of TLS is no subclass of asyncio.BufferedProtocol, so the method is asked for
    protocol = cast(Any, transport.get_protocol())
    if not hasattr(protocol, "get_buffer"):
        if octets:
            protocol.data_received(octets)
        return
    while octets:
        buffer = memoryview(protocol.get_buffer(len(octets)))
        taken = min(len(buffer), len(octets))
        buffer[:taken] = octets[:taken]
        protocol.buffer_updated(taken)
        octets = octets[taken:]
