"""IP networks from the configuration, and the question whether a peer is in one of them."""

import ipaddress

from mailserver.errors import Invalid

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class Networks:
    """IPv4 and IPv6 networks, written as words: `10.0.0.0/8 2001:db8::/32 127.0.0.1`."""

    __slots__ = ("_networks",)

    def __init__(self, text: str = "") -> None:
        """Read the words; Invalid names the one that is no network."""
        found = []
        for word in text.split():
            try:
                found.append(ipaddress.ip_network(word, strict=False))
            except ValueError:
                raise Invalid(f"{word} is no IP address or network") from None
        self._networks = tuple(found)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, peer: str) -> bool:
        """Tell whether an address is in one of them; what is no address is in none."""
        if not self._networks:
            return False
        try:
            address = plain(ipaddress.ip_address(peer))
        except ValueError:
            return False
        return any(address in network for network in self._networks)


NOWHERE = Networks()


def plain(address: Ip) -> Ip:
    """Return the IPv4 address that an IPv6 address of a dual-stack socket stands for."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
