"""Lists in DNS of clients and of domains (RFC 5782): who is on them, and whether to believe it.

A list is asked about its test points before it is used and from time to time. One that lists what
it must not, does not list what it must, or answers that it does not want to be asked, is switched
off with an alarm until it passes again: a list that has gone away often answers yes to everything.
"""

import asyncio
import logging
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, Protocol

from mailserver.antispam.evidence import Finding, Inquiry, Symbol
from mailserver.antispam.hosts import hosts, registered
from mailserver.dns import Answer, LookupFailed
from mailserver.errors import ConfigurationError
from mailserver.metrics import Metrics

log = logging.getLogger(__name__)

TEST_PAUSE = 600.0  # seconds between two looks at the test points
RETRY_PAUSE = 60.0  # seconds while one is off
LARGE = 64 * 1024  # octets of a message that is looked through on the event loop
MAX_FAILURES = 5  # questions without an answer, one after the other, until it is switched off
REFUSED = "127.255.255.*"  # RFC 5782 has no word for it; the lists of Spamhaus began
LOOPBACK = IPv4Address("127.0.0.0"), IPv4Address("127.255.255.255")


class Addresses(Protocol):
    """Who can be asked for A records: `mailserver.dns.Resolver`."""

    async def a(self, name: str) -> Answer[str]:
        """Return the IPv4 addresses of a name."""
        ...


@dataclass(frozen=True, slots=True)
class Code:
    """What an answer means."""

    pattern: str  # "127.0.*.3", "127.0.0.4-7", "127.0.0.&8"
    symbol: Symbol

    def fits(self, answer: str) -> bool:
        """Tell whether an answer is the one that is meant."""
        return fits(self.pattern, answer)


@dataclass(frozen=True, slots=True)
class Definition:
    """A list: where it is, what its answers mean, how it is tested."""

    name: str
    zone: str  # with the key, so it is not for logs
    shown: str  # the zone without it
    of: str  # "clients" or "names"
    codes: tuple[Code, ...]
    ipv6: bool = False
    refuse: bool = False
    refused: tuple[str, ...] = ()
    listed: str = ""
    unlisted: str = ""
    page: str = ""

    @property
    def test_points(self) -> tuple[str, str]:
        """Return what must be listed and what must not, as labels (RFC 5782 §5)."""
        if self.of == "clients":
            return reversed_labels(self.listed or "127.0.0.2"), reversed_labels(
                self.unlisted or "127.0.0.1"
            )
        return self.listed or "test", self.unlisted or "invalid"


class DnsList:
    """One list and whether it can be believed now."""

    def __init__(self, definition: Definition, resolver: Addresses, metrics: Metrics) -> None:
        self.definition = definition
        self.usable = False  # not before it was tested
        self.reason = "not tested yet"  # why it is not usable
        self._resolver = resolver
        self._in_use = metrics.dns_list_in_use.labels(definition.name)
        self._in_use.set(0)
        self._failures = 0

    @property
    def name(self) -> str:
        """Return the name of the check."""
        return self.definition.name

    async def test(self) -> None:
        """Ask for the test points, and switch the list on or off."""
        listed, unlisted = self.definition.test_points
        try:
            answers = await asyncio.gather(self._ask(listed), self._ask(unlisted))
        except LookupFailed as error:
            self._switch_off(f"it does not answer ({error.reason or 'timeout'})")
            return
        if self._distrust([*answers[0], *answers[1]]):
            return
        if not answers[0]:
            self._switch_off("its test point is not listed")
        elif answers[1]:
            self._switch_off("it lists everything")
        elif not self.usable:
            self.usable, self._failures = True, 0
            self._in_use.set(1)
            log.info("list in DNS is used", extra={"list": self.name})

    async def look(self, subject: str, labels: str) -> Finding:
        """Ask about a client or a name, given also as labels below the zone."""
        if not self.usable:
            return Finding(self.name, "off", "the list cannot be believed now")
        try:
            answers = await self._ask(labels)
        except LookupFailed as error:
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                self._switch_off(f"it does not answer ({error.reason or 'timeout'})")
            return Finding(self.name, "temperror", error.reason)
        self._failures = 0
        if self._distrust(answers):
            return Finding(self.name, "off", "the list cannot be believed now")
        found = [
            code.symbol
            for code in self.definition.codes
            if any(code.fits(answer) for answer in answers)
        ]
        if not found:
            return Finding(self.name, "unlisted")
        means = ", ".join(symbol.description for symbol in found)
        reason = f"{subject} is listed by {self.definition.shown}: {means}"
        return Finding(self.name, "listed", reason, tuple(found))

    async def _ask(self, labels: str) -> Sequence[str]:
        return (await self._resolver.a(f"{labels}.{self.definition.zone}")).records

    def _distrust(self, answers: Iterable[str]) -> bool:
        """Switch the list off for an answer that no list gives about a subject."""
        for answer in answers:
            if any(fits(pattern, answer) for pattern in (REFUSED, *self.definition.refused)):
                self._switch_off(f"it does not want to be asked from here ({answer})")
                return True
            if not LOOPBACK[0] <= IPv4Address(answer) <= LOOPBACK[1]:
                self._switch_off(f"it answers {answer}, which is no list's answer")
                return True
        return False

    def _switch_off(self, reason: str) -> None:
        """Say once why it is not used."""
        if self.usable or not self._failures:
            log.error(
                "list in DNS is not used",
                extra={"list": self.name, "zone": self.definition.shown, "reason": reason},
            )
        self.usable, self._failures, self.reason = False, MAX_FAILURES, reason
        self._in_use.set(0)


class DnsLists:
    """All lists that are asked."""

    def __init__(
        self, definitions: Sequence[Definition], resolver: Addresses, metrics: Metrics
    ) -> None:
        self.all = [DnsList(each, resolver, metrics) for each in definitions]
        self.clients = [each for each in self.all if each.definition.of == "clients"]
        self.names = [each for each in self.all if each.definition.of == "names"]

    async def run(self) -> None:
        """Look at the test points of all lists, again and again, until cancelled."""
        while True:
            await self.test()
            is_off = any(not each.usable for each in self.all)
            await asyncio.sleep(RETRY_PAUSE if is_off else TEST_PAUSE)

    async def test(self) -> None:
        """Look at the test points of all lists."""
        await asyncio.gather(*(each.test() for each in self.all))

    def of_client(self, ip: str) -> Mapping[str, Any]:
        """Return what is to be awaited about a client: a finding of each list, by its name."""
        try:
            labels = reversed_labels(ip)
        except ValueError:
            return {}
        is_ipv6 = ":" in ip and "." not in ip
        return {
            each.name: each.look(ip, labels)
            for each in self.clients
            if each.definition.ipv6 or not is_ipv6
        }

    def refusal(self, finding: Finding) -> str:
        """Return why a client is refused for what a list says; empty when it is not."""
        for each in self.clients:
            definition = each.definition
            if each.name == finding.check and definition.refuse and finding.score > 0:
                subject = finding.reason.partition(" ")[0]
                page = f"; see {definition.page.format(subject=subject)}" if definition.page else ""
                return f"{finding.reason}{page}"
        return ""


class NameLists:
    """Asks about the hosts of a message's links, and the domain of its sender."""

    name = "uribl"

    def __init__(self, lists: DnsLists) -> None:
        self._lists = lists.names

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        """Ask all lists about all names, and count what each answer means once."""
        raw = inquiry.raw
        found_in = hosts(raw) if len(raw) <= LARGE else await asyncio.to_thread(hosts, raw)
        names = {registered(host) for host in found_in}
        if inquiry.sender is not None and not inquiry.sender.domain.startswith("["):
            names.add(registered(inquiry.sender.domain))
        looks = [each.look(name, name) for each in self._lists for name in sorted(names)]
        found = [each for each in await asyncio.gather(*looks) if each.result == "listed"]
        symbols = {symbol.name: symbol for each in found for symbol in each.symbols}
        reason = "; ".join(each.reason for each in found)
        result = "listed" if found else "unlisted"
        return Finding(self.name, result, reason, tuple(symbols.values()))


def reversed_labels(ip: str) -> str:
    """Return an address as labels, the last one first (RFC 5782 §2); ValueError when it is none."""
    address = ip_address(ip.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return address.reverse_pointer.rsplit(".", 2)[0]


def fits(pattern: str, answer: str) -> bool:
    """Tell whether an answer is as a pattern says, octet by octet."""
    return all(map(_octet_fits, pattern.split("."), answer.split(".")))


def _octet_fits(pattern: str, octet: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("&"):
        return bool(int(octet) & int(pattern[1:]))
    first, _, last = pattern.partition("-")
    return int(first) <= int(octet) <= int(last or first)


def chosen(words: str, file: Path | None, keys: str) -> list[Definition]:
    """Return the lists that are named: `zen dnswl=0.5 own=score`; ConfigurationError.

    `=0.5` multiplies the scores of a list, `=refuse` refuses clients on it, `=score` does not.
    """
    known = _known(file)
    secrets = dict(_pair(word, "antispam.dns_list_keys") for word in keys.split())
    found = []
    for word in words.split():
        name, _, wish = word.partition("=")
        if name not in known:
            raise ConfigurationError(
                f"antispam.dns_lists: no list {name}; there are {', '.join(sorted(known))}"
            )
        found.append(_definition(name, known[name], wish, secrets.get(name, "")))
    return found


def _known(file: Path | None) -> dict[str, dict[str, Any]]:
    ours = resources.files("mailserver.antispam").joinpath("dnsbl.toml").read_text("utf-8")
    known = tomllib.loads(ours)
    if file is not None:
        try:
            known |= tomllib.loads(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"antispam.dns_lists_file: {error}") from None
    return known


def _definition(name: str, row: dict[str, Any], wish: str, key: str) -> Definition:
    """Read one list; ConfigurationError says what is wrong with it."""
    if row.get("key") and not key:
        raise ConfigurationError(f"antispam.dns_list_keys: the list {name} needs a key")
    refuse, weight = bool(row.get("refuse")), 1.0
    try:
        if wish in ("refuse", "score"):
            refuse = wish == "refuse"
        elif wish:
            weight = float(wish)
        codes = tuple(
            Code(pattern, Symbol(f"LIST_{word}", score * weight, meaning))
            for pattern, (score, word, meaning) in row["codes"].items()
        )
        if not all(len(code.pattern.split(".")) == 4 for code in codes):
            raise ValueError("a code has four octets")
        for code in codes:
            code.fits("127.0.0.1")  # reads every octet of the pattern once
        if row["of"] not in ("clients", "names"):
            raise ValueError("of is clients or names")
        return Definition(
            name,
            row["zone"].format(key=key),
            row["zone"].replace("{key}.", ""),
            row["of"],
            codes,
            bool(row.get("ipv6")),
            refuse,
            tuple(row.get("refused", ())),
            row.get("listed", ""),
            row.get("unlisted", ""),
            row.get("page", ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"antispam.dns_lists: {name}: {error}") from None


def _pair(word: str, key: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not value:
        raise ConfigurationError(f"{key}: a word for each list, name=key")
    return name, value
