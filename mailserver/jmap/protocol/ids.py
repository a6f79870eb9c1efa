"""Ids as clients see them, and blob ids that name a whole message or a part of one.

A whole message is `b` and the SHA-256 of its octets in hexadecimal. A part adds where it is and
how it is encoded: `b<hash>-<encoding><start>-<length>`. The name is only a name: it is read
against the blobs of the account that asks, and a range outside the blob leads nowhere.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from mailserver.model import ID_LENGTH, BlobId, IdKind, id_text, id_value

# letter in a blob id -> Content-Transfer-Encoding; "n" is none, and any that is unknown
_ENCODINGS = {"b": "base64", "q": "quoted-printable", "u": "x-uuencode", "n": "binary"}
_LETTERS = {name: letter for letter, name in _ENCODINGS.items()} | {
    "uuencode": "u",
    "x-uue": "u",
    "uue": "u",
}
_BLOB = re.compile(r"b([0-9a-f]{64})(?:-([bqun])(0|[1-9]\d{0,11})-(0|[1-9]\d{0,11}))?", re.ASCII)


KEPT = 32768  # ids whose text is kept: lists show the same ones again and again


@lru_cache(maxsize=KEPT)
def account_text(value: int) -> str:
    """Show an account id."""
    return id_text(IdKind.ACCOUNT, value)


@lru_cache(maxsize=KEPT)
def mailbox_text(value: int) -> str:
    """Show a mailbox id."""
    return id_text(IdKind.MAILBOX, value)


@lru_cache(maxsize=KEPT)
def email_text(value: int) -> str:
    """Show an email id."""
    return id_text(IdKind.EMAIL, value)


@lru_cache(maxsize=KEPT)
def thread_text(value: int) -> str:
    """Show a thread id."""
    return id_text(IdKind.THREAD, value)


def number_of(kind: IdKind, text: str) -> int | None:
    """Return the number that an id shows; None when it is no id of that kind."""
    return _number_of(kind, text) if len(text) == ID_LENGTH else None


_number_of = lru_cache(maxsize=KEPT)(id_value)


def push_text(value: int) -> str:
    """Show the id of a push subscription."""
    return id_text(IdKind.PUSH, value)


def push_value(text: str) -> int | None:
    """Read the id of a push subscription; None when it is none."""
    return id_value(IdKind.PUSH, text)


def known_ids(kind: IdKind, texts: list[str]) -> dict[int, str]:
    """Return number -> text of those texts that are ids of that kind."""
    values = ((id_value(kind, text), text) for text in texts)
    return {value: text for value, text in values if value is not None}


class Slice(NamedTuple):
    """A part of a blob, and the transfer encoding to remove from it."""

    encoding: str
    start: int
    length: int


class BlobName(NamedTuple):
    """What a blob id names."""

    blob_id: BlobId
    part: Slice | None


def blob_text(blob_id: bytes) -> str:
    """Show the blob of a whole message."""
    return "b" + blob_id.hex()


def part_text(blob_id: bytes, encoding: str, start: int, end: int) -> str:
    """Show the blob of a body part."""
    return f"b{blob_id.hex()}-{_LETTERS.get(encoding, 'n')}{start}-{end - start}"


def parse_blob(text: str) -> BlobName | None:
    """Read a blob id; None when it is not one."""
    found = _BLOB.fullmatch(text)
    if found is None:
        return None
    blob_id = BlobId(bytes.fromhex(found[1]))
    if found[2] is None:
        return BlobName(blob_id, None)
    return BlobName(blob_id, Slice(_ENCODINGS[found[2]], int(found[3]), int(found[4])))
