"""Questions to DNS: cached as long as the answers allow, asked once at a time, within limits.

The AD bit of an answer says that the resolver has checked its signatures (RFC 4035 §3.2.3). It is
believed only when the configuration says that the way to the resolver is safe (RFC 7672 §2.1.1).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.SOA import SOA
from dns.rdtypes.ANY.TLSA import TLSA
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from mailserver.config import Dns
from mailserver.errors import ConfigurationError, MailError

PORT = 53
MAX_TTL = 3600.0  # seconds an answer is kept at most
MAX_NEGATIVE_TTL = 300.0  # seconds it is kept that there is nothing (RFC 2308 §5)
FAILED_TTL = 5.0  # seconds a failure is kept: a dead resolver is not asked by everybody
MAX_CACHED = 20_000
PARALLEL = 100  # questions under way
MAX_CHAIN = 8  # CNAME records that are followed
PAYLOAD = 1232  # octets of an answer by UDP, which no network cuts


class LookupFailed(MailError):
    """DNS gave no answer, or the resolver found that it was forged: ask again later."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The records of one name and type."""

    records: tuple[dns.rdata.Rdata, ...] = ()
    exists: bool = True  # whether the name does, with whatever types
    secure: bool = False  # signed, and checked by a resolver that is believed
    name: str = ""  # at the end of the CNAME records, without the last dot


@dataclass(frozen=True, slots=True)
class MailExchanger:
    """One MX record."""

    preference: int
    host: str  # lower case, without the last dot; empty: "null MX" (RFC 7505)


@dataclass(frozen=True, slots=True)
class TlsaRecord:
    """One TLSA record (RFC 6698 §2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Answer | None  # None: the lookup failed
    until: float


class Resolver:
    """Asks the configured resolvers, and remembers what they said."""

    def __init__(self, settings: Dns, clock: Callable[[], float]) -> None:
        """Take the time in seconds as a function; ConfigurationError when no server is known."""
        self._servers = servers(settings)
        self._settings = settings
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Task[Answer]] = {}
        self._gate = asyncio.Semaphore(PARALLEL)

    async def lookup(self, name: str, kind: str) -> Answer:
        """Return the records of a type, by its mnemonic; LookupFailed when nobody can tell."""
        key = (name.lower().rstrip("."), kind)
        kept = self._kept.get(key)
        if kept is not None and kept.until > self._clock():
            if kept.answer is None:
                raise LookupFailed(f"no answer for {kind} of {name}")
            return kept.answer
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key), name="dns")
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        # who stops waiting does not take the answer from the others
        return await asyncio.shield(task)

    async def mx(self, domain: str) -> tuple[list[MailExchanger], Answer]:
        """Return the MX records, best first, and the answer they came in."""
        answer = await self.lookup(domain, "MX")
        exchangers = [
            MailExchanger(record.preference, _host(record.exchange))
            for record in answer.records
            if isinstance(record, MX)
        ]
        return sorted(exchangers, key=lambda each: (each.preference, each.host)), answer

    async def tlsa(self, host: str, port: int) -> list[TlsaRecord]:
        """Return the TLSA records of a service; none when their answer is not secure."""
        answer = await self.lookup(f"_{port}._tcp.{host}", "TLSA")
        if not answer.secure:
            return []
        return [
            TlsaRecord(record.usage, record.selector, record.mtype, record.cert)
            for record in answer.records
            if isinstance(record, TLSA)
        ]

    async def texts(self, name: str, kind: str) -> list[str]:
        """Return records as they are in a zone file, TXT joined and without quotes."""
        answer = await self.lookup(name, kind)
        return [
            b"".join(record.strings).decode("utf-8", "replace")
            if isinstance(record, TXT)
            else record.to_text()
            for record in answer.records
        ]

    async def addresses(self, host: str) -> tuple[list[str], bool, bool]:
        """Return IPv6 and IPv4 addresses, whether the name exists, and whether all is secure.

        LookupFailed when one family cannot be told and the other has nothing.
        """
        answers = await asyncio.gather(
            self.lookup(host, "AAAA"), self.lookup(host, "A"), return_exceptions=True
        )
        good = [answer for answer in answers if isinstance(answer, Answer)]
        found = [
            record.address
            for answer in good
            for record in answer.records
            if isinstance(record, A | AAAA)
        ]
        failed = next((error for error in answers if isinstance(error, BaseException)), None)
        if failed is not None and (not found or not isinstance(failed, LookupFailed)):
            raise failed
        secure = failed is None and all(answer.secure for answer in good)
        return found, any(answer.exists for answer in good), secure

    async def _ask(self, key: tuple[str, str]) -> Answer:
        name, kind = key
        try:
            async with self._gate:
                answer, ttl = await self._query(name, kind)
        except LookupFailed:
            self._keep(key, None, FAILED_TTL)
            raise
        self._keep(key, answer, ttl)
        return answer

    def _keep(self, key: tuple[str, str], answer: Answer | None, ttl: float) -> None:
        self._kept[key] = _Kept(answer, self._clock() + ttl)
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_CACHED:
            self._kept.popitem(last=False)

    async def _query(self, name: str, kind: str) -> tuple[Answer, float]:
        try:
            question = dns.message.make_query(
                dns.name.from_text(name), kind, use_edns=0, want_dnssec=True, payload=PAYLOAD
            )
        except (dns.exception.DNSException, ValueError, UnicodeError):
            return Answer(exists=False), MAX_NEGATIVE_TTL  # no such name can exist
        question.flags |= dns.flags.AD
        for _ in range(self._settings.attempts):
            for host, port in self._servers:
                response = await self._exchange(question, host, port)
                if response is not None:
                    return self._answer(response)
        raise LookupFailed(f"no answer for {kind} of {name}")

    async def _exchange(
        self, question: dns.message.Message, host: str, port: int
    ) -> dns.message.Message | None:
        """Ask one server, by TCP when the answer is too long; None when it cannot tell."""
        try:
            response, _ = await dns.asyncquery.udp_with_fallback(
                question,
                host,
                timeout=self._settings.timeout,
                port=port,
                ignore_unexpected=True,  # what others send does not end the wait
                ignore_errors=True,
            )
        except (dns.exception.DNSException, OSError, EOFError):
            return None
        if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return response
        return None

    def _answer(self, response: dns.message.Message) -> tuple[Answer, float]:
        """Follow the CNAME records of a response to its records."""
        question = response.question[0]
        name, ttl = question.name, MAX_TTL
        records: tuple[dns.rdata.Rdata, ...] = ()
        for _ in range(MAX_CHAIN + 1):
            found = _section(response, name, question.rdtype)
            if found is not None:
                records, ttl = tuple(found), min(ttl, found.ttl)
                break
            alias = _section(response, name, dns.rdatatype.CNAME)
            if alias is None:
                break
            ttl = min(ttl, alias.ttl)
            name = alias[0].target
        if not records:
            ttl = min(ttl, MAX_NEGATIVE_TTL, _negative_ttl(response))
        secure = self._settings.validating and bool(response.flags & dns.flags.AD)
        exists = response.rcode() == dns.rcode.NOERROR
        return Answer(records, exists, secure, _host(name)), ttl


def _host(name: dns.name.Name) -> str:
    """Return a host name in lower case; empty for the root."""
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def _section(
    response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType
) -> dns.rrset.RRset | None:
    return response.get_rrset(response.answer, name, dns.rdataclass.IN, kind)


def _negative_ttl(response: dns.message.Message) -> float:
    """Return how long it stays true that there is nothing (RFC 2308 §5)."""
    for rrset in response.authority:
        for record in rrset:
            if isinstance(record, SOA):
                return float(min(rrset.ttl, record.minimum))
    return FAILED_TTL


def servers(settings: Dns, system: Path = Path("/etc/resolv.conf")) -> Sequence[tuple[str, int]]:
    """Return the resolvers to ask: those of the configuration, else those of the system."""
    words = settings.servers.split()
    if not words:
        try:
            lines = [line.split() for line in system.read_text().splitlines()]
        except OSError:
            lines = []
        words = [line[1] for line in lines if line[:1] == ["nameserver"] and len(line) > 1]
    found = [_server(word) for word in words]
    return found or [("127.0.0.1", PORT)]


def _server(word: str) -> tuple[str, int]:
    """Read `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`."""
    host, port = word, ""
    if word.startswith("["):
        host, _, rest = word[1:].partition("]")
        port = rest.removeprefix(":")
    elif word.count(":") == 1:
        host, _, port = word.partition(":")
    if port and not port.isdigit():
        raise ConfigurationError(f"dns.servers: {word} has no port number")
    return host, int(port) if port else PORT
