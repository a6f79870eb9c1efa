"""The PROXY protocol of HAProxy, versions 1 and 2: what a proxy says before anything else.

The header names the client for whom the proxy connects. It is at the very front of the connection,
before any greeting and before TLS, also where TLS is implicit. Reading it does no I/O.
"""

import ipaddress
import re
from dataclasses import dataclass

from mailserver.networks import plain

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # of version 2
MAX_TEXT = 107  # octets of a header of version 1, with CR LF
MAX_BINARY = 16 + 4096  # octets of a header of version 2: addresses, and TLVs that are not used
_FIXED = 16  # octets of version 2 before the addresses
_TEXT = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|(TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+)"
    rb" (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4}))\r\n\Z"
)
_LOCAL, _PROXY = 0x20, 0x21  # version and command
_FAMILIES = 4  # unspecified, IPv4, IPv6, Unix
_TRANSPORTS = 3  # unspecified, stream, datagram
# How many octets of addresses each family has; the families that name a TCP client.
_LENGTHS = {0: 0, 1: 12, 2: 36, 3: 216}
_TCP = {0x11: 4, 0x21: 16}

EndPoint = tuple[str, int]


class NotProxy(Exception):
    """What arrived is no header of the PROXY protocol."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a proxy said: both ends of the client's connection, or neither.

    Neither is there when the proxy speaks for itself (LOCAL, a health check) or does not know: the
    ends are then those of the connection itself.
    """

    source: EndPoint | None = None
    destination: EndPoint | None = None


class HeaderReader:
    """Takes octets until the header is whole."""

    __slots__ = ("_buffer", "rest")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.rest = b""  # what followed the header

    def feed(self, octets: bytes) -> Header | None:
        """Add octets; None while the header is not whole, NotProxy as soon as it can be none."""
        self._buffer += octets
        head = bytes(self._buffer[: len(SIGNATURE)])
        if head == SIGNATURE:
            return self._binary()
        if SIGNATURE.startswith(head):
            return None
        if not head.startswith(b"PROXY ") and not b"PROXY ".startswith(head):
            raise NotProxy
        return self._text()

    def _text(self) -> Header | None:
        end = self._buffer.find(b"\n", 0, MAX_TEXT) + 1
        if not end:
            if len(self._buffer) >= MAX_TEXT:
                raise NotProxy
            return None
        match = _TEXT.match(self._take(end))
        if match is None:
            raise NotProxy
        family, source, destination, source_port, destination_port = match.groups()
        if family is None:
            return Header()
        version = 4 if family == b"TCP4" else 6
        return Header(
            _end(source.decode(), int(source_port), version),
            _end(destination.decode(), int(destination_port), version),
        )

    def _binary(self) -> Header | None:
        if len(self._buffer) < _FIXED:
            return None
        command, family = self._buffer[12], self._buffer[13]
        length = int.from_bytes(self._buffer[14:16])
        if (
            command not in (_LOCAL, _PROXY)
            or family >> 4 >= _FAMILIES
            or family & 15 >= _TRANSPORTS
            or _FIXED + length > MAX_BINARY
            or (command == _PROXY and length < _LENGTHS[family >> 4])
        ):
            raise NotProxy
        if len(self._buffer) < _FIXED + length:
            return None
        addresses = self._take(_FIXED + length)[_FIXED:]
        size = _TCP.get(family)
        if command == _LOCAL or size is None:
            return Header()
        ports = addresses[2 * size :]
        return Header(
            (_shown(addresses[:size]), int.from_bytes(ports[:2])),
            (_shown(addresses[size : 2 * size]), int.from_bytes(ports[2:4])),
        )

    def _take(self, size: int) -> bytes:
        taken, self.rest = bytes(self._buffer[:size]), bytes(self._buffer[size:])
        self._buffer.clear()
        return taken


def _end(text: str, port: int, version: int) -> EndPoint:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise NotProxy from None
    if address.version != version or port > 65535:
        raise NotProxy
    return str(plain(address)), port


def _shown(packed: bytes) -> str:
    return str(plain(ipaddress.ip_address(packed)))
