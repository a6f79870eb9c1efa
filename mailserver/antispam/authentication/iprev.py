"""The name of an address, if it leads back to it (RFC 8601 §3)."""

import asyncio
import ipaddress

from mailserver.antispam.authentication.lookups import Lookups
from mailserver.antispam.authentication.results import Iprev
from mailserver.dns import LookupFailed

MAX_NAMES = 10  # of one address that are looked up, as RFC 7208 §4.6.4 has it
TIME_LIMIT = 10.0  # seconds


async def check_iprev(resolver: Lookups, ip: str, limit: float = TIME_LIMIT) -> Iprev:
    """Look for the name of a client that has its address again."""
    try:
        async with asyncio.timeout(limit):
            return await _check(resolver, ip)
    except (LookupFailed, TimeoutError):
        return Iprev("temperror", ip)


async def _check(resolver: Lookups, text: str) -> Iprev:
    try:
        ip = plain_ip(text)
    except ValueError:
        return Iprev("permerror", text)
    names = await resolver.texts(ip.reverse_pointer, "PTR")
    if not names:
        return Iprev("permerror", text)  # RFC 8601 §2.7.3: no PTR record
    kind = "AAAA" if ip.version == 6 else "A"
    failed: LookupFailed | None = None
    for name in sorted(names)[:MAX_NAMES]:
        try:
            addresses = await resolver.texts(name, kind)
        except LookupFailed as error:
            failed = error
            continue
        if any(ipaddress.ip_address(address) == ip for address in addresses):
            return Iprev("pass", text, name.rstrip(".").lower())
    if failed is not None:
        raise failed
    return Iprev("fail", text)


def plain_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address; an IPv4 address in IPv6 form is an IPv4 address."""
    ip = ipaddress.ip_address(text)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip
