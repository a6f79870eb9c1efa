"""What DNS answers, in the types of this server; and how each is read from a message (RFC 1035)."""

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mailserver.dns.names import Malformed, read_name
from mailserver.errors import MailError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class LookupFailed(MailError):
    """DNS gave no answer, or the resolver found that it was forged: ask again later."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(f"{text}: {reason}" if reason else text)
        self.reason = reason  # "timeout", "SERVFAIL", ...

    @classmethod
    def of(cls, name: str, kind: str, reason: str) -> "LookupFailed":
        """Say that a question has no answer, and why."""
        return cls(f"no answer for {kind} of {name}", reason)


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """The records of one name and type; none when the name has none, or does not exist."""

    records: tuple[T_co, ...] = ()
    exists: bool = True  # False: NXDOMAIN, there is nothing of whatever type at that name
    secure: bool = False  # signed, and checked by a resolver that is believed
    name: str = ""  # at the end of the CNAME records, without the last dot


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a host, of both families."""

    found: tuple[str, ...]  # IPv6 first
    exists: bool  # whether the name does
    secure: bool  # both answers are
    name: str  # of the host, where CNAME records lead


@dataclass(frozen=True, slots=True)
class MailExchanger:
    """One MX record."""

    preference: int
    host: str  # lower case, without the last dot; empty: "null MX" (RFC 7505)

    def __str__(self) -> str:
        """Return it as in a zone file."""
        return f"{self.preference} {self.host}."


@dataclass(frozen=True, slots=True)
class TlsaRecord:
    """One TLSA record (RFC 6698 §2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    def __str__(self) -> str:
        """Return it as in a zone file."""
        return f"{self.usage} {self.selector} {self.matching} {self.data.hex()}"


@dataclass(frozen=True, slots=True)
class Service:
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    host: str  # empty: "decidedly not available"

    def __str__(self) -> str:
        """Return it as in a zone file."""
        return f"{self.priority} {self.weight} {self.port} {self.host}."


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """A type of records."""

    name: str  # its mnemonic
    number: int
    read: Callable[[bytes, int, int], T_co]  # from a message, between two places; Malformed


def _address(message: bytes, start: int, end: int) -> str:
    if end - start != 4:
        raise Malformed("an address has four octets")
    return socket.inet_ntop(socket.AF_INET, message[start:end])


def _address6(message: bytes, start: int, end: int) -> str:
    if end - start != 16:
        raise Malformed("an IPv6 address has sixteen octets")
    return socket.inet_ntop(socket.AF_INET6, message[start:end])


def _name(message: bytes, start: int, end: int) -> str:
    name, after = read_name(message, start)
    if after != end:
        raise Malformed("a name ends elsewhere than its record")
    return name


def _exchanger(message: bytes, start: int, end: int) -> MailExchanger:
    (preference,) = struct.unpack_from("!H", message, start)
    return MailExchanger(preference, _name(message, start + 2, end))


def _text(message: bytes, start: int, end: int) -> bytes:
    """Read a TXT record; its strings are joined, as all mail protocols do (RFC 7208 §3.3)."""
    if start == end:
        raise Malformed("a text has at least one string")
    parts = []
    while start < end:
        size = message[start]
        parts.append(message[start + 1 : start + 1 + size])
        start += 1 + size
    if start != end:
        raise Malformed("a string goes beyond its record")
    return b"".join(parts)


def _tlsa(message: bytes, start: int, end: int) -> TlsaRecord:
    if end - start < 3:
        raise Malformed("a TLSA record has three numbers")
    return TlsaRecord(
        message[start], message[start + 1], message[start + 2], message[start + 3 : end]
    )


def _service(message: bytes, start: int, end: int) -> Service:
    priority, weight, port = struct.unpack_from("!HHH", message, start)
    return Service(priority, weight, port, _name(message, start + 6, end))


A = Kind("A", 1, _address)
NS = Kind("NS", 2, _name)
CNAME = Kind("CNAME", 5, _name)
PTR = Kind("PTR", 12, _name)
MX = Kind("MX", 15, _exchanger)
TXT = Kind("TXT", 16, _text)
AAAA = Kind("AAAA", 28, _address6)
SRV = Kind("SRV", 33, _service)
TLSA = Kind("TLSA", 52, _tlsa)
NAMES = (NS, CNAME, PTR)  # whose records are the name of something
KINDS: dict[str, Kind[object]] = {
    each.name: each for each in (A, NS, CNAME, PTR, MX, TXT, AAAA, SRV, TLSA)
}
