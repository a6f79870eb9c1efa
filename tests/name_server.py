"""A name server on loopback that answers from text, and can be told to fail."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tests.running import free_port

Lie = Callable[[bytes], Sequence[bytes]]  # the right answer, and what is sent before it


class NameServer(asyncio.DatagramProtocol):
    """Answers what `add` told it; a name it does not know does not exist."""

    def __init__(self) -> None:
        self.records: dict[tuple[dns.name.Name, str], dns.rrset.RRset] = {}
        self.names: set[dns.name.Name] = set()
        self.failing: set[str] = set()  # names that get SERVFAIL
        self.silent: set[str] = set()  # names that get no answer
        self.secure: set[str] = set()  # names whose answers have the AD bit
        self.soa: str | None = None  # of the zone, sent with every answer that has nothing
        self.lazy = False  # whether CNAME records are left to who asks
        self.held: set[str] = set()  # names whose answers wait for `release`
        self.asked: list[tuple[str, str]] = []
        self.port = 0
        self.queries: list[dns.message.Message] = []
        self.held_answers: list[tuple[bytes, tuple[str, int]]] = []
        self._holds = asyncio.Event()
        self._closed = asyncio.Event()
        self.lies: dict[str, Lie] = {}  # names before whose answers something else is sent
        self.cut: set[str] = set()  # names whose answers fit no datagram
        self.forgets_case = False  # whether names in questions come back in lower case
        self.tcp_lie: Callable[[bytes], bytes] | None = None  # what becomes of an answer by TCP
        self.by_tcp = 0  # questions that came that way
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen by UDP and TCP, and return the port."""
        loop = asyncio.get_running_loop()
        while True:
            self.port = free_port()
            with contextlib.suppress(OSError):  # what is free for TCP may be taken for UDP
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: self, ("127.0.0.1", self.port)
                )
                self._transport = transport
                break
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        return self.port

    def stop(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()

    def release(self) -> None:
        """Send the answers that wait, and hold none from now on."""
        self.held.clear()
        for data, peer in self.held_answers:
            if self._transport is not None:
                self._transport.sendto(data, peer)
        self.held_answers.clear()

    async def waiting(self) -> tuple[bytes, tuple[str, int]]:
        """Wait until another answer is held, and return it and whom it is for."""
        await self._holds.wait()
        self._holds.clear()
        return self.held_answers[-1]

    async def stopped(self) -> None:
        """Wait until nobody listens any more."""
        await self._closed.wait()

    def add(self, name: str, kind: str, *values: str, ttl: int = 60) -> None:
        """Give a name records, in the form of a zone file."""
        owner = dns.name.from_text(name)
        self.records[owner, kind] = dns.rrset.from_text(owner, ttl, "IN", kind, *values)
        self.names.add(owner)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        pass

    def connection_lost(self, error: Exception | None) -> None:
        self._closed.set()

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        name, response = self._answer(data)
        if self._transport is None:
            return
        lie = self.lies.get(name)
        if lie is not None:
            for datagram in lie(response.to_wire(max_size=65535)):
                self._transport.sendto(datagram[:60000], peer)
        if name in self.silent:
            return
        if name in self.cut:
            response.flags |= dns.flags.TC
            response.answer.clear()
        wire = response.to_wire(max_size=65535)
        if self.forgets_case:
            end = 12 + len(response.question[0].name.to_wire() or b"")
            wire = wire[:12] + wire[12:end].lower() + wire[end:]
        if name in self.held:
            self.held_answers.append((wire, peer))
            self._holds.set()
        else:
            self._transport.sendto(wire, peer)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # who asks may give up in the middle
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            size = int.from_bytes(await reader.readexactly(2), "big")
            name, response = self._answer(await reader.readexactly(size))
            self.by_tcp += 1
            if name not in self.silent:
                wire = response.to_wire(max_size=65535)
                framed = len(wire).to_bytes(2, "big") + wire
                writer.write(framed if self.tcp_lie is None else self.tcp_lie(framed))

    def _answer(self, data: bytes) -> tuple[str, dns.message.Message]:
        query = dns.message.from_wire(data)
        self.queries.append(query)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype)))
        return name, self._response(query, name)

    def _response(self, query: dns.message.Message, name: str) -> dns.message.Message:
        response = dns.message.make_response(query)
        if name in self.secure:
            response.flags |= dns.flags.AD
        owner = query.question[0].name
        if name in self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif owner not in self.names:
            response.set_rcode(dns.rcode.NXDOMAIN)
        else:
            self._fill(response, owner, dns.rdatatype.to_text(query.question[0].rdtype))
        if self.soa is not None and not response.answer:
            response.authority.append(dns.rrset.from_text("example.", 600, "IN", "SOA", self.soa))
        return response

    def _fill(self, response: dns.message.Message, owner: dns.name.Name, kind: str) -> None:
        """Answer with the records of a name, and the CNAME records that lead to them."""
        while (owner, kind) not in self.records and (owner, "CNAME") in self.records:
            alias = self.records[owner, "CNAME"]
            if alias in response.answer:  # a circle
                return
            response.answer.append(alias)
            if self.lazy:
                return
            owner = alias[0].target
        if (owner, kind) in self.records:
            response.answer.append(self.records[owner, kind])
