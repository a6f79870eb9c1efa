"""What the name says by which a client greets: never enough to refuse it (RFC 5321 §4.1.4)."""

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from mailserver.antispam.evidence import Finding, Inquiry, Symbol
from mailserver.antispam.greylist import is_global
from mailserver.networks import plain

_LITERAL_IPV6 = "ipv6:"


class HeloNames:
    """Scores names that programs say which are no mail servers."""

    name = "helo_name"  # spf_helo is another check

    def __init__(self, own: Sequence[str]) -> None:
        """Take the names of this server, which nobody else has."""
        self._own = frozenset(each.rstrip(".").lower() for each in own)
        self._table: tuple[tuple[Symbol, Callable[[str, str], bool]], ...] = (
            (Symbol("HELO_IS_US", 3.0, "greets by the name of this server"), self._is_own),
            (Symbol("HELO_BARE_IP", 1.5, "greets by an address without brackets"), _is_bare),
            (Symbol("HELO_OTHER_IP", 1.5, "greets by the address of another"), _is_of_another),
            (Symbol("HELO_LOCALHOST", 1.5, "greets by a name of every machine"), _is_local),
            (Symbol("HELO_NO_DOMAIN", 0.5, "greets by a name without a domain"), _is_short),
        )

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        """Look at the name; clients that are not of the Internet may be called anything."""
        client = inquiry.client
        if not is_global(client.ip):
            return Finding(self.name, "none")
        said = client.helo.rstrip(".").lower()
        for symbol, fits in self._table:
            if fits(said, client.ip):
                return Finding(self.name, "fail", f"{client.helo}: {symbol.description}", (symbol,))
        return Finding(self.name, "pass")

    def _is_own(self, helo: str, ip: str) -> bool:
        return helo in self._own


def _address(text: str) -> str | None:
    try:
        return str(plain(ip_address(text.removeprefix(_LITERAL_IPV6))))
    except ValueError:
        return None


def _is_bare(helo: str, ip: str) -> bool:
    return _address(helo) is not None


def _is_of_another(helo: str, ip: str) -> bool:
    return helo.startswith("[") and _address(helo.strip("[]")) != _address(ip.partition("%")[0])


def _is_local(helo: str, ip: str) -> bool:
    return helo == "localhost" or helo.endswith((".localhost", ".localdomain", ".local", ".lan"))


def _is_short(helo: str, ip: str) -> bool:
    return "." not in helo and not helo.startswith("[")
