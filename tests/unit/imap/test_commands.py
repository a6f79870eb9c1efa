"""Parsers: commands as values; any octets give a command or a ProtocolError."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.imap.commands import COMMANDS
from mailserver.imap.protocol import fetch as fetch_wire
from mailserver.imap.protocol import search_keys as search
from mailserver.imap.protocol.append import (
    Append,
    BadUrl,
    NewMessage,
    Replace,
    Url,
    parse_url,
)
from mailserver.imap.protocol.auth import Authenticate, Login
from mailserver.imap.protocol.connection import Bare, Enable, Id, Language, chosen_language
from mailserver.imap.protocol.copy import Copy
from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import BadCharset, ProtocolError
from mailserver.imap.protocol.fetch import Attribute, Fetch, Section
from mailserver.imap.protocol.framing import Command, Framing, Spooled
from mailserver.imap.protocol.listing import List
from mailserver.imap.protocol.mailboxes import Create, Listing, Rename, Status, StatusItem
from mailserver.imap.protocol.search import Search
from mailserver.imap.protocol.search_keys import And, HasFlag, InHeader, Messages, Not, Or
from mailserver.imap.protocol.select import Select
from mailserver.imap.protocol.sequences import SequenceSet
from mailserver.imap.protocol.store import Expunge, Store
from mailserver.model import DELETED, FLAGGED, SEEN, FlagChange, Flags

ONE = SequenceSet(((1, 1),))


def _parse(line: bytes) -> object:
    framing = Framing()
    framing.append_limit = 1000
    framing.feed(line + b"\r\n")
    event = framing.command()
    assert isinstance(event, Command)
    cursor = Cursor(event.parts)
    name = cursor.word()
    if name == b"UID":
        cursor.space()
        name += b" " + cursor.word()
    return COMMANDS[name].parse(cursor)


def _section(label: bytes, part: str, text: str, *fields: bytes, seen: bool = False) -> Section:
    return Section(label, part, text, fields, None, 0, seen)


GOOD = [
    (b"LOGIN SMITH SESAME", Login(b"SMITH", b"SESAME")),
    (b'LOGIN "a\\"b\\\\" {3+}\r\nx y', Login(b'a"b\\', b"x y")),
    (b"AUTHENTICATE plain", Authenticate("PLAIN", None)),
    (b"AUTHENTICATE PLAIN =", Authenticate("PLAIN", b"=")),
    (b'ID ("a" "b" "c" NIL)', Id(((b"a", b"b"), (b"c", None)))),
    (b"ID nil", Id(())),
    (b"COMPRESS deflate", Bare()),
    (b"LANGUAGE", Language(())),
    (b'LANGUAGE de "en-GB"', Language((b"de", b"en-GB"))),
    (b"ID ()", Id(())),
    (b"ENABLE condstore X-A", Enable((b"CONDSTORE", b"X-A"))),
    (b"SELECT &U,BTFw-", Select("台北")),
    (b"CREATE a/b/", Create("a/b")),
    (b"RENAME a {1+}\r\nb", Rename("a", "b")),
    (b'LIST "" %/a*]', List("", ("%/a*]",))),
    (b'LSUB "~/" "%"', Listing("~/", "%")),
    (b"STATUS b (uidnext messages)", Status("b", (StatusItem.UIDNEXT, StatusItem.MESSAGES))),
    (
        b'APPEND x (\\Seen kw) " 7-Feb-1994 21:52:25 -0800" {4+}\r\nbody',
        Append(
            "x",
            (
                NewMessage(
                    Flags(SEEN, ("kw",)), datetime(1994, 2, 8, 5, 52, 25, tzinfo=UTC), (b"body",)
                ),
            ),
        ),
    ),
    (b"APPEND x (\\Recent) {1+}\r\n\0", Append("x", (NewMessage(Flags(), None, (b"\0",)),))),
    (b"APPEND x UTF8 (~{2+}\r\nab)", Append("x", (NewMessage(Flags(), None, (b"ab",)),))),
    (
        b"APPEND x CATENATE (TEXT {1+}\r\na UTF8 (~{1+}\r\nb))",
        Append("x", (NewMessage(Flags(), None, (b"a", b"b")),)),
    ),
    (b"APPEND x {0+}\r\n", Append("x", (NewMessage(Flags(), None, (b"",)),))),
    (
        b"APPEND x {1+}\r\na (\\Seen) {1+}\r\nb",
        Append("x", (NewMessage(Flags(), None, (b"a",)), NewMessage(Flags(SEEN), None, (b"b",)))),
    ),
    (
        b"APPEND x {1+}\r\na  (\\Seen) {1+}\r\nb",
        Append("x", (NewMessage(Flags(), None, (b"a",)), NewMessage(Flags(SEEN), None, (b"b",)))),
    ),
    (
        b'APPEND x CATENATE (TEXT ~{1+}\r\na URL "/;UID=7")',
        Append(
            "x",
            (NewMessage(Flags(), None, (b"a", Url(b"/;UID=7", None, None, 7, "", 0, None))),),
        ),
    ),
    (
        b"UID REPLACE 1 x (\\Seen) {1+}\r\na",
        Replace(ONE, True, "x", NewMessage(Flags(SEEN), None, (b"a",))),
    ),
    (b"STORE 1 +FLAGS \\Deleted", Store(ONE, False, FlagChange.ADD, Flags(DELETED), False)),
    (
        b"UID STORE 1 -flags.silent (\\seen $Odd)",
        Store(ONE, True, FlagChange.REMOVE, Flags(SEEN, ("$Odd",)), True),
    ),
    (
        b"STORE 1 FLAGS \\Seen \\Deleted",
        Store(ONE, False, FlagChange.REPLACE, Flags(SEEN | DELETED), False),
    ),
    (b"STORE 1 FLAGS ()", Store(ONE, False, FlagChange.REPLACE, Flags(), False)),
    (b"EXPUNGE", Expunge(None)),
    (b"UID EXPUNGE 1", Expunge(ONE)),
    (b"COPY 1 x", Copy(ONE, False, "x")),
    (b"UID MOVE 1 x", Copy(ONE, True, "x")),
    (b"FETCH 1 fast", Fetch(ONE, False, fetch_wire.MACROS[b"FAST"])),
    (b"UID FETCH 1 FLAGS", Fetch(ONE, True, (Attribute.FLAGS,))),
    (
        b'FETCH 1 (BODY[] body.peek[1.2.mime] BODY.PEEK[HEADER.FIELDS (To "x y")])',
        Fetch(
            ONE,
            False,
            (
                _section(b"BODY[]", "", "", seen=True),
                _section(b"BODY[1.2.MIME]", "1.2", "MIME"),
                _section(b'BODY[HEADER.FIELDS (To "x y")]', "", "HEADER.FIELDS", b"To", b"x y"),
            ),
        ),
    ),
    (
        b"FETCH 1 BODY[2]<7.9>",
        Fetch(ONE, False, (Section(b"BODY[2]<7>", "2", "", (), 7, 9, True),)),
    ),
    (b"SEARCH 1", Search(Messages(ONE, by_uid=False), by_uid=False)),
    (b"UID SEARCH UID 1", Search(Messages(ONE, by_uid=True), by_uid=True)),
    (
        b"SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM Smith",
        Search(
            And(
                (
                    HasFlag(FLAGGED),
                    search.Received(search.Order.SINCE, date(1994, 2, 1)),
                    Not(InHeader("from", "Smith")),
                )
            ),
            by_uid=False,
        ),
    ),
    (
        b"SEARCH CHARSET utf-8 OR (SEEN) SUBJECT {2+}\r\n\xc3\xbc",
        Search(Or(HasFlag(SEEN), InHeader("subject", "ü")), by_uid=False, names_charset=True),
    ),
    (
        b'SEARCH SENTON "1-Feb-1994"',
        Search(search.Sent(search.Order.ON, date(1994, 2, 1)), by_uid=False),
    ),
    (b"SEARCH HEADER X-A b", Search(InHeader("x-a", "b"), by_uid=False)),
    (b"SEARCH UNKEYWORD Work", Search(Not(search.HasKeyword("work")), by_uid=False)),
    (b"SEARCH KEYWORD \\Seen", Search(HasFlag(SEEN), by_uid=False)),
    (b"SEARCH ALL ", Search(search.Everything(), by_uid=False)),
]

BAD = [
    b"LOGIN a",
    b"LOGIN a b c",
    b'LOGIN "a b',
    b'LOGIN "a\\n" b',
    b"CREATE a&b",
    b"STATUS x ()",
    b"STATUS x MESSAGES",
    b"STATUS x (SIZES)",
    b'APPEND x "32-Feb-1994 21:52:25 -0800" {1+}\r\nx',
    b'APPEND x "01-Feb-1994 21:52:25 -2500" {1+}\r\nx',
    b'APPEND x "01-Feb-0000 21:52:25 +0000" {1+}\r\nx',
    b"APPEND x (\\Seen)",
    b"APPEND x UTF8 {1+}\r\na",
    b"APPEND x UTF8 (~{1+}\r\na",
    b'APPEND x UTF8 ("a")',
    b"APPEND x text",
    b"STORE 1 FLAGS",
    b"STORE 1 FLAG (\\Seen)",
    b"STORE 1 FLAGS (\\Unknown)",
    b"STORE 1 FLAGS (" + b"k" * 200 + b")",
    b"STORE 1 FLAGS (" + b" ".join(b"k%d" % n for n in range(101)) + b")",
    b"FETCH 1 ()",
    b"FETCH 1 (FLAGS",
    b"FETCH 1 BODY[1.]",
    b"FETCH 1 BODY[0]",
    b"FETCH 1 BODY[MIME]",
    b"FETCH 1 BODY[HEADER.FIELDS ()]",
    b"FETCH 1 BODY[]<0.0>",
    b"FETCH 1 BODY[]<1>",
    b"FETCH 1 (" + b" ".join(b"BODY[%d]" % n for n in range(1, 300)) + b")",
    b"FETCH 1 BODY[HEADER.FIELDS (" + b" ".join(b"f%d" % n for n in range(600)) + b")]",
    b"SEARCH ()",
    b"SEARCH NOT",
    b"SEARCH OR SEEN",
    b"SEARCH LARGER x",
    b"SEARCH LARGER 4294967296",
    b"SEARCH ON 30-Feb-2020",
    b"SEARCH ON 3-Foo-2020",
    b"SEARCH ON tomorrow",
    b"SEARCH UID 1:x",
    b"SEARCH " + b"NOT " * 101 + b"SEEN",
    b"SEARCH " + b"(" * 5000 + b"SEEN" + b")" * 5000,
    b"SEARCH " + b" ".join([b"SEEN"] * 2001),
    b"SEARCH CHARSET US-ASCII TEXT {2+}\r\n\xc3\xbc",
    b"ENABLE",
    b"COMPRESS",
    b"COMPRESS DEFLATE x",
    b"COMPRESS LZ",
    b"LANGUAGE (",
    b"LANGUAGE" + b" en" * 101,
    b"ID (" + b" ".join([b'"a" "b"'] * 31) + b")",
    b"NOOP x",
    b"SELECT " + b"x" * 1001,
    b'LIST "" ' + b"%" * 1001,
]


@pytest.mark.parametrize(("line", "command"), GOOD)
def test_good(line: bytes, command: object) -> None:
    assert _parse(line) == command


@pytest.mark.parametrize("line", BAD, ids=lambda line: line[:30])
def test_bad(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        _parse(line)


def test_tags() -> None:
    assert Cursor((b"a.1] x",)).tag() == b"a.1]"
    for text in (b"+1", b"", b"(a", b"\xff"):
        with pytest.raises(ProtocolError):
            Cursor((text,)).tag()


def test_charset() -> None:
    with pytest.raises(BadCharset):
        _parse(b"SEARCH CHARSET X-UNHEARD-OF ALL")


def test_secrets_are_not_shown() -> None:
    assert "SESAME" not in repr(Login(b"SMITH", b"SESAME"))
    assert "c2Vj" not in repr(Authenticate("PLAIN", b"c2Vj"))


SEEDS = st.sampled_from([line for line, _ in GOOD] + [line for line in BAD if len(line) < 200])
JUNK = st.sampled_from([b"", b" ", b"(", b")", b'"', b"\\", b"{1+}\r\nx", b"*", b"<", b"]", b"\0"])


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A command that is cut, doubled or has something put into it."""
    line = draw(SEEDS)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(line)))
        end = draw(st.integers(start, len(line)))
        put = draw(JUNK | st.just(line[start:end] * 2) | st.binary(max_size=3))
        line = line[:start] + put + line[end:]
    return line


@settings(max_examples=400)
@given(_mutated(), st.booleans())
def test_any_octets_give_a_command_or_a_protocol_error(line: bytes, utf8: bool) -> None:
    framing = Framing()
    framing.append_limit = 1000
    framing.feed(line + b"\r\n")
    while (event := framing.command()) is not None:
        if not isinstance(event, Command):
            continue
        for spec in COMMANDS.values():
            cursor = Cursor(event.parts, utf8=utf8)
            try:
                cursor.atom()
                command = spec.parse(cursor)
            except (ProtocolError, BadCharset) as error:
                str(error).encode("ascii")
            else:
                assert command is not None


FIELD = st.sampled_from([b"To", b"x y", b"NIL", b'q"', b"Date"])


@st.composite
def _items(draw: st.DrawFn) -> Section:
    part = draw(st.sampled_from(["", "1", "2.3", "10.1.1"]))
    texts = ["", "HEADER", "TEXT", "HEADER.FIELDS", "HEADER.FIELDS.NOT"] + ["MIME"] * bool(part)
    text = draw(st.sampled_from(texts))
    fields = tuple(draw(st.lists(FIELD, min_size=1))) if "FIELDS" in text else ()
    offset = draw(st.none() | st.integers(0, 2**32))
    label = fetch_wire._label(part.encode(), text.encode(), fields)
    label += b"" if offset is None else b"<%d>" % offset
    length = 0 if offset is None else draw(st.integers(1, 99))
    return Section(label, part, text, fields, offset, length, draw(st.booleans()))


@given(
    st.lists(
        st.sampled_from(Attribute)
        | _items()
        | st.sampled_from([item for item in fetch_wire.OLD_SECTIONS.values()]),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
def test_fetch_is_read_as_it_is_written(items: list[fetch_wire.Item]) -> None:
    command = Fetch(SequenceSet(((1, 0), (7, 7))), False, tuple(items))
    assert fetch_wire.parse_fetch(Cursor((fetch_wire.render(command),))) == command


def test_what_a_section_needs() -> None:
    header = _section(b"BODY[HEADER.FIELDS (To)]", "", "HEADER.FIELDS", b"To")
    nested = _section(b"BODY[2.HEADER.FIELDS.NOT (To)]", "2", "HEADER.FIELDS.NOT", b"To")
    part = _section(b"BODY[2]", "2", "", seen=True)
    assert [one.in_header for one in (header, nested, part)] == [True, False, False]
    assert [one.specifier for one in (header, nested, part)] == ["HEADER", "2.HEADER", "2"]
    assert not Fetch(ONE, False, (Attribute.UID, header)).sets_seen
    assert Fetch(ONE, False, (header, part)).sets_seen


URL = b"/a%20b/c;UIDVALIDITY=5/;UID=20/;section=1.mime/;PARTIAL=1.2"


def test_an_imap_url_names_a_part_of_a_message() -> None:
    assert parse_url(URL) == Url(URL, "a b/c", 5, 20, "1.MIME", 1, 2)
    assert parse_url(b"INBOX/;UID=1") == Url(b"INBOX/;UID=1", "INBOX", None, 1, "", 0, None)
    assert parse_url(b";UID=1") == Url(b";UID=1", None, None, 1, "", 0, None)


@pytest.mark.parametrize(
    "text",
    [
        b"imap://host/INBOX/;UID=1",
        b"/INBOX",
        b"/INBOX/;UID=0",
        b"/INBOX/;UID=1/;SECTION=1.HEADER.FIELDS",
        b"/INBOX/;UID=1/;SECTION=%FF",
        b"/IN%FFBOX/;UID=1",
        b"",
    ],
)
def test_what_names_no_message_is_a_bad_url(text: bytes) -> None:
    assert parse_url(text) == BadUrl(text)


def _utf8(line: bytes) -> Cursor:
    framing = Framing()
    framing.feed(line + b"\r\n")
    event = framing.command()
    assert isinstance(event, Command)
    return Cursor(event.parts, utf8=True)


def test_names_are_utf8_when_the_client_enabled_it() -> None:
    for line, name in [
        ('"Entwürfe"', "Entwürfe"),
        ('"&"', "&"),
        ("a&b", "a&b"),
        ("Entw&APw-rfe", "Entw&APw-rfe"),
        ('"a\\"ü"', 'a"ü'),
        ("{3+}\r\naü", "aü"),
    ]:
        assert _utf8(line.encode()).mailbox() == name
        assert _utf8(line.encode()).list_mailbox() == name


@pytest.mark.parametrize("line", [b'"\xff"', b'"\xc3"', b"{1+}\r\n\xff", b'"\xed\xa0\x80"'])
def test_what_is_not_utf8_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="UTF-8"):
        _utf8(line).mailbox()


def test_only_a_message_may_be_outside_memory() -> None:
    large = Spooled(0, 300_000)
    command = COMMANDS[b"APPEND"].parse(Cursor((b" x ", large, b"")))
    assert command == Append("x", (NewMessage(Flags(), None, (large,)),))
    command = COMMANDS[b"APPEND"].parse(Cursor((b" x CATENATE (TEXT ", large, b")")))
    assert command == Append("x", (NewMessage(Flags(), None, (large,)),))
    with pytest.raises(ProtocolError, match="too large"):
        COMMANDS[b"APPEND"].parse(Cursor((b" ", large, b" ", b"x", b"")))


@pytest.mark.parametrize(
    ("ranges", "chosen"),
    [
        ([b"en"], b"EN"),
        ([b"fr-CA", b"en-ca-x"], b"EN"),
        ([b"DEFAULT"], b"EN"),
        ([b"i-default", b"en"], b"i-default"),
        ([b"", b"mul"], None),
    ],
)
def test_the_first_language_that_is_spoken_is_chosen(
    ranges: list[bytes], chosen: bytes | None
) -> None:
    assert chosen_language(ranges) == chosen
