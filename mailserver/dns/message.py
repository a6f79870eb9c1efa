"""DNS messages as octets: a question is written, its answer is read within bounds (RFC 1035 §4)."""

import struct
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar

from mailserver.dns.names import POINTER, Malformed, read_name
from mailserver.dns.records import CNAME, Kind

T = TypeVar("T")

HEADER = struct.Struct("!HHHHHH")  # id, flags, how many questions, answers, authorities, further
RECORD = struct.Struct("!HHIH")  # after the name: type, class, TTL, octets of the data
QUESTION_AT = HEADER.size
IN = 1
SOA = 6
AD = 0x0020  # in the flags: the signatures are checked (RFC 4035 §3.2.3)
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, REFUSED = 0, 1, 2, 3, 5
CODES = {FORMERR: "FORMERR", SERVFAIL: "SERVFAIL", 4: "NOTIMP", REFUSED: "REFUSED"}
RD = 0x0100  # the resolver shall ask others
QR, OPCODE, TC = 0x8000, 0x7800, 0x0200
PAYLOAD = 1232  # octets of an answer by UDP, which no network cuts
MAX_MESSAGE = 65535  # octets, by TCP
MAX_RECORDS = 1000  # of one answer; more than anybody has, and soon read
MAX_CHAIN = 8  # CNAME records that are followed
MAX_TTL = 3600.0  # seconds an answer is kept at most
MAX_NEGATIVE_TTL = 300.0  # seconds it is kept that there is nothing (RFC 2308 §5)
FAILED_TTL = 5.0  # the same when nobody says how long; and of failures: RFC 2308 §7
_LETTERS = bytes(0x20 if chr(octet).isalpha() and octet < 0x80 else 0 for octet in range(256))
_FURTHER = 1 + RECORD.size  # octets of the EDNS record


@dataclass(slots=True)
class Response(Generic[T]):
    """What a message says about one type of records."""

    asked: str  # the name in the question
    code: int
    secure: bool  # the resolver says that it has checked the signatures
    size: int  # octets of the message
    records: dict[str, list[T]] = field(default_factory=dict)  # by owner
    aliases: dict[str, str] = field(default_factory=dict)  # CNAME records, by owner
    ttl: dict[str, int] = field(default_factory=dict)  # the shortest, by owner
    negative_ttl: float | None = None  # of the SOA record of what is not there


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """The end of a chain of CNAME records in one message."""

    name: str
    records: tuple[T, ...]
    ttl: float  # seconds
    unfinished: bool = False  # the last CNAME record leads to what the message does not have


class Fit(Enum):
    """How a message with the right id goes with a question."""

    YES = auto()
    CASE = auto()  # in all but the case of the name
    CUT = auto()  # it is the beginning of the answer
    NO = auto()


def question(name: bytes, number: int, *, signatures: bool) -> bytes:
    """Return a question without its id, with EDNS (RFC 6891); signatures: set the DO bit."""
    further = RECORD.pack(41, PAYLOAD, 0x8000 if signatures else 0, 0)
    head = HEADER.pack(0, RD | AD, 1, 0, 0, 1)[2:]
    return head + name + struct.pack("!HH", number, IN) + b"\0" + further


def mixed_case(name: bytes, bits: int) -> bytes:
    """Return a name with each letter in the case that a random bit says.

    The bits are as many as those of the name.
    """
    letters = int.from_bytes(name.translate(_LETTERS), "big")
    return (int.from_bytes(name, "big") ^ (bits & letters)).to_bytes(len(name), "big")


def fits(message: bytes, asked: bytes) -> Fit:
    """Compare a message with a question, as `question` wrote it; the id is not looked at."""
    if len(message) < HEADER.size:
        return Fit.NO
    _, flags, questions, *_ = HEADER.unpack_from(message)
    if not flags & QR or flags & OPCODE or questions != 1:
        return Fit.NO
    wanted = asked[QUESTION_AT - 2 : -_FURTHER]
    there = message[QUESTION_AT : QUESTION_AT + len(wanted)]
    if there != wanted:
        # no length of a label is a letter, and the type is below them
        return Fit.CASE if there.lower() == wanted.lower() else Fit.NO
    return Fit.CUT if flags & TC else Fit.YES


def read(message: bytes, kind: Kind[T]) -> Response[T]:
    """Read a message with one question; Malformed."""
    try:
        return _read(message, kind)
    except (struct.error, IndexError):
        raise Malformed("the message is cut") from None


def _read(message: bytes, kind: Kind[T]) -> Response[T]:
    _, flags, questions, answers, authorities, _ = HEADER.unpack_from(message)
    if questions != 1:
        raise Malformed("the message answers another number of questions")
    asked, place = read_name(message, QUESTION_AT)
    place += 4
    # not Response[T](...), which takes four microseconds more
    response: Response[T] = Response(asked, flags & 0xF, bool(flags & AD), len(message))
    if answers > MAX_RECORDS:
        raise Malformed("the message has too many records")
    for _ in range(answers):
        owner, place, number, ttl, end = _header(message, place, asked)
        if number == kind.number:
            response.records.setdefault(owner, []).append(kind.read(message, place, end))
        elif number == CNAME.number:
            response.aliases[owner] = CNAME.read(message, place, end)
        if number in (kind.number, CNAME.number):
            response.ttl[owner] = min(ttl, response.ttl.get(owner, ttl))
        place = end
    if not response.records:
        response.negative_ttl = _negative(message, place, min(authorities, MAX_RECORDS), asked)
    return response


def _header(message: bytes, place: int, asked: str) -> tuple[str, int, int, int, int]:
    """Return owner, place of the data, type, TTL and end of a record; type 0 of another class."""
    if message[place] == POINTER and message[place + 1] == QUESTION_AT:  # nearly always
        owner, place = asked, place + 2
    else:
        owner, place = read_name(message, place)
    number, class_, ttl, size = RECORD.unpack_from(message, place)
    place += RECORD.size
    if place + size > len(message):
        raise Malformed("a record is cut")
    if ttl > 0x7FFFFFFF:  # RFC 2181 §8
        ttl = 0
    return owner, place, number if class_ == IN else 0, ttl, place + size


def _negative(message: bytes, place: int, count: int, asked: str) -> float | None:
    """Return how long it stays true that there is nothing (RFC 2308 §5)."""
    for _ in range(count):
        _, place, number, ttl, end = _header(message, place, asked)
        if number == SOA:
            for _ in range(2):
                _, place = read_name(message, place)
            if end - place != 20:
                raise Malformed("an SOA record has five numbers")
            (minimum,) = struct.unpack_from("!I", message, end - 4)
            return float(min(ttl, minimum))
        place = end
    return None


def follow(response: Response[T], name: str) -> Found[T]:
    """Follow the CNAME records of a message from a name on; Malformed when they do not end."""
    ttl = MAX_TTL
    for _ in range(MAX_CHAIN + 1):
        ttl = min(ttl, response.ttl.get(name, ttl))
        records = response.records.get(name)
        if records is not None:
            return Found(name, tuple(dict.fromkeys(records)), ttl)
        alias = response.aliases.get(name)
        if alias is None:
            break
        name = alias
    else:
        raise Malformed("the CNAME records do not end")
    negative = response.negative_ttl
    silent = negative is None and response.code == NOERROR
    ttl = min(ttl, MAX_NEGATIVE_TTL, FAILED_TTL if negative is None else negative)
    return Found(name, (), ttl, silent and bool(response.aliases))
