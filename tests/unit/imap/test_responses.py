"""What the server writes can be read."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.protocol import flags, responses
from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.framing import Command, Framing
from mailserver.imap.protocol.mailboxes import matcher
from mailserver.model import DELETED, SEEN, Flags, Role


@given(st.binary(max_size=60) | st.sampled_from([b"NIL", b"", b"a b", b'"', b"\\", b"x" * 2000]))
def test_strings_come_back(octets: bytes) -> None:
    for write in (responses.string, responses.astring, responses.literal):
        framing = Framing()
        text = re.sub(rb"\A\{(\d+)\}", rb"{\1+}", write(octets))
        framing.feed(b"a " + text + b"\r\n")
        event = framing.command()
        assert isinstance(event, Command)
        cursor = Cursor(event.parts)
        cursor.atom()
        cursor.space()
        assert cursor.astring() == octets
        cursor.end()


def test_quoted_strings_hold_only_what_they_may() -> None:
    assert responses.string(b'a "b" \\') == b'"a \\"b\\" \\\\"'
    assert responses.string(b"\xc3\xbc") == b"{2}\r\n\xc3\xbc"
    assert responses.string(b"a\nb") == b"{3}\r\na\nb"
    assert responses.nstring(None) == b"NIL"
    assert responses.nstring(b"") == b'""'


def test_dates() -> None:
    assert responses.date_time(760686745000) == b" 8-Feb-1994 05:52:25 +0000"
    assert responses.date_time(-1000) == b"31-Dec-1969 23:59:59 +0000"
    assert responses.date_time(0) == b" 1-Jan-1970 00:00:00 +0000"


@given(st.integers(-62_000_000_000, 250_000_000_000))
def test_dates_come_back(seconds: int) -> None:
    text = b'"' + responses.date_time(seconds * 1000) + b'"'
    assert Cursor((text,)).date_time().timestamp() == seconds


def test_lines() -> None:
    assert responses.status_line(b"a", b"OK", b"done", b"X 1") == b"a OK [X 1] done\r\n"
    assert responses.status_line(b"a", b"OK", b"done") == b"a OK done\r\n"
    assert responses.status(b'"a b"', [b"MESSAGES 3"]) == b'* STATUS "a b" (MESSAGES 3)\r\n'
    assert responses.list_line(b"x", ["\\A", "\\B"]) == b'* LIST (\\A \\B) "/" x\r\n'
    renamed = responses.list_line(b"New", [], old_name=b"Old")
    assert renamed == b'* LIST () "/" New ("OLDNAME" (Old))\r\n'


def test_progress() -> None:
    assert responses.in_progress(b"A1", None) == b'INPROGRESS ("A1" NIL NIL)'
    assert responses.in_progress(b"A1", (3, 10)) == b'INPROGRESS ("A1" 3 10)'
    assert responses.in_progress(b"A]1", (10, 10)) == b"INPROGRESS (NIL 9 10)"


def test_flags() -> None:
    rendered = flags.RenderedFlags(recent=False)
    assert rendered[SEEN | DELETED] == b"\\Seen \\Deleted"
    assert rendered[0] == b""
    assert flags.RenderedFlags(recent=True)[0] == b"\\Recent"
    assert flags.render(SEEN, ("k",), recent=True) == b"\\Seen k \\Recent"
    assert flags.read(["\\SEEN", "b", "A", "a"]) == Flags(SEEN, ("A", "b"))
    assert flags.all_names(["z"]).endswith(b" z")
    with pytest.raises(ProtocolError):
        flags.read(["\\Recent"])


NAMES = st.lists(st.sampled_from(["a", "b", "/", "INBOX", "é"]), max_size=8).map("".join)
PATTERNS = st.lists(st.sampled_from(["a", "b", "/", "*", "%", "inbox", "é"]), max_size=8).map(
    "".join
)


@given(NAMES, PATTERNS)
def test_patterns_match_as_the_regular_expression_does(name: str, pattern: str) -> None:
    first, slash, rest = pattern.partition("/")
    normal = ("INBOX" if first.upper() == "INBOX" else first) + slash + rest
    table = {"*": ".*", "%": "[^/]*"}
    expression = "".join(table.get(character, re.escape(character)) for character in normal)
    wanted = re.fullmatch(expression, name, re.DOTALL) is not None
    assert matcher(pattern)(name) == wanted


def test_inbox_matches_in_any_case() -> None:
    assert matcher("inBox")("INBOX")
    assert matcher("inbox/%")("INBOX/a")
    assert not matcher("a/inbox")("a/INBOX")


def test_a_hostile_pattern_costs_little() -> None:
    matches = matcher("*a" * 500)
    assert not matches("a" * 499 + "b" * 500)
    assert matches("a" * 500)


def test_names_in_both_encodings() -> None:
    for path, old, new in [
        ("Entwürfe", b"Entw&APw-rfe", '"Entwürfe"'.encode()),
        ("a&b", b"a&-b", b'"a&b"'),
        ("plain", b"plain", b"plain"),
        ("two words", b'"two words"', b'"two words"'),
        ('ü"\\', b'"&APw-\\"\\\\"', '"ü\\"\\\\"'.encode()),
    ]:
        assert responses.mailbox_name(path, utf8=False) == old
        assert responses.mailbox_name(path, utf8=True) == new


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])), st.booleans())
def test_a_name_that_was_told_is_read_as_the_same(path: str, utf8: bool) -> None:
    told = responses.mailbox_name(path, utf8=utf8)
    framing = Framing()
    framing.feed(b"LIST %b\r\n" % re.sub(rb"\A\{(\d+)\}", rb"{\1+}", told))
    event = framing.command()
    assert isinstance(event, Command)
    cursor = Cursor(event.parts, utf8=utf8)
    cursor.atom()
    cursor.space()
    assert cursor.mailbox() == path
    cursor.end()


def test_mailboxes() -> None:
    shown = responses.mailbox_attributes(Role.DRAFTS, has_children=False)
    assert shown == ["\\HasNoChildren", "\\Drafts"]
    assert responses.mailbox_attributes(None, has_children=True) == ["\\HasChildren"]
    assert responses.untagged(b"1 EXISTS") == b"* 1 EXISTS\r\n"
