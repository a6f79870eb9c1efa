"""A name server on loopback that answers from text, and can be told to fail."""

import asyncio

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset


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
        self._waiting: list[tuple[bytes, tuple[str, int]]] = []
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> int:
        """Listen, and return the port."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]
        return self.port

    def stop(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def release(self) -> None:
        """Send the answers that wait, and hold none from now on."""
        self.held.clear()
        for data, peer in self._waiting:
            if self._transport is not None:
                self._transport.sendto(data, peer)
        self._waiting.clear()

    def add(self, name: str, kind: str, *values: str, ttl: int = 60) -> None:
        """Give a name records, in the form of a zone file."""
        owner = dns.name.from_text(name)
        self.records[owner, kind] = dns.rrset.from_text(owner, ttl, "IN", kind, *values)
        self.names.add(owner)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        pass

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype)))
        if name in self.silent or self._transport is None:
            return
        response = self._response(query, name)
        if name in self.held:
            self._waiting.append((response.to_wire(), peer))
        else:
            self._transport.sendto(response.to_wire(), peer)

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
