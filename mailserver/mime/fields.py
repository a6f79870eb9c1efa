"""Header fields written: folded, with encoded words where text is not ASCII (RFC 5322, RFC 2047).

Each function returns the value of a field as it stands behind the colon, folds included. The name
of the field is asked for because it takes room on the first line. What could end a line is never
copied: white space of any kind becomes a blank, other control characters go.
"""

import binascii
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

LINE = 78  # octets, RFC 5322 §2.1.1
MAX_WORD = 900  # octets of a word that cannot be folded; a line has at most 998
_ENCODED_WORD = 60  # characters; 75 are allowed (RFC 2047 §2), but a name is before the first
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip

_SPACE = re.compile(r"[ \t\r\n\v\f\x85\u2028\u2029]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+(?: [A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+)*")
_DOT_ATOM = re.compile(
    r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\u0080-\U0010ffff]+"
    r"(?:\.[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\u0080-\U0010ffff]+)*"
)
_DOMAIN = re.compile(r"[A-Za-z0-9._\-\u0080-\U0010ffff]+|\[[!-Z^-~]+\]")
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_Q_PLAIN = bytes(_Q_SAFE) + b" "  # what takes one octet
_ATTRIBUTE = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&+-.^_`{|}~"
)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~]+")
_BAD_FOLD = re.compile(r"\r\n(?![ \t])|(?<!\r)\n|\r(?!\n)|\0")
_BLANK_FOLD = re.compile(r"\r\n[ \t]*(?=\r\n)|\r\n[ \t]*\Z")


class Address(NamedTuple):
    """A mailbox as it is to be shown: perhaps a name, and an address that may be half-finished."""

    name: str | None
    email: str


class Group(NamedTuple):
    """Addresses under a name; without one they are in no group."""

    name: str | None
    addresses: tuple[Address, ...]


def clean(text: str) -> str:
    """Return text that stays on its line."""
    return _CONTROL.sub("", _SPACE.sub(" ", text))


def folded(name: str, words: Sequence[str]) -> bytes:
    """Put words on lines; each brings the white space before it, at which a line may end."""
    lines: list[str] = []
    line, used = "", len(name) + 1
    for word in words:
        size = len(word.encode())
        if used + size > LINE and line.strip():
            lines.append(line)
            line, used = "", 0
        line += word
        used += size
    lines.append(line)
    return "\r\n".join(lines).encode()


# Text --------------------------------------------------------------------------------------------


def text(name: str, value: str) -> bytes:
    """Write unstructured text."""
    words = re.findall(r" *[^ ]+", clean(value).strip(" "))
    return folded(name, list(_with_encoded_words(words)))


def _with_encoded_words(words: list[str]) -> Iterator[str]:
    """Encode from the first word that needs it to the last one: between two, blanks are lost."""
    foreign = [at for at, word in enumerate(words) if _is_foreign(word)]
    if foreign:
        first, last = foreign[0], foreign[-1] + 1
        run = "".join(words[first:last])
        blanks = run[: len(run) - len(run.lstrip(" "))] or " "
        encoded = [" " + each for each in encoded_words(run.lstrip(" "))]
        encoded[0] = blanks + encoded[0].lstrip(" ")
        words = [*words[:first], *encoded, *words[last:]]
    if words:
        yield " " + words[0].lstrip(" ")
        yield from words[1:]


def _is_foreign(word: str) -> bool:
    return not word.isascii() or "=?" in word or len(word) > MAX_WORD


def encoded_words(value: str) -> list[str]:
    """Return text as encoded words (RFC 2047), each of whole characters."""
    octets = value.encode()
    # who reads it without decoding understands Q as long as most of it is ASCII
    as_q = 2 * len(octets.translate(None, _Q_PLAIN)) <= len(octets)
    room = _ENCODED_WORD - len("=?utf-8?q??=")
    words: list[str] = []
    at = 0
    while at < len(octets):
        piece = _q_piece(octets, at, room) if as_q else _whole(octets[at : at + room // 4 * 3])
        words.append(_encoded_word(piece, as_q))
        at += len(piece)
    return words or [_encoded_word(b"", as_q)]


def _q_piece(octets: bytes, at: int, room: int) -> bytes:
    """Return as many whole characters as take no more room than that in Q."""
    piece = _whole(octets[at : at + room])
    while (cost := len(piece) + 2 * len(piece.translate(None, _Q_PLAIN))) > room:
        piece = _whole(piece[: max(4, min(len(piece) - 1, len(piece) * room // cost))])
    return piece


def _whole(octets: bytes) -> bytes:
    """Cut what is left of a character at the end."""
    return octets.decode("utf-8", "ignore").encode()


def _encoded_word(octets: bytes, as_q: bool) -> str:
    if not as_q:
        return f"=?utf-8?b?{binascii.b2a_base64(octets, newline=False).decode()}?="
    shown = "".join(
        "_" if octet == 0x20 else chr(octet) if octet in _Q_SAFE else f"={octet:02X}"
        for octet in octets
    )
    return f"=?utf-8?q?{shown}?="


def raw(name: str, value: str) -> bytes | None:
    """Write a value that is given in raw form; None when it would end the field."""
    if _BAD_FOLD.search(value) or _BLANK_FOLD.search(value) or _CONTROL.search(_flat(value)):
        return None
    if value.isascii() and all(len(line) <= MAX_WORD for line in value.split("\r\n")):
        return (value if value[:1] in (" ", "\t", "") else " " + value).encode()
    return text(name, value.replace("\r\n", ""))


def _flat(value: str) -> str:
    return value.replace("\r\n", "").replace("\t", "")


# Addresses ---------------------------------------------------------------------------------------


def addresses(name: str, found: Sequence[Address]) -> bytes:
    """Write an address list."""
    return groups(name, [Group(None, tuple(found))])


def groups(name: str, found: Sequence[Group]) -> bytes:
    """Write an address list with groups (RFC 5322 §3.4)."""
    words: list[str] = []
    for at, group in enumerate(found):
        if group.name is not None:
            words += _phrase(clean(group.name)) or [' ""']
            words[-1] += ":"
        for place, address in enumerate(group.addresses):
            words += _mailbox(address)
            if place + 1 < len(group.addresses):
                words[-1] += ","
        if group.name is not None:
            words[-1] += ";"
        if at + 1 < len(found) and words:
            words[-1] += ","
    return folded(name, words)


def _mailbox(address: Address) -> list[str]:
    email = _addr_spec(clean(address.email).strip(" "))
    words = _phrase(clean(address.name or "").strip(" "))
    return [*words, f" <{email}>"] if words or not email else [f" {email}"]


def _addr_spec(email: str) -> str:
    """Return an address; what cannot be one as it is becomes a quoted string."""
    local, at, domain = email.rpartition("@")
    if not at:
        return email if _DOT_ATOM.fullmatch(email) or not email else _quoted(email)
    if not _DOMAIN.fullmatch(domain):
        return _quoted(email)
    return f"{local if _DOT_ATOM.fullmatch(local) else _quoted(local)}@{domain}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _phrase(value: str) -> list[str]:
    """Return a display name as words."""
    if not value:
        return []
    if any(map(_is_foreign, value.split(" "))):
        return [" " + word for word in encoded_words(value)]
    if _ATOMS.fullmatch(value):
        return [" " + word for word in value.split(" ")]
    return re.findall(r" *[^ ]+ *\Z| *[^ ]+", " " + _quoted(value))


# Ids, dates, URLs --------------------------------------------------------------------------------


def message_ids(name: str, found: Sequence[str]) -> bytes | None:
    """Write message ids, without their angle brackets; None when one cannot be an id."""
    if not all(map(_fits_in_angles, found)):
        return None
    return folded(name, [f" <{each}>" for each in found])


def urls(name: str, found: Sequence[str]) -> bytes | None:
    """Write URLs as list header fields have them (RFC 2369 §2); None when one cannot be a URL."""
    if not all(map(_fits_in_angles, found)):
        return None
    last = len(found) - 1
    return folded(
        name, [f" <{each}>" + ("," if at < last else "") for at, each in enumerate(found)]
    )


def _fits_in_angles(value: str) -> bool:
    return (
        0 < len(value.encode()) <= MAX_WORD
        and not re.search(r"[\s<>]", value)
        and (clean(value) == value)
    )


def date(value: datetime) -> bytes:
    """Write a date with its zone (RFC 5322 §3.3)."""
    offset = value.utcoffset() or timedelta(0)
    minutes = abs(offset) // timedelta(minutes=1)
    sign = "-" if offset < timedelta(0) else "+"
    return (
        f" {_DAYS[value.weekday()]}, {value.day} {_MONTHS[value.month - 1]} {value.year:04}"
        f" {value:%H:%M:%S} {sign}{minutes // 60:02}{minutes % 60:02}"
    ).encode()


# MIME --------------------------------------------------------------------------------------------


def parameterized(name: str, value: str, parameters: Sequence[tuple[str, str]]) -> bytes:
    """Write a value with parameters, those that are not ASCII by RFC 2231."""
    words = [f" {value}"]
    for attribute, content in parameters:
        for shown in _parameter(attribute, clean(content)):
            words[-1] += ";"
            words.append(f" {shown}")
    return folded(name, words)


def _parameter(name: str, value: str) -> list[str]:
    if value.isascii() and len(value) <= LINE - len(name) - 6:
        return [f"{name}={value if _TOKEN.fullmatch(value) else _quoted(value)}"]
    pieces = [""]
    for octet in value.encode():
        shown = chr(octet) if octet in _ATTRIBUTE else f"%{octet:02X}"
        if len(pieces[-1]) + len(shown) > LINE - len(name) - 20:
            pieces.append("")
        pieces[-1] += shown
    pieces[0] = "utf-8''" + pieces[0]
    if len(pieces) == 1:
        return [f"{name}*={pieces[0]}"]
    return [f"{name}*{number}*={piece}" for number, piece in enumerate(pieces)]
