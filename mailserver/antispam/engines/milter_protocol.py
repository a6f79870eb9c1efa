"""The milter protocol, version 6, as an MTA speaks it: packets, negotiation, answers; pure.

There is no specification but Sendmail's libmilter (`mfapi.h`, `mfdef.h`), whose names these are.
"""

import ipaddress
import re
import struct
from dataclasses import dataclass
from enum import IntFlag

from mailserver.antispam.edits import AddField, ChangeField, Edit, ReplaceBody

VERSION = 6
OLDEST = 2  # of filters that can be talked to
CHUNK = 65535  # octets of body in a packet
MAX_PACKET = 1024 * 1024 + 16  # octets of a packet of a filter

OPTNEG, MACRO, CONNECT, HELO, MAIL, RCPT, DATA = b"O", b"D", b"C", b"H", b"M", b"R", b"T"
HEADER, EOH, BODY, BODYEOB, QUIT = b"L", b"N", b"B", b"E", b"Q"

ACCEPT, CONTINUE, DISCARD, REJECT, TEMPFAIL = b"a", b"c", b"d", b"r", b"t"
REPLYCODE, PROGRESS, SKIP, CONN_FAIL, SHUTDOWN = b"y", b"p", b"s", b"f", b"4"
ADDHEADER, INSHEADER, CHGHEADER, REPLBODY, QUARANTINE = b"h", b"i", b"m", b"b", b"q"
FINAL = frozenset({ACCEPT, CONTINUE, DISCARD, REJECT, TEMPFAIL, REPLYCODE, SKIP, CONN_FAIL})
CHANGES = frozenset({ADDHEADER, INSHEADER, CHGHEADER, REPLBODY})


class Does(IntFlag):
    """What a filter may want to do at the end of a message."""

    ADDHDRS = 0x1
    CHGBODY = 0x2
    CHGHDRS = 0x10
    QUARANTINE = 0x20


class Steps(IntFlag):
    """What a filter does not want to be told, or does not answer."""

    NOCONNECT = 0x1
    NOHELO = 0x2
    NOMAIL = 0x4
    NORCPT = 0x8
    NOBODY = 0x10
    NOHDRS = 0x20
    NOEOH = 0x40
    NR_HDR = 0x80
    NOUNKNOWN = 0x100
    NODATA = 0x200
    SKIP = 0x400
    NR_CONN = 0x1000
    NR_HELO = 0x2000
    NR_MAIL = 0x4000
    NR_RCPT = 0x8000
    NR_DATA = 0x10000
    NR_UNKN = 0x20000
    NR_EOH = 0x40000
    NR_BODY = 0x80000
    HDR_LEADSPC = 0x100000


OFFERED_ACTIONS = Does.ADDHDRS | Does.CHGBODY | Does.CHGHDRS | Does.QUARANTINE
OFFERED_STEPS = Steps(0x1F_FFFF ^ 0x800)  # all but that of recipients refused before

# Which flags leave a step out, and which leave its answer out.
SKIPPED = {
    CONNECT: Steps.NOCONNECT,
    HELO: Steps.NOHELO,
    MAIL: Steps.NOMAIL,
    RCPT: Steps.NORCPT,
    DATA: Steps.NODATA,
    HEADER: Steps.NOHDRS,
    EOH: Steps.NOEOH,
    BODY: Steps.NOBODY,
    BODYEOB: Steps(0),
}
UNANSWERED = {
    CONNECT: Steps.NR_CONN,
    HELO: Steps.NR_HELO,
    MAIL: Steps.NR_MAIL,
    RCPT: Steps.NR_RCPT,
    DATA: Steps.NR_DATA,
    HEADER: Steps.NR_HDR,
    EOH: Steps.NR_EOH,
    BODY: Steps.NR_BODY,
    BODYEOB: Steps(0),
}


@dataclass(frozen=True, slots=True)
class Agreed:
    """What both sides agreed on."""

    version: int
    steps: Steps


def packet(command: bytes, data: bytes = b"") -> bytes:
    """Return a command with its length in front."""
    return struct.pack(">I", len(data) + 1) + command + data


def text(value: str) -> bytes:
    """Return a string as packets have it: no NUL inside, one at the end."""
    return value.encode("utf-8", "surrogateescape").replace(b"\0", b"") + b"\0"


def macros(command: bytes, values: dict[str, str]) -> bytes:
    """Return the packet with what is known at a step."""
    data = b"".join(text(name) + text(value) for name, value in values.items() if value)
    return packet(MACRO, command + data)


def offer() -> bytes:
    """Return the first packet: what is spoken here, and what a filter may do."""
    return packet(OPTNEG, struct.pack(">III", VERSION, OFFERED_ACTIONS, OFFERED_STEPS))


def agreed(data: bytes) -> Agreed:
    """Read the answer to the offer; ValueError when nothing can come of it."""
    if len(data) < 12:
        raise ValueError("the negotiation is too short")
    version, actions, steps = struct.unpack_from(">III", data)
    if not OLDEST <= version <= VERSION:
        raise ValueError(f"version {version} of the milter protocol")
    if actions & ~int(OFFERED_ACTIONS):
        raise ValueError(f"wants to change more than it may (flags {actions:#x})")
    if steps & ~int(OFFERED_STEPS):
        raise ValueError(f"wants steps that were not offered (flags {steps:#x})")
    return Agreed(version, Steps(steps))


def connect(name: str, ip: str) -> bytes:
    """Return the packet that says who is connected."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return packet(CONNECT, text(name or "unknown") + b"U")
    family = b"4" if address.version == 4 else b"6"
    shown = str(address) if address.version == 4 else f"IPv6:{address}"
    return packet(CONNECT, text(name or f"[{ip}]") + family + struct.pack(">H", 0) + text(shown))


def header(name: bytes, value: bytes, *, leading_space: bool) -> bytes:
    """Return the packet of a field; its folded lines are parted by a bare LF, as Sendmail does."""
    value = value.replace(b"\r\n", b"\n").replace(b"\0", b"")
    if not leading_space:
        value = value.removeprefix(b" ")
    return packet(HEADER, name + b"\0" + value + b"\0")


def change(command: bytes, data: bytes) -> Edit:
    """Read a change of the message; ValueError when it makes no sense."""
    if command == REPLBODY:
        return ReplaceBody(data)
    index = 0
    if command != ADDHEADER:
        if len(data) < 4:
            raise ValueError("a change of a field without its number")
        (index,) = struct.unpack_from(">I", data)
        data = data[4:]
    name, value, *rest = [*data.split(b"\0"), b""]
    if not name or not data.endswith(b"\0") or any(rest):
        raise ValueError("a change of a field without name or value")
    if command == CHGHEADER:
        return ChangeField(name, index, value)
    return AddField(name, value, index if command == INSHEADER else None)


def replied(data: bytes) -> tuple[bool, str]:
    """Read a reply of the filter's own: whether it is for good, and its text."""
    line = data.rstrip(b"\0").decode("utf-8", "replace")
    if not re.match(r"[45][0-9]{2}([ -]|$)", line):
        raise ValueError("a reply without a code of refusal")
    return line[0] == "5", line
