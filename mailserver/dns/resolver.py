"""The resolver of the server: what was asked is remembered, what is being asked is asked once.

The AD bit of an answer says that the resolver has checked its signatures (RFC 4035 §3.2.3). It is
believed only when the configuration says that the way to the resolver is safe (RFC 7672 §2.1.1).
"""

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from mailserver.config import Dns
from mailserver.dns import records
from mailserver.dns.client import Client
from mailserver.dns.message import (
    FAILED_TTL,
    MAX_CHAIN,
    MAX_NEGATIVE_TTL,
    MAX_TTL,
    NXDOMAIN,
    follow,
)
from mailserver.dns.names import Malformed, write_name
from mailserver.dns.records import (
    KINDS,
    Addresses,
    Answer,
    Kind,
    LookupFailed,
    MailExchanger,
    TlsaRecord,
)
from mailserver.dns.servers import servers

MAX_CACHED = 20_000
MAX_OCTETS = 32 * 1024 * 1024  # of the messages whose answers are remembered
PARALLEL = 500  # questions under way

T = TypeVar("T")
_Key = tuple[str, str]  # name in lower case, type


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Answer[Any] | str  # a text: why the lookup failed
    until: float
    size: int  # octets of the messages that it was in


class Outcome(StrEnum):
    """What became of a lookup."""

    REMEMBERED = "remembered"
    FOUND = "found"
    NOTHING = "nothing"  # NXDOMAIN and no data
    FAILED = "failed"


Observe = Callable[[Outcome, float], None]  # with the seconds that the resolvers took


def _ignore(_: Outcome, __: float) -> None:
    pass


class Resolver:
    """Asks the configured resolvers, and remembers what they said.

    Every lookup returns an Answer, whose `exists` tells NXDOMAIN from no data, or raises
    LookupFailed when nobody can tell now: SERVFAIL (also of forged answers), no answer in time.
    A deadline is by the clock of the event loop; without one, the configuration has the limits.
    """

    def __init__(
        self, settings: Dns, clock: Callable[[], float], observe: Observe = _ignore
    ) -> None:
        """Take the time in seconds as a function, and what is told of every lookup.

        ConfigurationError when a server is no address.
        """
        self._client = Client(servers(settings), settings)
        self._validating = settings.validating
        self._clock = clock
        self._observe = observe
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()  # used last at the end
        self._octets = 0
        self._asking: dict[_Key, asyncio.Task[Answer[Any]]] = {}
        self._gate = asyncio.Semaphore(PARALLEL)

    async def a(self, name: str, deadline: float | None = None) -> Answer[str]:
        """Return the IPv4 addresses of a name."""
        return await self.lookup(name, records.A, deadline)

    async def aaaa(self, name: str, deadline: float | None = None) -> Answer[str]:
        """Return the IPv6 addresses of a name."""
        return await self.lookup(name, records.AAAA, deadline)

    async def txt(self, name: str, deadline: float | None = None) -> Answer[bytes]:
        """Return the texts at a name, the strings of each record joined."""
        return await self.lookup(name, records.TXT, deadline)

    async def ptr(self, address: str, deadline: float | None = None) -> Answer[str]:
        """Return the names of an IP address; ValueError when it is none."""
        reverse = ipaddress.ip_address(address).reverse_pointer
        return await self.lookup(reverse, records.PTR, deadline)

    async def mx(self, domain: str, deadline: float | None = None) -> Answer[MailExchanger]:
        """Return the MX records of a domain, best first."""
        answer = await self.lookup(domain, records.MX, deadline)
        best_first = sorted(answer.records, key=lambda each: (each.preference, each.host))
        return Answer(tuple(best_first), answer.exists, answer.secure, answer.name)

    async def tlsa(self, host: str, port: int, deadline: float | None = None) -> list[TlsaRecord]:
        """Return the TLSA records of a service; none when their answer is not secure."""
        answer = await self.lookup(f"_{port}._tcp.{host}", records.TLSA, deadline)
        return list(answer.records) if answer.secure else []

    async def texts(self, name: str, kind: str, deadline: float | None = None) -> list[str]:
        """Return records of a type of KINDS as they are in a zone file, TXT without quotes."""
        return _texts(await self.lookup(name, KINDS[kind], deadline), kind)

    def known(self, name: str, kind: str) -> list[str] | None:
        """Return what `texts` would at once; None when it would have to ask, or fails."""
        kept = self._kept.get((name.lower().rstrip("."), kind))
        if kept is None or kept.until <= self._clock() or isinstance(kept.answer, str):
            return None
        return _texts(kept.answer, kind)

    async def addresses(self, host: str, deadline: float | None = None) -> Addresses:
        """Return the IPv6 and IPv4 addresses of a host.

        LookupFailed when one family cannot be told and the other has nothing.
        """
        answers = await asyncio.gather(
            self.aaaa(host, deadline), self.a(host, deadline), return_exceptions=True
        )
        good = [answer for answer in answers if isinstance(answer, Answer)]
        found = tuple(address for answer in good for address in answer.records)
        failed = next((error for error in answers if isinstance(error, BaseException)), None)
        if failed is not None and (not found or not isinstance(failed, LookupFailed)):
            raise failed
        secure = failed is None and all(answer.secure for answer in good)
        exists = any(answer.exists for answer in good)
        return Addresses(found, exists, secure, good[0].name)

    async def lookup(self, name: str, kind: Kind[T], deadline: float | None = None) -> Answer[T]:
        """Return the records of a type; LookupFailed when nobody can tell in time."""
        key = (name.lower().rstrip("."), kind.name)
        kept = self._kept.get(key)
        if kept is not None and kept.until > self._clock():
            self._kept.move_to_end(key)
            self._observe(Outcome.REMEMBERED, 0)
            if isinstance(kept.answer, str):
                raise LookupFailed.of(name, kind.name, kept.answer)
            return kept.answer
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, kind), name="dns")
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        try:
            async with asyncio.timeout_at(deadline):
                # who stops waiting does not take the answer from the others
                return await asyncio.shield(task)
        except TimeoutError:
            raise LookupFailed.of(name, kind.name, "no time left") from None

    async def _ask(self, key: _Key, kind: Kind[T]) -> Answer[T]:
        begun = self._clock()
        try:
            async with self._gate:
                answer, ttl, size = await self._resolve(key[0], kind)
        except LookupFailed as failed:
            self._keep(key, failed.reason, FAILED_TTL, 0)
            self._observe(Outcome.FAILED, self._clock() - begun)
            raise
        self._keep(key, answer, ttl, size)
        outcome = Outcome.FOUND if answer.records else Outcome.NOTHING
        self._observe(outcome, self._clock() - begun)
        return answer

    def _keep(self, key: _Key, answer: Answer[Any] | str, ttl: float, size: int) -> None:
        before = self._kept.pop(key, None)
        self._octets += size - (before.size if before is not None else 0)
        self._kept[key] = _Kept(answer, self._clock() + ttl, size)
        while len(self._kept) > MAX_CACHED or self._octets > MAX_OCTETS:
            _, oldest = self._kept.popitem(last=False)
            self._octets -= oldest.size

    async def _resolve(self, name: str, kind: Kind[T]) -> tuple[Answer[T], float, int]:
        """Ask, and once more for each CNAME record that a resolver has not followed itself.

        Returns the answer, the seconds to keep it, and the octets that it came in.
        """
        at, secure, ttl, size = name, self._validating, MAX_TTL, 0
        for _ in range(MAX_CHAIN):
            try:
                question = write_name(at)
            except Malformed:  # no such name can exist
                return Answer(exists=False, name=at), min(ttl, MAX_NEGATIVE_TTL), size
            response = await self._client.ask(at, question, kind)
            try:
                found = follow(response, response.asked)
            except Malformed:
                break
            at, secure, ttl = found.name, secure and response.secure, min(ttl, found.ttl)
            size += response.size
            if not found.unfinished:
                exists = response.code != NXDOMAIN
                return Answer(found.records, exists, secure, at), ttl, size
        raise LookupFailed.of(name, kind.name, "CNAME records without end")


def _texts(answer: Answer[Any], kind: str) -> list[str]:
    """Write records as a zone file has them, TXT without quotes."""
    end = "." if KINDS[kind] in records.NAMES else ""
    return [
        each.decode("utf-8", "replace") if isinstance(each, bytes) else f"{each}{end}"
        for each in answer.records
    ]
