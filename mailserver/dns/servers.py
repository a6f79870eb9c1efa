"""Which resolvers are asked."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from mailserver.config import Dns
from mailserver.errors import ConfigurationError

PORT = 53


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
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ConfigurationError(f"dns.servers: {word} is no address") from None
    return host, int(port) if port else PORT
