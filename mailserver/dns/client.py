"""Asks resolvers, one after the other, until one answers."""

from collections.abc import Sequence
from typing import TypeVar

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
from dns.rdatatype import RdataType

from mailserver.config import Dns
from mailserver.dns.message import CODES, NOERROR, NXDOMAIN, Response, read
from mailserver.dns.names import Malformed
from mailserver.dns.records import Kind, LookupFailed

T = TypeVar("T")
PAYLOAD = 1232  # octets of an answer by UDP, which no network cuts


class Client:
    """Sends questions and waits for answers; remembers nothing."""

    def __init__(self, servers: Sequence[tuple[str, int]], settings: Dns) -> None:
        """Take the addresses and ports of resolvers, which are asked in this order."""
        self._servers = servers
        self._settings = settings

    async def ask(self, name: str, question: bytes, kind: Kind[T]) -> Response[T]:
        """Return what the first resolver says that can tell; LookupFailed when none can."""
        asked, _ = dns.name.from_wire(question, 0)
        query = dns.message.make_query(
            asked, RdataType(kind.number), use_edns=0, want_dnssec=True, payload=PAYLOAD
        )
        query.flags |= dns.flags.AD
        reason = "timeout"
        for _ in range(self._settings.attempts):
            for host, port in self._servers:
                try:
                    response = await self._exchange(query, host, port, kind)
                except (dns.exception.Timeout, TimeoutError):
                    continue
                except (dns.exception.DNSException, OSError, EOFError, Malformed):
                    reason = "no answer that can be read"
                    continue
                if response.code in (NOERROR, NXDOMAIN):
                    return response
                reason = CODES.get(response.code, f"code {response.code}")
        raise LookupFailed.of(name, kind.name, reason)

    async def _exchange(
        self, query: dns.message.Message, host: str, port: int, kind: Kind[T]
    ) -> Response[T]:
        """Ask one server, by TCP when the answer is too long."""
        answer, _ = await dns.asyncquery.udp_with_fallback(
            query,
            host,
            timeout=self._settings.timeout,
            port=port,
            ignore_unexpected=True,  # what others send does not end the wait
            ignore_errors=True,
        )
        return read(answer.to_wire(), kind)
