"""Where mail for a domain goes: here, to a smarthost, or to the hosts that DNS names."""

import ipaddress
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import zip_longest

from mailserver.address import normal_domain
from mailserver.dns import LookupFailed, MailExchanger, Resolver
from mailserver.errors import Invalid
from mailserver.queue.routes import Route
from mailserver.queue.rules import Outcome, Result

MAX_HOSTS = 10  # of a domain that are tried
MAX_ADDRESSES = 20  # of all of them together


class Kind(Enum):
    """Ways that mail can take."""

    HERE = auto()
    SMARTHOST = auto()
    DNS = auto()
    CAUGHT = auto()


@dataclass(frozen=True, slots=True)
class Hop:
    """One address of one host to try."""

    host: str
    address: str
    port: int
    secure: bool = False  # its name and address come from signed answers
    canonical: str = ""  # the name where its CNAME records lead, if it has any


class NoRoute(Exception):
    """There is no way to a domain now, or there never will be."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reply)
        self.outcome = outcome


def _failed(status: str, text: str, code: int = 550) -> NoRoute:
    return NoRoute(Outcome(Result.FAILED, f"{code} {status} {text}", status))


def _later(status: str, text: str) -> NoRoute:
    return NoRoute(Outcome(Result.DEFERRED, f"451 {status} {text}", status))


@dataclass(frozen=True, slots=True)
class Own:
    """The names and addresses by which this server goes itself."""

    names: frozenset[str]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    @classmethod
    def of(cls, hostname: str, further: str) -> "Own":
        """Take the host name and further words of the configuration."""
        return cls(frozenset(word.lower().rstrip(".") for word in (hostname, *further.split())))


class Router:
    """Finds the hosts of domains."""

    def __init__(self, resolver: Resolver, own: Own, port: int, chance: random.Random) -> None:
        """Take chance to spread mail over hosts of the same preference (RFC 5321 §5.1)."""
        self._resolver = resolver
        self._own = own
        self._port = port
        self._chance = chance

    async def hops(self, domain: str, route: Route) -> list[Hop]:
        """Return addresses to try, in order; NoRoute says why there is none."""
        if route.smarthost is not None:
            return await self._smarthost(route)
        if domain.startswith("["):
            return [self._literal(domain)]
        try:
            answer = await self._resolver.mx(domain)
        except LookupFailed:
            raise _later("4.4.3", f"DNS gave no answer for the mail servers of {domain}") from None
        if not answer.exists:
            raise _failed("5.1.2", f"The domain {domain} does not exist")
        exchangers = list(answer.records)
        if [each.host for each in exchangers] == [""]:  # RFC 7505 §3
            raise _failed("5.1.10", f"The domain {domain} takes no mail (null MX)", 556)
        implicit = not exchangers
        if implicit:  # RFC 5321 §5.1
            exchangers = [MailExchanger(0, domain)]
        hops = await self._of_hosts(self._not_us(domain, exchangers), secure=answer.secure)
        if not hops:
            kind = (
                "neither MX nor address records" if implicit else "no mail server with an address"
            )
            raise _failed("5.4.4", f"The domain {domain} has {kind}")
        return hops

    def _literal(self, domain: str) -> Hop:
        """Read an address literal (RFC 5321 §4.1.3)."""
        text = domain[1:-1]
        try:
            address = ipaddress.ip_address(text[5:] if text.startswith("ipv6:") else text)
        except ValueError:
            raise _failed("5.1.2", f"{domain} is no address") from None
        if str(address) in self._own:
            raise _failed("5.4.6", f"Mail for {domain} comes back to this server")
        return Hop(domain, str(address), self._port)

    def _not_us(self, domain: str, exchangers: Sequence[MailExchanger]) -> list[MailExchanger]:
        """Leave out ourselves and all that is not better (RFC 5321 §5.1)."""
        ours = [each.preference for each in exchangers if each.host in self._own]
        if not ours:
            left = [each for each in exchangers if each.host]
        else:
            left = [each for each in exchangers if each.host and each.preference < min(ours)]
        if not left:
            raise _failed("5.4.6", f"Mail for {domain} comes back to this server")
        shuffled = list(left)
        self._chance.shuffle(shuffled)
        return sorted(shuffled, key=lambda each: each.preference)[:MAX_HOSTS]

    async def _of_hosts(self, exchangers: Sequence[MailExchanger], *, secure: bool) -> list[Hop]:
        """Look up addresses; NoRoute when DNS did not answer and there is nothing else to try."""
        hops: list[Hop] = []
        unknown = False
        looped = False
        for exchanger in exchangers:
            try:
                there = await self._resolver.addresses(exchanger.host)
            except LookupFailed:
                unknown = True
                continue
            if any(address in self._own for address in there.found):
                looped = True
                break  # what follows is no better than ourselves
            hops += [
                Hop(exchanger.host, address, self._port, secure and there.secure, there.name)
                for address in _both_families(there.found)
            ]
            if len(hops) >= MAX_ADDRESSES:
                break
        if not hops and unknown:
            raise _later("4.4.3", "DNS gave no answer for the address of a mail server")
        if not hops and looped:
            raise _failed("5.4.6", "Mail for this domain comes back to this server")
        return hops[:MAX_ADDRESSES]

    async def _smarthost(self, route: Route) -> list[Hop]:
        assert route.smarthost is not None
        host, port = route.smarthost.host, route.smarthost.port
        try:
            return [Hop(host, str(ipaddress.ip_address(host.strip("[]"))), port)]
        except ValueError:
            pass
        try:
            there = await self._resolver.addresses(normal_domain(host))
        except (LookupFailed, Invalid):
            raise _later("4.4.3", f"DNS gave no answer for the smarthost {host}") from None
        if not there.found:  # somebody has misconfigured it: nothing is lost meanwhile
            raise _later("4.4.4", f"The smarthost {host} has no address")
        return [
            Hop(host, address, port, there.secure, there.name)
            for address in _both_families(there.found)
        ]


def _both_families(addresses: Sequence[str]) -> list[str]:
    """Return the addresses with the families in turns, IPv6 first."""
    six = [address for address in addresses if ":" in address]
    four = [address for address in addresses if ":" not in address]
    return [address for pair in zip_longest(six, four) for address in pair if address is not None]
