"""Annotations on the wire."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.protocol import metadata
from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.framing import Command, Framing
from mailserver.imap.protocol.metadata import INFINITY, GetMetadata, SetMetadata

COMMENT = "/shared/comment"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (b' "" /shared/comment', GetMetadata("", (COMMENT,))),
        (b" INBOX (/shared/comment /Private/x)", GetMetadata("INBOX", (COMMENT, "/Private/x"))),
        (b" (maxsize 9 depth 1) a /private", GetMetadata("a", ("/private",), 9, 1)),
        (b" a (DEPTH INFINITY) (/private)", GetMetadata("a", ("/private",), None, INFINITY)),
        (b" a /shared/comment ", GetMetadata("a", (COMMENT,))),  # the space is forgiven
        (b' a ("/shared/comment")', GetMetadata("a", (COMMENT,))),
        (b" a /shared/comment /private/x", GetMetadata("a", (COMMENT, "/private/x"))),
    ],
)
def test_getmetadata_is_read(text: bytes, command: GetMetadata) -> None:
    assert metadata.parse_getmetadata(Cursor((text,))) == command


@pytest.mark.parametrize(
    "text",
    [
        b" a",
        b" a ()",
        b" a (/shared/x",
        b" a (DEPTH 1)",
        b" (DEPTH 2) a /shared/x",
        b" (SIZE 2) a /shared/x",
        b" (MAXSIZE) a /shared/x",
        b' a "/shared/\xc3\xa4"',
        b" a /shared/" + b"x" * 255,
        b" a (" + b"/shared/x " * 100 + b"/shared/x)",
    ],
)
def test_what_getmetadata_is_not(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        metadata.parse_getmetadata(Cursor((text,)))


def test_setmetadata_is_read() -> None:
    text = b' a (/Shared/Comment "x" /private/vendor/b/c NIL /shared/comment "y")'
    assert metadata.parse_setmetadata(Cursor((text,))) == SetMetadata(
        "a", {COMMENT: b"y", "/private/vendor/b/c": None}
    )
    many = b" a (" + b'/shared/x "" ' * 100 + b'/shared/x "")'
    for text in (b" a ()", b" a (/shared/x)", b' a (/shared/vendor/x "")', many):
        with pytest.raises(ProtocolError):
            metadata.parse_setmetadata(Cursor((text,)))


VALUES = {name: b"" for name in ("/private/a", "/private/a/b", "/private/a/b/c", "/private/ab")}


@pytest.mark.parametrize(
    ("wanted", "depth", "names"),
    [
        ("/private/A", 0, ["/private/A"]),
        ("/private/x", 0, ["/private/x"]),
        ("/private/a", 1, ["/private/a", "/private/a/b"]),
        ("/private", 1, ["/private/a", "/private/ab"]),
        ("/private/a", INFINITY, ["/private/a", "/private/a/b", "/private/a/b/c"]),
        ("/private/x", 1, []),
    ],
)
def test_depth(wanted: str, depth: int, names: list[str]) -> None:
    found = metadata.chosen(GetMetadata("", (wanted,), None, depth), VALUES)
    assert [name for name, _ in found] == names


@given(st.none() | st.binary(max_size=30) | st.just(b"a\0b"))
def test_values_come_back(value: bytes | None) -> None:
    said = metadata.metadata(b'"a b"', [(COMMENT, value)])
    assert said.startswith(b'* METADATA "a b" (/shared/comment ')
    framing = Framing()
    framing.feed(re.sub(rb"\{(\d+)\}\r\n", rb"{\1+}\r\n", said, count=1))
    event = framing.command()
    assert isinstance(event, Command)
    start = event.parts[0]
    assert isinstance(start, bytes)
    cursor = Cursor((start.removeprefix(b"* METADATA"), *event.parts[1:]))
    assert metadata.parse_setmetadata(cursor).values == {COMMENT: value}
