"""For whom the proxies in front of HTTP ask: `X-Forwarded-For`, or `Forwarded` (RFC 7239).

Anybody can send such a field, so only what trusted proxies have added counts. Each adds at the end
by whom it was asked: read from there, the first address that is no trusted proxy is the client.
What cannot be read names nobody, and then the proxy itself is the client.
"""

import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from mailserver.app.web import Application, Message
from mailserver.networks import Networks, plain

Field = Literal["x-forwarded-for", "forwarded"]

MOST = 32  # proxies one behind the other
LONGEST = 4096  # characters of a line
_TOKEN = r"[!#$%&'*+.^_`|~\w-]+"  # noqa: S105  (a word of HTTP, RFC 9110 §5.6.2)
_PAIR = rf'({_TOKEN})=({_TOKEN}|"(?:[^"\\]|\\.)*")'
_PAIRS = re.compile(_PAIR, re.ASCII)
# All of it must fit: a quotation mark that a client left open would hide what a proxy adds.
_ELEMENT = re.compile(rf"[ \t]*((?:{_PAIR}(?:[ \t]*;[ \t]*{_PAIR})*)?)[ \t]*(?:,|\Z)", re.ASCII)
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?\Z")
_SCHEMES = {
    "http": {"http": "http", "websocket": "ws"},
    "https": {"http": "https", "websocket": "wss"},
}


@dataclass(frozen=True, slots=True)
class Hop:
    """What one proxy says: by whom it was asked, and how."""

    address: str  # empty when it does not tell
    scheme: str = ""


UNKNOWN = Hop("")


class Forwarding:
    """An ASGI application that sees clients where trusted proxies ask for them."""

    def __init__(self, application: Application, proxies: Networks, field: Field) -> None:
        self._application = application
        self._proxies = proxies
        self._field = field

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass the request on, with its client."""
        peer = scope.get("client")
        if peer and peer[0] in self._proxies:
            found = client(scope["headers"], peer[0], self._proxies, self._field)
            scope = {**scope, "client": (found.address, 0)}
            if found.scheme in _SCHEMES:
                scope["scheme"] = _SCHEMES[found.scheme][scope["type"]]
        await self._application(scope, receive, send)


def client(
    headers: Iterable[tuple[bytes, bytes]], peer: str, proxies: Networks, field: Field
) -> Hop:
    """Return the client of a request that the proxy `peer` passed on."""
    lines: dict[bytes, list[str]] = {}
    for name, value in headers:
        lines.setdefault(name, []).append(value.decode("latin-1"))
    read = _forwarded if field == "forwarded" else _x_forwarded
    hops = [hop for line in lines.get(field.encode(), ()) for hop in read(line)]
    found = Hop(peer)
    for hop in reversed(hops[-MOST:]):
        if not hop.address:
            break
        found = hop
        if found.address not in proxies:
            break
    if field == "x-forwarded-for":
        *_, scheme = ["", *",".join(lines.get(b"x-forwarded-proto", ())).split(",")]
        return Hop(found.address, scheme.strip().lower())
    return found


def _x_forwarded(line: str) -> Iterator[Hop]:
    for word in line.split(",") if len(line) <= LONGEST else ("",):
        yield Hop(_address(word.strip()))


def _forwarded(line: str) -> list[Hop]:
    hops: list[Hop] = []
    position = 0
    while position < len(line):
        match = _ELEMENT.match(line, position) if len(line) <= LONGEST else None
        if match is None:
            return [UNKNOWN]
        position = match.end()
        pairs = {name.lower(): _unquoted(value) for name, value in _PAIRS.findall(match[1])}
        if pairs:
            hops.append(Hop(_address(pairs.get("for", "")), pairs.get("proto", "").lower()))
    return hops


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _address(node: str) -> str:
    """Return the address of `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1` or `[2001:db8::1]:443`."""
    match = _NODE.match(node)
    try:
        return str(plain(ipaddress.ip_address((match[1] or match[2]) if match else node)))
    except ValueError:
        return ""
