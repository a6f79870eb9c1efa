"""What is shown of a message: ENVELOPE, BODYSTRUCTURE, sections, JMAP bodies, preview."""

import time

import orjson
import pytest

from mailserver.mime import (
    Env,
    HeaderBlock,
    bodystructure,
    decode_body,
    decode_text,
    digest,
    envelope,
    is_known,
    parse,
    part_headers,
    search_text,
    section,
)
from mailserver.mime.charsets import codec_of
from mailserver.mime.jmap import body_lists, body_structure_jmap
from mailserver.mime.text import html_text
from tests.unit.mime.imap_grammar import read


def test_envelope() -> None:
    raw = (
        b'Date: Tue, 24 Nov 2026 11:05:12 +0100\r\nSubject: a "b" \\\r\n c\r\n'
        b"From: =?utf-8?q?J=C3=A9?= <j@example.test>\r\nReply-To:\r\n"
        b"To: Team: a@example.test;, J\xe9 <b@example.test>, Joe\r\n"
        b"In-Reply-To: \r\nMessage-ID: <1@example.test>\r\n\r\n"
    )
    sender = b'(("=?utf-8?q?J=C3=A9?=" NIL "j" "example.test"))'
    assert envelope(parse(raw)) == (
        b'("Tue, 24 Nov 2026 11:05:12 +0100" "a \\"b\\" \\\\ c" '
        + b" ".join([sender] * 3)
        + b' ((NIL NIL "Team" NIL)(NIL NIL "a" "example.test")(NIL NIL NIL NIL)'
        b'({2}\r\nJ\xe9 NIL "b" "example.test")(NIL NIL "Joe" ""))'
        b' NIL NIL "" "<1@example.test>")'
    )


def test_envelope_of_nothing() -> None:
    assert envelope(parse(b"")) == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"


def test_nul_is_never_written() -> None:
    raw = b'Subject: a\0b\nFrom: \0 <a\0@b>\nContent-Type: text/plain; name="a\0b"\n\nx\0'
    found = digest(raw)
    env = Env.unpack(found.env)
    assert b"\0" not in env.envelope + env.bodystructure + env.body + env.jmap
    assert b'"ab"' in env.envelope


def test_bodystructure() -> None:
    raw = (
        b"Content-Type: multipart/mixed; boundary=b\r\nContent-Language: de, en\r\n\r\n--b\r\n\r\n"
        b'one\r\ntwo\r\n--b\r\nContent-Type: application/pdf; name="a b.pdf"\r\n'
        b"Content-Disposition: attachment; filename*=utf-8''%E2%82%AC.pdf\r\n"
        b"Content-ID: <c@example.test>\r\nContent-Description: d\r\nContent-MD5: Q2hlY2s=\r\n"
        b"Content-Location: a\r\n b\r\nContent-Transfer-Encoding: BASE64\r\n\r\nYQ==\r\n--b--\r\n"
    )
    assert bodystructure(parse(raw)) == (
        b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 8 1 NIL NIL NIL NIL)'
        b'("application" "pdf" ("name" "a b.pdf") "<c@example.test>" "d" "base64" 4 "Q2hlY2s=" '
        b'("attachment" ("filename*" "utf-8\'\'%E2%82%AC.pdf")) NIL "ab")'
        b' "mixed" ("boundary" "b") NIL ("de" "en") NIL)'
    )


def test_bodystructure_of_the_rfc() -> None:
    """RFC 9051 §7.5.2: 48 lines and 2279 octets of simple text."""
    raw = b"Subject: x\r\n\r\n" + b"x" * 44 + b"\r\n" + (b"y" * 45 + b"\r\n") * 47 + b""
    root = parse(raw).root
    assert root.lines == 48
    assert bodystructure(parse(raw)) == (
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" %d 48 NIL NIL NIL NIL)'
        % (len(raw) - 14)
    )


NESTED = (
    b"Subject: out\n"
    b"Content-Type: multipart/mixed; boundary=b\n\n"
    b"--b\nX: 1\n\none\n"
    b"--b\nContent-Type: message/rfc822\n\nSubject: in\n\ninner text\n"
    b"--b\nContent-Type: message/rfc822\n\n"
    b"Content-Type: multipart/mixed; boundary=c\n\n--c\n\ndeep\n--c--\n"
    b"--b--\n"
)


@pytest.mark.parametrize(
    ("specifier", "expected"),
    [
        ("", NESTED),
        ("HEADER", NESTED[: NESTED.index(b"--b\n")]),
        ("TEXT", NESTED[NESTED.index(b"--b\n") :]),
        ("1", b"one"),
        ("1.MIME", b"X: 1\n\n"),
        ("2", b"Subject: in\n\ninner text"),
        ("2.header", b"Subject: in\n\n"),
        ("2.TEXT", b"inner text"),
        ("2.1", b"inner text"),
        ("2.1.MIME", b"Subject: in\n\n"),
        ("2.MIME", b"Content-Type: message/rfc822\n\n"),
        ("3.TEXT", b"--c\n\ndeep\n--c--"),
        ("3.1", b"deep"),
        ("4", None),
        ("1.1", None),
        ("1.HEADER", None),
        ("1.TEXT", None),
        ("0", None),
        ("MIME", None),
        ("NONSENSE", None),
    ],
)
def test_sections(specifier: str, expected: bytes | None) -> None:
    for parts in (parse(NESTED).parts, Env.unpack(digest(NESTED).env).parts):
        place = section(NESTED, parts, specifier)
        assert (NESTED[slice(*place)] if place else None) == expected


def test_section_of_a_message_of_one_part() -> None:
    raw = b"Subject: x\r\n\r\nbody"
    parts = parse(raw).parts
    assert section(raw, parts, "1") == section(raw, parts, "TEXT") == (14, 18)
    assert section(raw, parts, "1.MIME") == (0, 14)


def rfc_8621_example() -> bytes:
    """RFC 8621 §4.1.4, letters as bodies."""

    def leaf(media: str, letter: str, disposition: str = "") -> str:
        shown = f"Content-Disposition: {disposition}\n" if disposition else ""
        return f"Content-Type: {media}\n{shown}\n{letter}\n"

    def multi(subtype: str, *parts: str) -> str:
        boundary = f"b{abs(hash((subtype, parts)))}"
        inside = "".join(f"--{boundary}\n{part}" for part in parts)
        return (
            f'Content-Type: multipart/{subtype}; boundary="{boundary}"\n\n{inside}--{boundary}--\n'
        )

    inner = multi(
        "mixed", leaf("text/plain", "B", "inline"), leaf("image/jpeg", "C", "inline"),
        leaf("text/plain", "D", "inline"),
    )  # fmt: skip
    related = multi("related", leaf("text/html", "E"), leaf("image/jpeg", "F"))
    middle = multi(
        "mixed", multi("alternative", inner, related), leaf("image/jpeg", "G", "attachment"),
        leaf("application/x-excel", "H"), leaf("message/rfc822", "J"),
    )  # fmt: skip
    top = leaf("text/plain", "A", "inline")
    return multi("mixed", top, middle, leaf("text/plain", "K", "inline")).encode()


def test_body_lists_of_rfc_8621() -> None:
    raw = rfc_8621_example()
    parts = Env.unpack(digest(raw).env).parts
    shown = body_structure_jmap(
        parts, lambda part: raw[part.body_start : part.body_end].decode().strip()
    )
    assert [part["blobId"] for part in shown["textBody"]] == list("ABCDK")
    assert [part["blobId"] for part in shown["htmlBody"]] == list("AEK")
    assert [part["blobId"] for part in shown["attachments"]] == list("CFGHJ")
    structure = shown["bodyStructure"]
    assert (structure["partId"], structure["blobId"]) == (None, None)
    assert structure["subParts"] is not None
    assert [part["type"] for part in structure["subParts"]] == [
        "text/plain", "multipart/mixed", "text/plain",
    ]  # fmt: skip


def test_body_part() -> None:
    raw = (
        b"Content-Type: image/png; name==?utf-8?q?=E2=82=AC?=.png\nContent-Language: de\n"
        b"Content-ID: <c@example.test>\nContent-Transfer-Encoding: base64\n"
        b"Content-Location: x\nContent-Disposition: INLINE\n\nYWJj\n"
    )
    (row,) = Env.unpack(digest(raw).env).parts
    assert body_structure_jmap([row], lambda part: "blob")["bodyStructure"] == {
        "partId": "1", "blobId": "blob", "size": 3, "name": "=?utf-8?q?=E2=82=AC?=.png",
        "type": "image/png", "charset": None, "disposition": "inline", "cid": "c@example.test",
        "language": ["de"], "location": "x", "subParts": None,
    }  # fmt: skip


def test_alternative_with_html_only_is_shown_as_both() -> None:
    raw = (
        b"Content-Type: multipart/alternative; boundary=b\n\n"
        b"--b\nContent-Type: text/html\n\nx\n--b--"
    )
    lists = body_lists(Env.unpack(digest(raw).env).parts)
    assert [part.section for part in lists.text] == [part.section for part in lists.html] == ["1"]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (b"Content-Type: application/pdf", True),
        (b"Content-Type: application/pdf\nContent-Disposition: inline", False),
        (b"Content-Type: text/plain\nContent-Disposition: attachment", True),
        (b"Content-Type: text/plain", False),
        (b"Content-Type: application/pgp-signature", False),
        (b"Content-Type: message/rfc822", True),
    ],
)
def test_has_attachment(part: bytes, expected: bool) -> None:
    raw = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\n" + part + b"\n\ny\n--b--"
    assert digest(raw).has_attachment is expected


def test_embedded_image_is_no_attachment() -> None:
    raw = (
        b"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\nx\n"
        b"--b\nContent-Type: image/png\nContent-ID: <i@example.test>\n\ny\n--b--"
    )
    assert digest(raw).has_attachment is False


def test_digest() -> None:
    raw = (
        b"Message-ID: <m@example.test>\nReferences: <a@x> <b@x> <a@x>\nIn-Reply-To: <c@x>\n"
        b"Subject: Re: =?utf-8?q?caf=C3=A9?=\n\nHello\n"
    )
    found = digest(raw)
    assert (found.message_id, found.references) == ("m@example.test", ("a@x", "b@x", "c@x"))
    assert (found.subject_base, found.size, found.preview) == ("café", len(raw), "Hello")
    assert found.header == raw[: raw.index(b"Hello")]
    properties = Env.unpack(found.env).properties
    assert orjson.loads(properties["references"]) == ["a@x", "b@x", "a@x"]
    assert orjson.loads(properties["subject"]) == "Re: café"
    assert properties["from"] == b"null"


def test_many_references_keep_the_first_and_the_nearest() -> None:
    raw = b"References: " + b" ".join(b"<%d@x>" % n for n in range(500)) + b"\n\n"
    found = digest(raw).references
    assert len(found) == 100
    assert (found[0], found[1], found[-1]) == ("0@x", "401@x", "499@x")


def test_large_header_is_kept_in_part() -> None:
    raw = b"X: " + b"y" * 1_000_000 + b"\n\nbody"
    found = digest(raw)
    assert len(found.header) == 256 * 1024
    assert Env.unpack(found.env).parts[0].body_start == 1_000_005
    assert found.preview == "body"


def test_unknown_version_of_env() -> None:
    with pytest.raises(ValueError, match="version"):
        Env.unpack(b"\xff\x90")
    with pytest.raises(ValueError, match="version"):
        Env.unpack(b"")


@pytest.mark.parametrize(
    ("media", "text", "expected"),
    [
        ("plain", "Hello\n\n  world", "Hello world"),
        ("plain", "On Monday Ann wrote:\n> old\n> older\nNew text", "New text"),
        ("plain", "> only quotes", "> only quotes"),
        ("plain", "Hello\n-- \nAnn, Example Ltd", "Hello"),
        ("plain", "x" * 300, "x" * 256),
        ("html", "<style>p{}</style><p>Hello</p><p>w&eacute;lt</p>", "Hello wélt"),
        ("html", "<head><title>T</title></head><body>B<script>s()</script></body>", "B"),
        ("html", "<!-- c -->new<blockquote>old<blockquote>older</blockquote></blockquote>", "new"),
        ("html", "<blockquote>all quoted</blockquote>", "all quoted"),
        ("html", "a<script>never closed", "a"),
        ("html", "&#847;&zwnj;&nbsp;x", "x"),
        ("html", "", ""),
    ],
)
def test_preview(media: str, text: str, expected: str) -> None:
    raw = f"Content-Type: text/{media}; charset=utf-8\n\n{text}".encode()
    assert digest(raw).preview == expected


def test_preview_behind_a_long_head() -> None:
    text = "<style>" + "p { color: red }\n" * 3000 + "</style><p>At last</p>"
    assert digest(b"Content-Type: text/html\n\n" + text.encode()).preview == "At last"


def test_words_may_be_formatted_in_part() -> None:
    markup = "<b>foo</b>sball <I class=\"x>y\">in</I>side<wbr>out <u title='<'>not</u> <br>end"
    assert html_text(markup).split() == ["foosball", "insideout", "not", "end"]
    assert html_text("<p>one</p><p>two</p><a>three</a><a>four</a>").split() == [
        "one", "two", "three", "four",
    ]  # fmt: skip


def test_html_text_of_many_slices() -> None:
    assert html_text("<p>word</p>" * 5000).split() == ["word"] * 5000


@pytest.mark.parametrize(
    ("octets", "encoding", "expected"),
    [
        (b"YWJj", "base64", b"abc"),
        (b"YW Jj\r\n!ZGVm", "base64", b"abcdef"),
        (b"YWI", "base64", b"ab"),
        (b"YWJjZ", "base64", b"abc"),
        (b"YQ==YWJj", "base64", b"a"),
        (b"=", "base64", b""),
        (b"a=E9=\r\nb=zz", "quoted-printable", b"a\xe9b=zz"),
        # white space before a line end was added on the way, also after the "=" (RFC 2045 §6.7)
        (b"a \t\r\nb = \t\r\nc=20 \nd\t", "quoted-printable", b"a\r\nb c \nd"),
        (b"x", "8bit", b"x"),
        (b"x=41", "unheard-of", b"x=41"),
        (b"begin 644 f\r\n#86)C\r\n`\r\nend\r\n", "x-uuencode", b"abc"),
        (b"begin 644 f\n#86)C trailing junk\n`\nend\n", "uuencode", b"abc"),
        (b"no begin", "uue", b""),
    ],
)
def test_decode_body(octets: bytes, encoding: str, expected: bytes) -> None:
    assert decode_body(octets, encoding) == expected


def test_a_long_run_of_white_space_is_looked_through_once() -> None:
    run = b" " * 4_000_000
    assert decode_body(run + b"x", "quoted-printable") == run + b"x"


@pytest.mark.parametrize(
    ("octets", "charset", "expected", "problem"),
    [
        (b"a\r\nb", "us-ascii", "a\nb", False),
        ("é".encode(), "UTF-8", "é", False),
        (b"\xe9", "utf-8", "\ufffd", True),
        (b"\xe9", "us-ascii", "é", True),
        (b"\x93x\x94", "iso-8859-1", "\u201cx\u201d", False),  # windows-1252 in disguise
        (b"\xc4\xe3", "GB2312", "你", False),
        (b"\xb0\xa1", "ks_c_5601-1987", "가", False),
        (b"x", "x-unknown", "x", True),
        (b"x", None, "x", False),
        (b"+2AA-", "utf-7", "\ufffd", False),
        (b"\xff\xfea\x00", "utf-16", "a", False),
        (b"a\x00b", "us-ascii", "ab", False),
    ],
)
def test_decode_text(octets: bytes, charset: str | None, expected: str, problem: bool) -> None:
    assert decode_text(octets, charset, "8bit") == (expected, problem)


def test_unknown_encoding_is_a_problem() -> None:
    assert decode_text(b"x", "utf-8", "x-new") == ("x", True)
    assert not is_known("x-new")
    assert is_known("base64")


@pytest.mark.parametrize("name", ["zlib", "base64", "rot13", "idna", "punycode", "unicode_escape"])
def test_codecs_that_are_no_charsets(name: str) -> None:
    assert codec_of(name) is None


def test_search_text() -> None:
    raw = (
        b"Subject: =?utf-8?q?caf=C3=A9?=\nFrom: Ann <a@example.test>\nTo: T: b@example.test;\n"
        b"X-Tag: needle\nContent-Type: multipart/mixed; boundary=b\n\n"
        b"--b\nContent-Type: text/html; charset=utf-8\n\n<p>one</p><p>tw&ouml;</p>\n"
        b"--b\nContent-Type: message/rfc822\n\nSubject: inside\n\ninner\n"
        b"--b\nContent-Type: application/pdf; name=f.pdf\n\nbinary\n--b--"
    )
    found = search_text(raw, parse(raw))
    assert (found.subject, found.addresses("from")) == ("café", "Ann a@example.test")
    assert found.addresses("to").split() == ["T", "b@example.test"]
    assert found.headers.startswith("Subject: café\nFrom: Ann <a@example.test>\nTo: T: b@example")
    assert found.body.split() == ["one", "twö", "Subject:", "inside", "inner"]
    assert found.attachments == "f.pdf"
    assert "X-Tag: needle" in found.headers
    assert len(search_text(b"\n" + b"x" * 9000, parse(b"\n" + b"x" * 9000), 100).body) == 100


def test_search_text_of_hostile_html_is_bounded() -> None:
    raw = b"Content-Type: text/html\n\n" + b"<div>" * 1_000_000
    start = time.process_time()
    search_text(raw, parse(raw))
    assert time.process_time() - start < 5


def test_headers_of_a_part() -> None:
    part = parse(NESTED).parts[1]
    assert part_headers(NESTED, part.header_start, part.body_start) == [
        {"name": "X", "value": " 1"}
    ]
    assert len(HeaderBlock(NESTED)) == 2
    assert read(b'("a" NIL {1}\r\nb 3)') == [b"a", None, b"b", 3]
