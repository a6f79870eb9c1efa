"""Where a domain wants reports sent, and whether whoever is named there wants them."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from mailserver.address import Address, parse_address
from mailserver.antispam.authentication.lookups import Lookups
from mailserver.antispam.authentication.policies import TreeWalk
from mailserver.errors import Invalid

MAX_TARGETS = 5  # of a domain; RFC 7489 §6.2 wants two at least
MAX_TEXT = 2048  # characters of a record
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LIMIT = re.compile(r"!([0-9]{1,9})([kmgt]?)\Z", re.IGNORECASE)
_DMARC = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)", re.IGNORECASE)
_TLS = re.compile(r"v=TLSRPTv1[ \t]*(?:;|\Z)")


@dataclass(frozen=True, slots=True)
class Target:
    """An address for reports, and how large they may be there."""

    address: Address
    limit: int | None = None  # octets


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a record says: its tags, and the addresses in them."""

    tags: dict[str, str]
    targets: tuple[Target, ...]


async def of_dmarc(resolver: Lookups, domain: str) -> Wishes | None:
    """Return what the DMARC record at a domain says (RFC 9990 §3.4); LookupFailed."""
    return _only(await resolver.texts(f"_dmarc.{domain}", "TXT"), _DMARC)


async def of_tls(resolver: Lookups, domain: str) -> Wishes | None:
    """Return what the TLSRPT record of a domain says (RFC 8460 §3); LookupFailed."""
    return _only(await resolver.texts(f"_smtp._tls.{domain}", "TXT"), _TLS)


def _only(texts: list[str], version: "re.Pattern[str]") -> Wishes | None:
    """Read the record; two of them are none."""
    records = [text for text in texts if len(text) <= MAX_TEXT and version.match(text)]
    if len(records) != 1:
        return None
    tags: dict[str, str] = {}
    for item in records[0].split(";"):
        name, _, value = item.partition("=")
        tags.setdefault(name.strip().lower(), value.strip())
    return Wishes(tags, targets(tags.get("rua", "")))


def targets(text: str) -> tuple[Target, ...]:
    """Return the mail addresses among the URIs of `rua`; others are passed over."""
    found: dict[str, Target] = {}
    for uri in text.split(","):
        scheme, _, rest = uri.strip().partition(":")
        if scheme.lower() != "mailto":
            continue
        limit = None
        match = _LIMIT.search(rest)
        if match is not None:
            rest, limit = rest[: match.start()], int(match[1]) * _UNITS[match[2].lower()]
        try:
            address = parse_address(unquote(rest.partition("?")[0]))
        except Invalid:
            continue
        found.setdefault(str(address).lower(), Target(address, limit))
    return tuple(found.values())[:MAX_TARGETS]


async def wants(resolver: Lookups, domain: str, target: Target) -> bool:
    """Tell whether an address wants reports about a domain (RFC 9990 §4); LookupFailed.

    One in another organization has to say so in DNS, or anybody could have anybody flooded.
    """
    there = target.address.domain
    walk = TreeWalk(resolver)
    if there == domain or await walk.organization(there) == await walk.organization(domain):
        return True
    texts = await resolver.texts(f"{domain}._report._dmarc.{there}", "TXT")
    return any(_DMARC.match(text) for text in texts)
