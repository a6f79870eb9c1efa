"""Mail in files: mbox, Maildir and folders of .eml, read as a stream in bounded memory.

Every reader yields `Item`s. Lines end with CRLF in the store and with LF in files; a message that
mixes them is kept as it is, in both directions, so that export and import give the same octets.
"""

import email.utils
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from mailserver.errors import Invalid
from mailserver.imap.protocol import utf7
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.model import Flags

KEYWORDS_FILE = "dovecot-keywords"
CHUNK = 64 * 1024  # bytes of one read; a line may be longer
HEADER_LIMIT = 256 * 1024  # bytes of a message in which its dates and flags are looked for

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FROM_LINE = re.compile(
    rb"From (?P<sender>\S*) +(?:[A-Z][a-z]{2} +)?(?P<month>[A-Z][a-z]{2}) +(?P<day>\d{1,2}) +"
    rb"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?"
    rb"(?: +[A-Z]{1,5}| +[+-]\d{4})? +(?P<year>\d{4})(?: +(?P<zone>[+-]\d{4}))?"
)
_ESCAPED_FROM = re.compile(rb">+From ")
_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_OWN_HEADER = re.compile(
    rb"Status: ([A-Z]*)\r?\nX-Status: ([A-Z]*)\r?\nX-Keywords: ([^\r\n]*)\r?\n"
)
_STATUS_FIELDS = re.compile(
    rb"^(Status|X-Status|X-Keywords|X-Mozilla-Status):[ \t]*([^\r\n]*)",
    re.MULTILINE | re.IGNORECASE,
)
_DATE_FIELDS = re.compile(
    rb"^(Received|Date):[ \t]*((?:[^\r\n]|\r?\n[ \t])*)", re.MULTILINE | re.IGNORECASE
)
_HEADER_END = re.compile(rb"\r?\n\r?\n")

# letter of an X-Status or Status field, IMAP flag
STATUS_LETTERS = {
    "R": "\\Seen",
    "A": "\\Answered",
    "F": "\\Flagged",
    "T": "\\Draft",
    "D": "\\Deleted",
}
# bit of X-Mozilla-Status, IMAP flag
MOZILLA_BITS = {0x1: "\\Seen", 0x2: "\\Answered", 0x4: "\\Flagged", 0x8: "\\Deleted"}
# letter of a Maildir info suffix, IMAP flag
MAILDIR_LETTERS = {
    "D": "\\Draft",
    "F": "\\Flagged",
    "P": "$Forwarded",
    "R": "\\Answered",
    "S": "\\Seen",
    "T": "\\Deleted",
}
_MAILDIR_NAME = re.compile(r".*[:;!]2,(?P<letters>[A-Za-z]*)\Z")
_EML_NAME = re.compile(r".*\.(?P<letters>[DFPRSTa-z]*)\.eml\Z")


class Dates(StrEnum):
    """Where the date of arrival is taken from."""

    FILE = "file"  # the From_ line of an mbox, the time of a file
    HEADER = "header"  # the newest Received field, or Date


@dataclass(frozen=True, slots=True)
class Item:
    """One message of a file."""

    folder: tuple[str, ...]  # parts of the mailbox path; () is the top
    raw: bytes
    flags: Flags
    received_at: datetime | None
    place: str  # for reports


@dataclass(frozen=True, slots=True)
class TooLong:
    """A message that is over the limit and was passed over."""

    place: str
    size: int


Entry = Item | TooLong


def read(path: Path, limit: int, dates: Dates = Dates.FILE) -> Iterator[Entry]:
    """Read whatever a path holds: an mbox, one .eml, a Maildir, or folders of .eml and .mbox."""
    if path.is_file():
        if path.suffix.lower() == ".eml":
            return _files([path], (), limit, dates, ())
        return read_mbox(path, (), limit, dates)
    if not path.is_dir():
        raise Invalid(f"{path}: no such file or folder")
    if (path / "cur").is_dir() or (path / "new").is_dir():
        return read_maildir(path, limit, dates)
    return read_tree(path, limit, dates)


def folders(path: Path) -> list[tuple[str, ...]]:
    """Return the mailbox paths a Maildir++ or a tree has, empty ones too."""
    if path.is_file():
        return [()]
    if (path / "cur").is_dir() or (path / "new").is_dir():
        return [folder for folder, _ in _maildir_folders(path)]
    return [folder for folder, _ in _tree_folders(path)]


def total_bytes(path: Path) -> int:
    """Return how many bytes there are to read, for a progress bar."""
    if path.is_file():
        return path.stat().st_size
    return sum(
        os.stat(Path(top) / name).st_size for top, _, names in os.walk(path) for name in names
    )


# mbox --------------------------------------------------------------------------------------------


def read_mbox(
    path: Path, folder: tuple[str, ...], limit: int, dates: Dates = Dates.FILE
) -> Iterator[Entry]:
    """Read an mbox: a line `From sender date` after an empty line begins a message."""
    with path.open("rb") as stream:
        first = stream.readline(CHUNK)
        if not first:
            return
        if not first.startswith(b"From "):
            raise Invalid(f"{path}: not an mbox: its first line does not begin with `From `")
        number, from_line = 0, first
        while from_line:
            number += 1
            raw, size, following = _mbox_message(stream, limit)
            place = f"{path}: message {number}"
            if raw is None:
                yield TooLong(place, size)
            else:
                yield _mbox_item(folder, raw, from_line, dates, place)
            from_line = following


def _mbox_message(stream: IO[bytes], limit: int) -> tuple[bytes | None, int, bytes]:
    """Read to the next From_ line; return the message, its size and that line (b"": the end)."""
    lines: list[bytes] = []
    size, after_blank, at_start = 0, False, True
    following = b""
    while line := stream.readline(CHUNK):
        if at_start and after_blank and _FROM_LINE.match(line):
            following = line
            break
        if at_start and line.startswith(b">") and _ESCAPED_FROM.match(line):
            line = line[1:]
        after_blank = at_start and line in (b"\n", b"\r\n")
        at_start = line.endswith(b"\n")
        size += len(line)
        if size <= limit + 2:
            lines.append(line)
        else:
            lines.clear()
    if size > limit + 2:
        return None, size, following
    if after_blank:
        lines.pop()  # the empty line belongs to the file, not to the message
    return b"".join(lines), size, following


def _mbox_item(
    folder: tuple[str, ...], raw: bytes, from_line: bytes, dates: Dates, place: str
) -> Item:
    own = _OWN_HEADER.match(raw)
    if own:
        flags = _flags_of_status([own[1], own[2]], own[3])
        raw = raw[own.end() :]
    else:
        flags = _flags_of_fields(raw)
    raw = to_crlf(raw)
    received_at = from_line_date(from_line) if dates is Dates.FILE else None
    return Item(folder, raw, flags, received_at or header_date(raw), place)


def from_line_date(line: bytes) -> datetime | None:
    """Read the date of a From_ line; a date without a zone is UTC."""
    match = _FROM_LINE.match(line)
    if match is None or match["month"].decode() not in _MONTHS:
        return None
    zone = match["zone"].decode() if match["zone"] else "+0000"
    month = _MONTHS.index(match["month"].decode()) + 1
    numbers = [int(match[name] or b"0") for name in ("year", "day", "hour", "minute", "second")]
    year, day, hour, minute, second = numbers
    text = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{min(second, 59):02}{zone}"
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def mbox_text(raw: bytes, flags: Flags, received_at: datetime) -> bytes:
    """Return a message as it stands in an mbox (mboxrd), with its flags in three fields on top."""
    when = received_at.astimezone(UTC)
    date = f"{when:%a} {_MONTHS[when.month - 1]} {when.day:2} {when:%H:%M:%S} {when.year:04}"
    names = {name.lower() for name in flags.names()}
    status = "".join(
        letter for letter, name in STATUS_LETTERS.items() if name.lower() in names and letter != "R"
    )
    seen = "RO" if "\\seen" in names else "O"
    known = {name.lower() for name in STATUS_LETTERS.values()}
    keywords = " ".join(name for name in flags.names() if name.lower() not in known)
    fields = f"Status: {seen}\nX-Status: {status}\nX-Keywords: {keywords}\n"
    body = _FROM.sub(rb">\1", to_lf(raw))
    end = b"\n" if not body or body.endswith(b"\n") else b"\n\n"
    return f"From MAILER-DAEMON {date}\n{fields}".encode() + body + end


def _flags_of_status(letters: Sequence[bytes], keywords: bytes) -> Flags:
    given = b"".join(letters).decode("ascii", "replace").upper()
    names = [STATUS_LETTERS[letter] for letter in given if letter in STATUS_LETTERS]
    names += keywords.decode("utf-8", "replace").split()
    return Flags.of(names)


def _flags_of_fields(raw: bytes) -> Flags:
    """Read the flags from wherever in the header another program put them."""
    letters: list[bytes] = []
    keywords = b""
    names: list[str] = []
    for match in _STATUS_FIELDS.finditer(header_of(raw)):
        field, value = match[1].lower(), match[2].strip()
        if field == b"x-keywords":
            keywords += b" " + value
        elif field == b"x-mozilla-status":
            bits = int(value, 16) if re.fullmatch(rb"[0-9A-Fa-f]{1,4}", value) else 0
            names += [name for bit, name in MOZILLA_BITS.items() if bits & bit]
        else:
            letters.append(value)
    found = _flags_of_status(letters, keywords)
    return Flags.of([*found.names(), *names])


# Maildir and .eml --------------------------------------------------------------------------------


def read_maildir(path: Path, limit: int, dates: Dates = Dates.FILE) -> Iterator[Entry]:
    """Read a Maildir and, as Maildir++ has them, the folders `.A.B` inside it."""
    for folder, directory in _maildir_folders(path):
        keywords = read_keywords(directory)
        for part in ("cur", "new"):
            if (directory / part).is_dir():
                yield from _files(_listed(directory / part), folder, limit, dates, keywords)


def read_tree(path: Path, limit: int, dates: Dates = Dates.FILE) -> Iterator[Entry]:
    """Read .eml and .mbox files below a folder; the folders are the mailboxes."""
    for folder, place in _tree_folders(path):
        if place.is_file():
            yield from read_mbox(place, folder, limit, dates)
        else:
            messages = [file for file in _listed(place) if file.suffix.lower() == ".eml"]
            yield from _files(messages, folder, limit, dates, read_keywords(place))


def _maildir_folders(path: Path) -> list[tuple[tuple[str, ...], Path]]:
    found: list[tuple[tuple[str, ...], Path]] = [((), path)]
    found += [
        (from_maildir_name(directory.name), directory)
        for directory in sorted(path.iterdir())
        if directory.name.startswith(".") and (directory / "cur").is_dir()
    ]
    return found


def _tree_folders(path: Path) -> list[tuple[tuple[str, ...], Path]]:
    found: list[tuple[tuple[str, ...], Path]] = []
    for top, directories, names in os.walk(path):
        directories.sort()
        here = Path(top)
        parents = tuple(from_file_name(part) for part in here.relative_to(path).parts)
        found.append((parents, here))
        found.extend(
            ((*parents, from_file_name(name.removesuffix(".mbox"))), here / name)
            for name in sorted(names)
            if name.endswith(".mbox")
        )
    return found


def _listed(directory: Path) -> list[Path]:
    """Return the files of a folder in the order in which they were numbered or named."""

    def key(path: Path) -> tuple[int, str]:
        number = re.match(r"\d+", path.name)
        return int(number[0]) if number else 0, path.name

    return sorted((path for path in directory.iterdir() if path.is_file()), key=key)


def _files(
    paths: Sequence[Path],
    folder: tuple[str, ...],
    limit: int,
    dates: Dates,
    keywords: Sequence[str],
) -> Iterator[Entry]:
    for path in paths:
        facts = path.stat()
        if facts.st_size > limit:
            yield TooLong(str(path), facts.st_size)
            continue
        raw = to_crlf(path.read_bytes())
        of_file = datetime.fromtimestamp(facts.st_mtime, UTC)
        of_header = header_date(raw) if dates is Dates.HEADER else None
        yield Item(
            folder, raw, _flags_of_name(path.name, keywords), of_header or of_file, str(path)
        )


def _flags_of_name(name: str, keywords: Sequence[str]) -> Flags:
    match = _MAILDIR_NAME.match(name) or _EML_NAME.match(name)
    names: list[str] = []
    for letter in match["letters"] if match else "":
        if letter in MAILDIR_LETTERS:
            names.append(MAILDIR_LETTERS[letter])
        elif letter.islower() and ord(letter) - ord("a") < len(keywords):
            names.append(keywords[ord(letter) - ord("a")])
    return Flags.of(name for name in names if name)


def flag_letters(flags: Flags, keywords: list[str]) -> str:
    """Return the letters of a file name; a keyword seen first gets the next free letter a to z."""
    letters = []
    by_flag = {name.lower(): letter for letter, name in MAILDIR_LETTERS.items()}
    for name in flags.names():
        letter = by_flag.get(name.lower())
        if letter is None:
            if name not in keywords and len(keywords) < 26:
                keywords.append(name)
            letter = chr(ord("a") + keywords.index(name)) if name in keywords else ""
        letters.append(letter)
    return "".join(sorted(letters))


def read_keywords(directory: Path) -> list[str]:
    """Read the names of the keyword letters a to z, as Dovecot writes them."""
    found = [""] * 26
    try:
        text = (directory / KEYWORDS_FILE).read_text("utf-8", "replace")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        number, _, name = line.partition(" ")
        if number.isascii() and number.isdigit() and int(number) < 26:
            found[int(number)] = name.strip()
    return found


def write_keywords(directory: Path, keywords: Sequence[str]) -> None:
    """Write the names of the keyword letters, if there are any."""
    if keywords:
        lines = [f"{number} {name}\n" for number, name in enumerate(keywords)]
        (directory / KEYWORDS_FILE).write_text("".join(lines), "utf-8")


# Names and octets --------------------------------------------------------------------------------


def to_maildir_name(folder: Sequence[str]) -> str:
    """Return the folder name of Maildir++: `.A.B` in modified UTF-7, a dot in a part escaped."""
    parts = [utf7.encode(part).decode("ascii").replace(".", "&AC4-") for part in folder]
    return "".join("." + part.replace("/", "&AC8-") for part in parts)


def from_maildir_name(name: str) -> tuple[str, ...]:
    """Read a folder name of Maildir++; one that is not modified UTF-7 is taken as it stands."""
    parts = []
    for part in name.lstrip(".").split("."):
        pieces = [_decoded(piece) for piece in part.split("&AC4-")]
        parts.append(".".join(pieces))
    return tuple(part for part in parts if part)


def to_file_name(part: str) -> str:
    """Return one part of a mailbox path as a file name that every file system takes."""
    text = "".join(
        c
        if c.isprintable() and c not in '%/\\:*?"<>|'
        else "".join(f"%{b:02X}" for b in c.encode())
        for c in part
    )
    return "%2E" + text[1:] if text.startswith(".") else text


def from_file_name(name: str) -> str:
    """Read a part of a mailbox path back from a file name."""
    return unquote(name)


def _decoded(text: str) -> str:
    try:
        return utf7.decode(text.encode("utf-8"))
    except ProtocolError:
        return text


def header_of(raw: bytes) -> bytes:
    """Return the header of a message, or as much of it as is worth reading."""
    start = raw[:HEADER_LIMIT]
    end = _HEADER_END.search(start)
    return start[: end.start() + 1] if end else start


def header_date(raw: bytes) -> datetime | None:
    """Return the date of the newest Received field, or that of Date."""
    dates: dict[bytes, datetime] = {}
    for match in _DATE_FIELDS.finditer(header_of(raw)):
        field = match[1].lower()
        text = match[2].decode("ascii", "replace")
        if field == b"received":
            text = text.rpartition(";")[2]
        try:
            date = email.utils.parsedate_to_datetime(" ".join(text.split()))
            aware = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        dates.setdefault(field, aware)
    return dates.get(b"received") or dates.get(b"date")


def to_crlf(raw: bytes) -> bytes:
    """Return a message whose lines all end with LF with CRLF; any other stays as it is."""
    return raw if b"\r" in raw else raw.replace(b"\n", b"\r\n")


def to_lf(raw: bytes) -> bytes:
    """Return a message whose lines all end with CRLF with LF; any other stays as it is."""
    pairs = raw.count(b"\r\n")
    if pairs == raw.count(b"\n") == raw.count(b"\r"):
        return raw.replace(b"\r\n", b"\n")
    return raw
