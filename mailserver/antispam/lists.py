"""Allow and deny lists: of the server, of its domains, of its users.

A line of a user counts more than one of the domain, and that more than one of the server; a line
about an address more than one about its domain. Who is allowed is believed only when DMARC says
that the message is from there: anybody can write a From field. Who is denied may well be forged.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from mailserver.address import Address, normal_domain, parse_address
from mailserver.errors import Invalid, Unavailable
from mailserver.model import AccountId, IdKind, id_text
from mailserver.networks import plain
from mailserver.storage import spam_lists
from mailserver.storage.database import Database
from mailserver.storage.spam_lists import Entry

log = logging.getLogger(__name__)

CACHE_TIME = 5.0  # seconds until a new line of the server or a domain is seen everywhere
SERVER = ""
TO = "to:"
ALLOW, DENY = "allow", "deny"
_SAYS = {ALLOW: "allows", DENY: "denies"}


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a list says, and in which line."""

    allowed: bool
    reason: str


class Shared:
    """The lines of the server and its domains, as they were a moment ago."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._lines: dict[tuple[str, str], str] = {}
        self._networks: dict[IPv4Network | IPv6Network, str] = {}
        for entry in entries:
            self._lines[entry.scope, entry.subject] = entry.action
            if entry.scope == SERVER and "/" in entry.subject and "@" not in entry.subject:
                self._networks[ip_network(entry.subject)] = entry.action
        self._lengths = sorted(
            {(each.version, each.prefixlen) for each in self._networks}, reverse=True
        )

    def client(self, ip: str) -> Ruling | None:
        """Return what is said about a client: by the smallest network that it is in."""
        if not self._networks:
            return None
        try:
            address = plain(ip_address(ip.partition("%")[0]))
        except ValueError:
            return None
        for version, length in self._lengths:
            if version == address.version:
                network = ip_network((address, length), strict=False)
                action = self._networks.get(network)
                if action is not None:
                    return Ruling(action == ALLOW, f"the server's list {_SAYS[action]} {network}")
        return None

    def recipient(self, recipient: Address) -> Ruling | None:
        """Return what is said about mail to an address."""
        for scope in (f"@{recipient.domain}", SERVER):
            action = self._lines.get((scope, f"{TO}{recipient}"))
            if action is not None:
                return Ruling(action == ALLOW, "this address takes no mail")
        return None

    def line(self, scope: str, subject: str) -> str | None:
        """Return what a line says, None without one."""
        return self._lines.get((scope, subject))


class Lists:
    """Reads the lists: those of all at most every few seconds, those of a user for each message."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        """Take a clock in seconds."""
        self._database = database
        self._clock = clock
        self._shared = Shared(())
        self._until = float("-inf")
        self._reading = asyncio.Lock()

    async def shared(self) -> Shared:
        """Return the lines of the server and its domains."""
        if self._clock() >= self._until:
            async with self._reading:
                if self._clock() >= self._until:
                    try:
                        self._shared = Shared(await spam_lists.of_server(self._database))
                    except Unavailable:
                        log.warning("allow and deny lists cannot be read: the old ones hold on")
                    self._until = self._clock() + CACHE_TIME
        return self._shared

    async def about(
        self, accounts: Mapping[AccountId, str], senders: Sequence[Address], verified: str
    ) -> dict[AccountId, Ruling]:
        """Return what each account, given with its domain, has to say about the senders.

        `verified`: the domain of which DMARC says that the message is from there; may be empty.
        """
        subjects = list(dict.fromkeys(each for sender in senders for each in forms(sender)))
        proven = {each for sender in senders if sender.domain == verified for each in forms(sender)}
        if not subjects:
            return {}
        shared = await self.shared()
        scopes = {account: id_text(IdKind.ACCOUNT, account) for account in accounts}
        rows = await spam_lists.about(self._database, list(scopes.values()), subjects)
        own = {(row.scope, row.subject): row.action for row in rows}
        found = {}
        for account, domain in accounts.items():
            for scope, whose in (
                (scopes[account], "the recipient's"),
                (f"@{domain}", "the domain's"),
                (SERVER, "the server's"),
            ):
                ruling = _first(scope, whose, subjects, own, shared, proven)
                if ruling is not None:
                    found[account] = ruling
                    break
        return found


def _first(
    scope: str,
    whose: str,
    subjects: Sequence[str],
    own: Mapping[tuple[str, str], str],
    shared: Shared,
    proven: Collection[str],
) -> Ruling | None:
    """Return what the most exact line of a list says."""
    for subject in subjects:
        action = own.get((scope, subject)) or shared.line(scope, subject)
        if action == DENY or (action == ALLOW and subject in proven):
            return Ruling(action == ALLOW, f"{whose} list {_SAYS[action]} {subject}")
    return None


def forms(sender: Address) -> list[str]:
    """Return the subjects that are about a sender, the most exact first."""
    labels = sender.domain.split(".")
    domains = [".".join(labels[start:]) for start in range(min(len(labels), 10))]
    return [str(sender), *(f"@{domain}" for domain in domains)]


def subject_of(text: str) -> str:
    """Return the normal form of what a person writes; Invalid when it is nothing of the kind.

    An address, a domain with or without @ (with all below it), an IP address or a network.
    """
    text = text.strip()
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        pass
    if "@" in text.removeprefix("@"):
        return str(parse_address(text))
    domain = normal_domain(text.removeprefix("@"))
    if "." not in domain:
        raise Invalid(f"{text} is no address, domain, IP address or network")
    return f"@{domain}"
