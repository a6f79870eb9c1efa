"""Header fields: addresses, words, dates, parameters, subjects."""

from datetime import UTC, datetime

import pytest

from mailserver.mime import (
    HeaderBlock,
    all_headers,
    as_addresses,
    as_date,
    as_grouped_addresses,
    as_message_ids,
    as_raw,
    as_text,
    as_urls,
    base,
    digest,
    header_fields,
    parse,
)
from mailserver.mime import addresses as address_lists
from mailserver.mime import parameters as parameter_lists


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a@x.test", [(None, "a@x.test")]),
        ("<a@x.test>", [(None, "a@x.test")]),
        ("Ann B <a@x.test>", [("Ann B", "a@x.test")]),
        ('"B, Ann" <a@x.test>, c@y.test', [("B, Ann", "a@x.test"), (None, "c@y.test")]),
        ('"a \\"q\\" b" <a@x.test>', [('a "q" b', "a@x.test")]),
        ("a@x.test (Ann (B))", [("Ann (B)", "a@x.test")]),
        ("=?utf-8?Q?J=C3=A9?= <a@x.test>", [("Jé", "a@x.test")]),
        ('"=?utf-8?Q?J=C3=A9?=" <a@x.test>', [("Jé", "a@x.test")]),
        ("Ann\r\n\tB\r\n <a@x.test>", [("Ann B", "a@x.test")]),
        ('"a b"@x.test', [(None, "a b@x.test")]),
        ("a . b @ x . test", [(None, "a.b@x.test")]),
        ("<@r1,@r2:a@x.test>", [(None, "a@x.test")]),
        ("a@[192.0.2.1]", [(None, "a@[192.0.2.1]")]),
        ("Team: a@x.test, b@x.test;, c@x.test",
         [(None, "a@x.test"), (None, "b@x.test"), (None, "c@x.test")]),
        ("undisclosed-recipients:;", []),
        ("Nobody: (a comment) ;, (another), a@x.test", [(None, "a@x.test")]),
        ("a@x.test; b@x.test", [(None, "a@x.test"), (None, "b@x.test")]),
        ("", []),
        (",, ,", []),
        # RFC 7103 §7.1
        ("<<<a@x.test>>>", [(None, "a@x.test")]),
        ("<a@x.test", [(None, "a@x.test")]),
        ("a@x.test>", [(None, "a@x.test")]),
        ("(Testing <a@x.test>", [("Testing", "a@x.test")]),
        ("Testing) <a@x.test>", [("Testing)", "a@x.test")]),
        ("<a@x.test, b@x.test>", [(None, "a@x.test"), (None, "b@x.test")]),
        ('"Joe <a@x.test>', [("Joe", "a@x.test")]),
        ("Joe", [(None, "Joe")]),
    ],
)  # fmt: skip
def test_addresses(value: str, expected: list[tuple[str | None, str]]) -> None:
    assert [(a["name"], a["email"]) for a in as_addresses(value.encode())] == expected


def test_example_of_rfc_8621() -> None:
    """RFC 8621 §4.1.2.3 and §4.1.2.4."""
    value = (
        b'"  James Smythe" <james@example.com>, Friends:\r\n  jane@example.com, '
        b"=?UTF-8?Q?John_Sm=C3=AEth?=\r\n <john@example.com>;"
    )
    james = {"name": "James Smythe", "email": "james@example.com"}
    friends = [
        {"name": None, "email": "jane@example.com"},
        {"name": "John Smîth", "email": "john@example.com"},
    ]
    assert as_addresses(value) == [james, *friends]
    assert as_grouped_addresses(value) == [
        {"name": None, "addresses": [james]},
        {"name": "Friends", "addresses": friends},
    ]


def test_number_of_addresses_is_bounded() -> None:
    assert len(address_lists.parse(b"a@x.test," * 9000)) == address_lists.ADDRESS_LIMIT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" plain", "plain"),
        (b" a\r\n b", "a b"),
        (b" =?utf-8?q?caf=C3=A9?= x", "café x"),
        (b" =?utf-8?b?Y2Fmw6k=?=", "café"),
        (b" =?utf-8?b?Y2Fmw6k?=", "café"),  # without padding
        (b" =?iso-8859-1?q?a?= =?iso-8859-1?q?b?=", "ab"),
        (b" =?utf-8?q?=C3?=\r\n =?utf-8?q?=A9?=", "é"),  # cut in the middle of a character
        (b" =?utf-8?b?w6?= =?utf-8?b?qQ==?=", "é"),
        (b" =?utf-8*de?q?ja?=", "ja"),
        (b" =?utf-8?q?a?==?utf-8?q?b?=", "ab"),
        (b" =?x-unknown?q?a=41?=", "aA"),
        (b" a=?utf-8?q?b?=", "a=?utf-8?q?b?="),  # RFC 8621: wrong places are not decoded
        (b" =?utf-8?q?a b?=", "=?utf-8?q?a b?="),
        (b" =?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b" =?utf-8?q?a=00=0Ab?=", "ab"),
        (b" caf\xc3\xa9", "café"),
        (b" caf\xe9", "café"),
        (b" e\xcc\x81", "é"),  # NFC
        (b" =?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
        (b" =?rot_13?q?abc?=", "abc"),  # a codec of Python is no charset
    ],
)
def test_text(value: bytes, expected: str) -> None:
    assert as_text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Tue, 24 Nov 2026 11:05:12 +0100", "2026-11-24T11:05:12+01:00"),
        ("24 Nov 2026 11:05 GMT", "2026-11-24T11:05:00Z"),
        ("Tue, 24 Nov 2026 11:05:12 -0000 (comment)", "2026-11-24T11:05:12Z"),
        ("Tue, 24 Nov 26 11:05:12 EST", "2026-11-24T11:05:12-05:00"),
        ("Fri, 1 Jan 99 00:00:00 XYZ", "1999-01-01T00:00:00Z"),
        ("1 Jan 102 00:00:00 +0000", "2002-01-01T00:00:00Z"),
        ("Tue Nov 24 11:05:12 2026", "2026-11-24T11:05:12Z"),
        ("Tue Nov 24 11:05:12 PST 2026", "2026-11-24T11:05:12-08:00"),
        ("2026-11-24T11:05:12Z", "2026-11-24T11:05:12Z"),
        ("2026-11-24 11:05:12 +01:00", "2026-11-24T11:05:12+01:00"),
        ("24-Nov-2026 11:05:12 +9900", "2026-11-24T11:05:12Z"),
        ("Sat, 31 Dec 2016 23:59:60 +0000", "2016-12-31T23:59:59Z"),
        ("24 Nov 2026", "2026-11-24T00:00:00Z"),
        ("32 Nov 2026 11:05:12 +0000", None),
        ("24 Foo 2026 11:05:12 +0000", None),
        ("", None),
        ("yesterday", None),
    ],
)
def test_date(value: str, expected: str | None) -> None:
    assert as_date(value.encode()) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" <a@b>", ["a@b"]),
        (b" <a@b>\r\n\t<c@d><e@f>", ["a@b", "c@d", "e@f"]),
        (b" (x) <a@b> (y)", ["a@b"]),
        (b" <a\r\n @b>", ["a@b"]),
        (b" a@b", None),
        (b"", None),
    ],
)
def test_message_ids(value: bytes, expected: list[str] | None) -> None:
    assert as_message_ids(value) == expected


def test_urls() -> None:
    value = b" <https://x.test/u>, (by mail)\r\n <mailto:l@x.test?subject=u>"
    assert as_urls(value) == ["https://x.test/u", "mailto:l@x.test?subject=u"]
    assert as_urls(b" NO") is None


def test_raw() -> None:
    assert as_raw(b" a\xff\0b\r\n c") == " a\ufffdb\r\n c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('; charset=utf-8; format="flowed"', (("charset", "utf-8"), ("format", "flowed"))),
        ("; CHARSET = x", (("charset", "x"),)),
        ("; charset=us-ascii (Plain text)", (("charset", "us-ascii"),)),
        ("; (c) charset=x", (("charset", "x"),)),
        ('; name="a;b\\"c"', (("name", 'a;b"c'),)),
        ("; name=a b.txt; x=y", (("name", "a b.txt"), ("x", "y"))),
        ('; name="a', (("name", "a"),)),
        (" charset=x", (("charset", "x"),)),
        ("; a=1; a=2", (("a", "1"),)),
        ("; junk; a=1", (("a", "1"),)),
        ("; =x; a=1", (("a", "1"),)),
        ("; n*0=ab; n*1=cd", (("n", "abcd"),)),
        ("; n*1=cd; n*0=ab", (("n", "abcd"),)),
        ("; n*0=ab; n*2=cd", (("n", "ab"),)),
        ("; n*=utf-8'de'%E2%82%AC", (("n*", "€"),)),
        ("; n*0*=utf-8''%E2%82; n*1*=%AC; n*2=.pdf", (("n*", "€.pdf"),)),
        ("; n*=%41", (("n*", "A"),)),
        ("; n*=x-none''%E9", (("n*", "é"),)),
        ("; n=plain; n*=utf-8''%41", (("n*", "A"),)),
        ("; filename=\"C:\\\\a\"", (("filename", "C:\\a"),)),
        (";;; ;", ()),
        ("", ()),
    ],
)  # fmt: skip
def test_parameters(text: str, expected: tuple[tuple[str, str], ...]) -> None:
    assert parameter_lists.parse(text.encode()) == expected


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("hello", "hello"),
        ("Re: hello", "hello"),
        ("RE: Fwd: fw: [list] hello (fwd) ", "hello"),
        ("Re[2]: hello", "hello"),
        ("[a] [b] hello", "hello"),
        ("[only]", "[only]"),
        ("[fwd: Re: hello]", "hello"),
        ("[Fwd: [x] hello (fwd)] (fwd)", "hello"),
        ("Re: [x] Re: [y] hello [z]", "hello [z]"),
        ("re : hello", "hello"),
        ("two\t\r\n  spaces", "two spaces"),
        ("", ""),
        ("Re:", ""),
        ("(fwd)", ""),
    ],
)
def test_base_subject(subject: str, expected: str) -> None:
    """RFC 5256 §2.1."""
    assert base(subject) == expected


BLOCK = b"A: 1\r\nB:\r\n 2\r\nA : 3\r\nX-Long: y\r\n\r\n"


def test_header_block() -> None:
    block = HeaderBlock(BLOCK + b"body")
    assert (block.first("a"), block.last("A"), block.all("a")) == (b" 1", b" 3", (b" 1", b" 3"))
    assert block.first("missing") is None
    assert [BLOCK[f.start : f.end] for f in block] == [
        b"A: 1\r\n", b"B:\r\n 2\r\n", b"A : 3\r\n", b"X-Long: y\r\n",
    ]  # fmt: skip
    assert [(f.name, f.value) for f in block][1] == ("B", b"\r\n 2")
    assert BLOCK[block.end :] == b"\r\n"
    assert block.body_start == len(BLOCK)
    assert all_headers(block)[1] == {"name": "B", "value": "\r\n 2"}


def test_header_fields() -> None:
    """RFC 9051 §6.4.5.1: matching is exact but for case; the blank line is always there."""
    assert header_fields(BLOCK, ["a"]) == b"A: 1\r\nA : 3\r\n\r\n"
    assert header_fields(BLOCK, ["A", "b"], exclude=True) == b"X-Long: y\r\n\r\n"
    assert header_fields(BLOCK, ["x"]) == b"\r\n"
    assert header_fields(BLOCK, []) == b"\r\n"
    assert header_fields(BLOCK, [], exclude=True) == BLOCK
    assert header_fields(b"A: 1", ["a"]) == b"A: 1"
    assert header_fields(b"A: 1\nB: 2\n\n", ["b"]) == b"B: 2\n\n"
    assert header_fields(BLOCK, ["a.*", "["]) == b"\r\n"


def test_sent_at_is_utc() -> None:
    found = digest(b"Date: Tue, 24 Nov 2026 11:05:12 +0100\n\n").sent_at
    assert found == datetime(2026, 11, 24, 10, 5, 12, tzinfo=UTC)
    assert digest(b"Date: 1 Jan 0001 00:00:00 +1400\n\n").sent_at is None
    assert parse(b"Date: x\n\n").header.first("date") == b" x"
