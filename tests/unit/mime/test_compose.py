"""Header fields and messages that are written, and read back."""

import email
import email.policy
import unicodedata
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver import mime
from mailserver.mime import compose, fields
from mailserver.mime.compose import HeaderField, Leaf, Multipart
from mailserver.mime.fields import Address, Group

TEXT = st.text(st.characters(codec="utf-8"), max_size=200)
NAMES = st.one_of(
    TEXT, st.sampled_from(["Joe", "Joe Q. Public", 'The "Big" Box', "Jörg Müller", "=?utf-8?q?x?="])
)
LOCAL = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=70)


def lines_are_short(value: bytes, most: int = 78) -> bool:
    lines = value.split(b"\r\n")
    folded = all(line[:1] in b" \t" and line.strip(b" \t") for line in lines[1:])
    return folded and all(len(line) <= most for line in lines)


def seen(text: str) -> str:
    """Return text as it reads after the line ends and control characters have gone."""
    return unicodedata.normalize("NFC", fields.clean(text).strip(" "))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", b""),
        ("Hello", b" Hello"),
        ("Re: caf\u00e9", b" Re: =?utf-8?q?caf=C3=A9?="),
        ("\u65e5\u672c\u8a9e", b" =?utf-8?b?5pel5pys6Kqe?="),
        ("a\r\nBcc: x@example.org", b" a  Bcc: x@example.org"),
        ("=?utf-8?q?x?=", b" =?utf-8?q?=3D=3Futf-8=3Fq=3Fx=3F=3D?="),
    ],
)
def test_text(text: str, written: bytes) -> None:
    assert fields.text("Subject", text) == written


@settings(max_examples=300)
@given(TEXT)
def test_text_reads_as_it_was_written(text: str) -> None:
    written = fields.text("Subject", text)
    assert mime.as_text(written) == seen(text)
    assert lines_are_short(b"Subject:" + written, 998)
    assert written.isascii()


def test_long_text_is_folded_where_it_has_blanks() -> None:
    written = fields.text("Subject", "word  " * 100)
    assert lines_are_short(b"Subject:" + written)
    assert mime.as_text(written) == ("word  " * 100).strip()
    assert lines_are_short(b"Subject:" + fields.text("Subject", "\u00e9 " * 300))


@pytest.mark.parametrize(
    ("address", "written"),
    [
        (Address(None, "joe@example.org"), b" joe@example.org"),
        (Address("Joe", "joe@example.org"), b" Joe <joe@example.org>"),
        (Address("Joe Q. Public", "joe@example.org"), b' "Joe Q. Public" <joe@example.org>'),
        (Address('a"b', "joe@example.org"), b' "a\\"b" <joe@example.org>'),
        (Address("J\u00f6rg", "joe@example.org"), b" =?utf-8?q?J=C3=B6rg?= <joe@example.org>"),
        (Address(None, "jo e@example.org"), b' "jo e"@example.org'),
        (Address(None, "j\u00f6@ex\u00e4mple.org"), " j\u00f6@ex\u00e4mple.org".encode()),
        (Address(None, "joe"), b" joe"),
        (Address(None, "a@b>, <c@d"), b' "a@b>, <c"@d'),
        (Address("x\r\nBcc: y", "a@b"), b' "x  Bcc: y" <a@b>'),
    ],
)
def test_addresses(address: Address, written: bytes) -> None:
    assert fields.addresses("To", [address]) == written


@settings(max_examples=300)
@given(st.lists(st.tuples(st.none() | NAMES, LOCAL), max_size=8))
def test_addresses_read_as_they_were_written(given: list[tuple[str | None, str]]) -> None:
    found = [Address(name, f"{local.replace('@', '')}x@example.org") for name, local in given]
    written = fields.addresses("To", found)
    read = mime.as_addresses(written)
    assert len(read) == len(found)
    assert lines_are_short(b"To:" + written, 998)
    for address, shown in zip(found, read, strict=True):
        local = fields.clean(address.email)
        assert shown["email"].replace(" ", "") == seen(local).replace(" ", "")
        assert "".join((shown["name"] or "").split()) == "".join(seen(address.name or "").split())


def test_groups() -> None:
    joe, ann = Address("Joe", "joe@example.org"), Address(None, "ann@example.org")
    written = fields.groups(
        "To", [Group("Team", (joe, ann)), Group("None", ()), Group(None, (ann,))]
    )
    assert written == b" Team: Joe <joe@example.org>, ann@example.org;, None:;, ann@example.org"
    assert [group["name"] for group in mime.as_grouped_addresses(written)] == ["Team", "None", None]


def test_ids_urls_and_dates() -> None:
    assert fields.message_ids("References", ["a@b", "c@d"]) == b" <a@b> <c@d>"
    assert fields.urls("List-Post", ["mailto:x@y", "https://z/"]) == b" <mailto:x@y>, <https://z/>"
    for bad in ("", "a b", "<a@b>", "a\r\nb", "x" * 1000, "a\0b"):
        assert fields.message_ids("Message-ID", [bad]) is None
        assert fields.urls("List-Post", [bad]) is None
    zone = timezone(-timedelta(hours=3, minutes=30))
    moment = datetime(2026, 2, 3, 4, 5, 6, tzinfo=zone)
    assert fields.date(moment) == b" Tue, 3 Feb 2026 04:05:06 -0330"
    assert mime.as_date(fields.date(moment)) == "2026-02-03T04:05:06-03:30"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", b" plain"),
        (" a\r\n b", b" a\r\n b"),
        ("a\r\nBcc: x", None), ("a\nb", None), ("a\rb", None), ("a\r\n", None), ("a\0", None),
        ("a\r\n \r\n b", None), (" a\r\n \t", None), ("a\x07", None),
        ("\u00e9", b" =?utf-8?b?w6k=?="),
    ],
)  # fmt: skip
def test_raw_values_cannot_leave_their_field(value: str, written: bytes | None) -> None:
    assert fields.raw("X-Test", value) == written


@settings(max_examples=200)
@given(TEXT)
def test_parameters_read_as_they_were_written(name: str) -> None:
    head = fields.parameterized("Content-Disposition", "attachment", [("filename", name)])
    assert lines_are_short(b"Content-Disposition:" + head)
    raw = b"Content-Type: a/b\r\nContent-Disposition:" + head + b"\r\n\r\nx"
    shown = mime.part_rows(raw, mime.parse(raw))[0].name
    # names of parts are shown in one normal form
    assert (shown or "").strip() == unicodedata.normalize("NFC", fields.clean(name)).strip()


# Messages ----------------------------------------------------------------------------------------


def one(leaf: Leaf, content: bytes) -> bytes:
    return compose.message([HeaderField("Subject", b" x")], leaf, {leaf.source: content}, "token")


def body_of(raw: bytes) -> bytes:
    (row,) = mime.part_rows(raw, mime.parse(raw))
    return mime.decode_body(raw[row.body_start : row.body_end], row.encoding)


@settings(max_examples=300)
@given(st.text(st.sampled_from("ab \t\r\n.=F\u00e9\0\u65e5") | st.characters(codec="utf-8")))
def test_any_text_comes_out_as_it_went_in(text: str) -> None:
    leaf = Leaf("text/plain", "t", is_text=True, parameters=(("charset", "utf-8"),))
    raw = one(leaf, text.encode())
    lines = raw.split(b"\r\n")
    assert all(len(line) <= 998 and b"\r" not in line and b"\n" not in line for line in lines)
    assert raw.isascii()
    wanted = text.replace("\r\n", "\n").replace("\r", "\n")
    assert body_of(raw).decode().replace("\r\n", "\n") == wanted


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from(["application/pdf", "text/csv", "text/plain"]))
def test_files_come_out_octet_by_octet(content: bytes, media_type: str) -> None:
    assert body_of(one(Leaf(media_type, "b", is_text=False), content)) == content


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"short\r\n", None), (b"From here\r\n", "quoted-printable"),
        (b"x" * 2000, "quoted-printable"), ("\u00e9t\u00e9 au lait".encode(), "quoted-printable"),
        ("\u65e5\u672c\u8a9e".encode() * 30, "base64"),
    ],
)  # fmt: skip
def test_text_is_encoded_only_where_that_is_needed(content: bytes, encoding: str | None) -> None:
    raw = one(Leaf("text/plain", "t", is_text=True), content)
    parsed = email.message_from_bytes(raw, policy=email.policy.default)
    assert parsed["Content-Transfer-Encoding"] == encoding


def test_attached_messages_are_not_encoded() -> None:
    inner = "Subject: \u00e9\n\nbody\n".encode()
    leaf = Leaf("message/rfc822", "m", is_text=False)
    raw = compose.message([], Multipart("mixed", (leaf,)), {"m": inner}, "token")
    assert raw.count(b"Content-Transfer-Encoding: 8bit\r\n") == 2  # the multipart says so, too
    assert inner.replace(b"\n", b"\r\n") in raw
    assert [row.type for row in mime.part_rows(raw, mime.parse(raw))] == [
        "multipart", "message", "text",
    ]  # fmt: skip


def test_a_tree_is_what_the_standard_library_reads() -> None:
    tree = Multipart(
        "mixed",
        (
            Multipart(
                "alternative",
                (
                    Leaf("text/plain", "t", is_text=True),
                    Multipart(
                        "related",
                        (Leaf("text/html", "h", is_text=True), Leaf("image/png", "p", False)),
                        (("type", "text/html"),),
                    ),
                ),
            ),
            Leaf("application/pdf", "f", is_text=False),
        ),
    )
    contents = {"t": b"text", "h": b"<p>html", "p": b"\x89PNG", "f": b"%PDF\0"}
    raw = compose.message([HeaderField("From", b" a@b")], tree, contents, "token")
    parsed = email.message_from_bytes(raw, policy=email.policy.default)
    assert not any(part.defects for part in parsed.walk())
    assert [part.get_content_type() for part in parsed.walk()] == [
        "multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html",
        "image/png", "application/pdf",
    ]  # fmt: skip
    leaves = [part for part in parsed.walk() if not part.is_multipart()]
    assert [part.get_payload(decode=True) for part in leaves] == list(contents.values())
    rows = mime.part_rows(raw, mime.parse(raw))
    assert [row.section for row in rows if row.type != "multipart"] == [
        "1.1",
        "1.2.1",
        "1.2.2",
        "2",
    ]
