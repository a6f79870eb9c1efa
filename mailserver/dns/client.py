"""Asks resolvers, one after the other, until one answers.

Whoever is not on the way has to guess the port, the id and the case of each letter of the name
(draft-vixie-dnsext-dns0x20) before the answer comes. What fits the question in all but the case
comes from a resolver that does not keep it, or from a forger: then the same is asked by TCP.
"""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from mailserver.config import Dns
from mailserver.dns.message import (
    CODES,
    MAX_MESSAGE,
    NOERROR,
    NXDOMAIN,
    Fit,
    Response,
    fits,
    mixed_case,
    question,
    read,
)
from mailserver.dns.names import Malformed
from mailserver.dns.records import Kind, LookupFailed

T = TypeVar("T")
Server = tuple[str, int]
PORT_USES = 100  # questions from one port of ours, so that who guesses it gains little
READS = 50  # datagrams that are read before others have their turn
MAX_DATAGRAM = 4096  # octets; more than the size that we tell resolvers


class Client:
    """Sends questions and waits for answers; remembers nothing but who answered."""

    def __init__(
        self, servers: Sequence[Server], settings: Dns, chance: random.Random | None = None
    ) -> None:
        """Take the addresses and ports of resolvers, which are asked in this order."""
        self._servers = servers
        self._settings = settings
        self._chance = chance or random.SystemRandom()
        self._first = 0  # the server that is asked first: the last one that answered
        self._ports: dict[Server, _Port] = {}

    async def ask(self, text: str, name: bytes, kind: Kind[T]) -> Response[T]:
        """Return what the first resolver says that can tell; LookupFailed when none can."""
        reason = "timeout"
        first, count = self._first, len(self._servers)
        for turn in range(count * self._settings.attempts):
            place = (first + turn) % count
            try:
                async with asyncio.timeout(self._settings.timeout):
                    response = await self._exchange(self._servers[place], name, kind)
            except TimeoutError:
                continue
            except (OSError, EOFError, Malformed) as error:
                reason = f"the resolver cannot be asked ({type(error).__name__})"
                continue
            if response.code in (NOERROR, NXDOMAIN):
                self._first = place
                return response
            reason = CODES.get(response.code, f"code {response.code}")
        raise LookupFailed.of(text, kind.name, reason)

    async def _exchange(self, server: Server, name: bytes, kind: Kind[T]) -> Response[T]:
        """Ask one server, by TCP what does not fit a datagram."""
        mixed = mixed_case(name, self._chance.getrandbits(8 * len(name)))
        asked = question(mixed, kind.number, signatures=self._settings.validating)
        response = await self._by_udp(server, asked, kind)
        return response if response is not None else await self._by_tcp(server, asked, kind)

    async def _by_udp(self, server: Server, asked: bytes, kind: Kind[T]) -> Response[T] | None:
        port = self._ports.get(server)
        if port is None or port.used >= PORT_USES:
            port = self._ports[server] = _Port(server, self._forget)
        waiting = _Waiting(asked, kind)
        id_ = port.send(waiting, self._chance)
        try:
            return await waiting.answer
        finally:
            port.drop(id_)

    def _forget(self, port: "_Port") -> None:
        if self._ports.get(port.server) is port:
            del self._ports[port.server]

    async def _by_tcp(self, server: Server, asked: bytes, kind: Kind[T]) -> Response[T]:
        id_ = self._chance.getrandbits(16).to_bytes(2, "big")
        reader, writer = await asyncio.open_connection(*server, limit=MAX_MESSAGE)
        try:
            writer.write(len(id_ + asked).to_bytes(2, "big") + id_ + asked)
            size = int.from_bytes(await reader.readexactly(2), "big")
            message = await reader.readexactly(size)
        finally:
            writer.transport.abort()
        if message[:2] != id_ or fits(message, asked) not in (Fit.YES, Fit.CASE):
            raise Malformed("the answer is to another question")
        return read(message, kind)


class _Waiting(Generic[T]):
    """Who waits for an answer by UDP."""

    def __init__(self, asked: bytes, kind: Kind[T]) -> None:
        self.asked = asked
        self.answer: asyncio.Future[Response[T] | None] = (
            asyncio.get_running_loop().create_future()
        )  # None: it has to be asked for by TCP
        self._kind = kind

    def take(self, message: bytes) -> None:
        """Look at a message with the right id; what is no answer changes nothing."""
        fit = fits(message, self.asked)
        if fit is Fit.NO or self.answer.done():
            return
        if fit is not Fit.YES:
            self.answer.set_result(None)
            return
        with contextlib.suppress(Malformed):
            self.answer.set_result(read(message, self._kind))


class _Port:
    """One UDP port of ours, connected to a resolver, while somebody waits for answers to it."""

    def __init__(self, server: Server, closed: "Callable[[_Port], None]") -> None:
        self.server = server
        self.used = 0
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, _Waiting[Any]] = {}
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(server)  # the kernel drops what comes from elsewhere
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._read)

    def send(self, waiting: _Waiting[T], chance: random.Random) -> int:
        """Send a question, and return the id that its answer has."""
        id_ = chance.getrandbits(16)
        while id_ in self._waiting:
            id_ = chance.getrandbits(16)
        self.used += 1
        self._waiting[id_] = waiting
        try:
            self._socket.send(id_.to_bytes(2, "big") + waiting.asked)
        except OSError:
            self.drop(id_)
            raise
        return id_

    def drop(self, id_: int) -> None:
        """Wait no longer for an answer; a port that nobody waits at is closed."""
        self._waiting.pop(id_, None)
        if not self._waiting and self._socket.fileno() >= 0:
            self._closed(self)
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> None:
        for _ in range(READS):
            try:
                message = self._socket.recv(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:  # nobody listens there
                for waiting in self._waiting.values():
                    if not waiting.answer.done():
                        waiting.answer.set_exception(type(error)(*error.args))
                return
            asker = self._waiting.get(int.from_bytes(message[:2], "big"))
            if asker is not None:
                asker.take(message)
