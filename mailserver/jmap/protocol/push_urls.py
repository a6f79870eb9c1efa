"""Where push messages may be sent: anybody may name a URL, so it is looked at closely."""

import ipaddress
import re
from urllib.parse import urlsplit

from mailserver.errors import Invalid

MAX_URL = 2048  # characters
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1
_OTHER = (
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # NAT64 of a network's own
    ipaddress.IPv6Network("::/96"),  # IPv4-compatible, long given up
)
_NUMBER = re.compile(r"(?:\d+|0x[0-9a-f]*)\.?", re.ASCII | re.IGNORECASE)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the Internet, and hides none that is not."""
    if isinstance(address, ipaddress.IPv6Address):
        hidden = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            hidden = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if hidden is not None:
            return is_public(hidden)
        if address.teredo is not None or address.is_site_local:
            return False
        if any(address in network for network in _OTHER):
            return False
    return address.is_global and not address.is_multicast


def check_url(url: str, *, allow_private: bool) -> None:
    """Raise Invalid unless a URL is one that messages may be sent to (RFC 8620 §7.2)."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Invalid("no URL") from None
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise Invalid("no URL")
    if parts.scheme != "https" or not host or "@" in parts.netloc or "#" in url or port == 0:
        raise Invalid("no https URL")
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        # "127.1" and "0x7f000001" are addresses to what connects, and names to nobody
        if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            raise Invalid("no https URL") from None
        return
    if not allow_private and not is_public(literal):
        raise Invalid("an address that is not public")
