import time

import pytest

from mailserver.mime import bodystructure, digest, envelope, parse
from mailserver.mime.scan import DEPTH_LIMIT, PART_LIMIT
from tests.cost import least
from tests.unit.mime.imap_grammar import check_body, check_envelope, read


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def tree(raw: bytes) -> list[tuple[str, str, bytes]]:
    """Section, type and body of every part."""
    return [
        (p.section, f"{p.type}/{p.subtype}", raw[p.body_start : p.body_end])
        for p in parse(raw).parts
    ]


RFC_EXAMPLE = crlf("""From: a@example.test
Content-Type: multipart/mixed; boundary=A

preamble
--A

one
--A
Content-Type: application/octet-stream

two
--A
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/mixed; boundary="B"

--B

i1
--B
Content-Type: application/octet-stream

i2
--B--
--A
Content-Type: multipart/mixed; boundary=C

--C
Content-Type: image/gif

gif
--C
Content-Type: message/rfc822

Content-Type: multipart/mixed; boundary=D

--D

d1
--D
Content-Type: multipart/alternative; boundary=E

--E

e1
--E
Content-Type: text/richtext

e2
--E--
--D--
--C--
--A--
epilogue
""")


def test_numbers_of_the_example_of_rfc_9051() -> None:
    """RFC 9051 §6.4.5.1."""
    assert [(section, media) for section, media, _ in tree(RFC_EXAMPLE)] == [
        ("", "multipart/mixed"),
        ("1", "text/plain"),
        ("2", "application/octet-stream"),
        ("3", "message/rfc822"),
        ("3.TEXT", "multipart/mixed"),
        ("3.1", "text/plain"),
        ("3.2", "application/octet-stream"),
        ("4", "multipart/mixed"),
        ("4.1", "image/gif"),
        ("4.2", "message/rfc822"),
        ("4.2.TEXT", "multipart/mixed"),
        ("4.2.1", "text/plain"),
        ("4.2.2", "multipart/alternative"),
        ("4.2.2.1", "text/plain"),
        ("4.2.2.2", "text/richtext"),
    ]
    bodies = {section: body for section, _, body in tree(RFC_EXAMPLE)}
    assert bodies["1"] == b"one"
    assert bodies["3.2"] == b"i2"
    assert bodies["4.2.2.2"] == b"e2"


def test_encapsulated_message_is_described() -> None:
    part = parse(RFC_EXAMPLE).parts[3]
    assert part.message is not None
    assert part.message.header.first("subject") == b" inner"
    assert [p.section for p in part.message.parts] == ["3.TEXT", "3.1", "3.2"]


@pytest.mark.parametrize("raw", [b"", b"\n", b"\r\n", b"\0", b":", b"From x\n", b"a", b"\r"])
def test_almost_nothing_is_a_message_of_text(raw: bytes) -> None:
    message = parse(raw)
    assert (message.root.type, message.root.subtype, message.root.section) == ("text", "plain", "1")
    assert message.root.body_end == len(raw)


def test_without_a_header_all_is_body() -> None:
    assert tree(b"just some text\nin two lines\n") == [
        ("1", "text/plain", b"just some text\nin two lines\n")
    ]


def test_only_a_header() -> None:
    message = parse(b"Subject: x")
    assert message.header.first("Subject") == b" x"
    assert message.root.body_start == message.root.body_end == 10


def test_stray_line_in_the_header_belongs_to_the_field_before() -> None:
    """RFC 7103 §7.2."""
    raw = b"Subject: your reminder\nabout the game\nDate: x\n\nbody"
    message = parse(raw)
    assert message.header.first("subject") == b" your reminder\nabout the game"
    assert message.header.first("date") == b" x"
    assert raw[message.root.body_start :] == b"body"


def test_missing_empty_line_starts_the_body_where_no_empty_line_follows() -> None:
    raw = b"Subject: x\nthis is the body already\n"
    assert tree(raw) == [("1", "text/plain", b"this is the body already\n")]


def test_mbox_line_is_no_field() -> None:
    message = parse(b"From a@b Mon Jul  1 12:00:00 2002\nSubject: x\n>From c\nTo: y\n\nz")
    assert [name for name, _ in message.header.pairs()] == [b"Subject", b"To"]


MULTIPART = "Content-Type: multipart/mixed; boundary=b\n\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("--b\n\none\n--b\n\ntwo\n--b--\n", [b"one", b"two"]),
        ("--b\n\none\n--b\n\ntwo", [b"one", b"two"]),  # not closed
        ("--b\n\none\n--bb\n--b\n\ntwo\n--b--", [b"one\n--bb", b"two"]),  # prefix of another
        ("--b  \n\none\n--b-- \n", [b"one"]),  # padding
        ("--b\n\none\n--b--\n--b\n\nthree\n", [b"one"]),  # after the end
        ("--b\n--b\n--b--", [b"", b""]),
        ("x\n--b\n\n\n\n--b--", [b"\n"]),
        (" --b\n\n--b\nA: b\n\nonly\n--b--", [b"only"]),
    ],
)
def test_delimiters(body: str, expected: list[bytes]) -> None:
    raw = (MULTIPART + body).encode()
    assert [part for _, _, part in tree(raw)[1:]] == expected
    with_crlf = (MULTIPART + body).replace("\n", "\r\n").encode()
    assert [part.replace(b"\r\n", b"\n") for _, _, part in tree(with_crlf)[1:]] == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: multipart/mixed\n\n--x\n\nhidden\n--x--\n",
        b'Content-Type: multipart/mixed; boundary=""\n\n--\n\nhidden\n',
        b"Content-Type: multipart/mixed; boundary=b\n\nhidden, no delimiter",
        b"Content-Type: multipart/mixed; boundary=b\n\n--b--\nhidden",
        b"Content-Type: multipart/mixed; boundary=b\n\n",
    ],
)
def test_multipart_without_parts_is_text(raw: bytes) -> None:
    message = parse(raw)
    assert (message.root.type, message.root.subtype, message.root.children) == ("text", "plain", ())
    check_body(read(bodystructure(message)), extended=True)


def test_boundary_of_the_outer_multipart_ends_the_inner() -> None:
    raw = (
        MULTIPART
        + "--b\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\none\n--b\n\ntwo\n--b--"
    ).encode()
    assert [(s, b) for s, _, b in tree(raw) if s in ("1.1", "2")] == [
        ("1.1", b"one"),
        ("2", b"two"),
    ]


def test_repeated_boundary_goes_to_the_outer_multipart() -> None:
    raw = (
        MULTIPART + "--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--"
    ).encode()
    assert [(s, m) for s, m, _ in tree(raw)] == [
        ("", "multipart/mixed"),
        ("1", "text/plain"),
        ("2", "text/plain"),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text/html", "text/html"),
        ("TEXT/HTML;charset=x", "text/html"),
        (" text / html ", "text/html"),
        ("text", "text/plain"),
        ("", "text/plain"),
        ("/", "text/plain"),
        ("text/", "text/plain"),
        ("((((", "text/plain"),
        ("image/png\n garbage", "image/png"),
        ("application/octet-stream name=x", "application/octet-stream"),
    ],
)
def test_content_type(value: str, expected: str) -> None:
    root = parse(f"Content-Type: {value}\n\nx".encode()).root
    assert f"{root.type}/{root.subtype}" == expected


def test_first_of_two_content_types_counts() -> None:
    assert parse(b"Content-Type: text/html\nContent-Type: image/png\n\n").root.subtype == "html"


def test_parts_of_a_digest_are_messages() -> None:
    raw = b"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: in\n\nx\n--b--"
    assert [(s, m) for s, m, _ in tree(raw)] == [
        ("", "multipart/digest"),
        ("1", "message/rfc822"),
        ("1.1", "text/plain"),
    ]


def test_encoded_message_stays_closed() -> None:
    """RFC 2046 §5.2.1 forbids it; the structure keeps its grammar."""
    raw = (
        b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeAoKeQo=\n"
    )
    message = parse(raw)
    assert message.root.message is None
    check_body(read(bodystructure(message)), extended=True)
    assert digest(raw).env


def nested(depth: int) -> bytes:
    lines = []
    for level in range(depth):
        lines.append(f"Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n")
    return "".join(lines).encode() + b"Content-Type: text/html\n\ndeep\n"


def test_nesting_is_read_down_to_the_limit() -> None:
    message = parse(nested(DEPTH_LIMIT))
    assert len(message.parts) == DEPTH_LIMIT + 1
    assert message.parts[-1].subtype == "html"
    check_body(read(bodystructure(message)), extended=True)


def test_deeper_nesting_is_one_opaque_leaf() -> None:
    raw = nested(5000)
    message = parse(raw)
    assert len(message.parts) == DEPTH_LIMIT + 1
    assert message.parts[-1].body_end == len(raw)
    check_body(read(bodystructure(message)), extended=True)
    digest(raw)


def test_nested_messages_stop_at_the_limit() -> None:
    raw = b"Content-Type: message/rfc822\n\n" * 1000 + b"x"
    message = parse(raw)
    assert len(message.parts) == DEPTH_LIMIT + 1
    check_body(read(bodystructure(message)), extended=True)


def test_number_of_parts_is_bounded() -> None:
    raw = MULTIPART.encode() + b"--b\n\nx\n" * 10_000
    parts = parse(raw).parts
    assert len(parts) == PART_LIMIT
    assert parts[-1].body_end == len(raw)


def test_number_of_parts_is_bounded_at_every_depth_together() -> None:
    layer = b"".join(
        b"Content-Type: multipart/mixed; boundary=c%d\n\n" % n + b"--c%d\n\n" % n * 3000
        for n in range(20)
    )
    raw = MULTIPART.encode() + b"--b\n" + layer + b"--b\n\n" * 3000
    assert len(parse(raw).parts) <= PART_LIMIT


HOSTILE = {
    "comments": b"From: " + b"(" * 1_000_000,
    "comments in a type": b"Content-Type: text/plain; " + b"(" * 1_000_000,
    "angles": b"To: " + b"<" * 1_000_000,
    "commas": b"To: " + b"," * 1_000_000,
    "quotes": b'To: "' + b'\\"' * 500_000,
    "unclosed words": b"Subject: " + b"=?=?=?" * 200_000,
    "open words": b"Subject: " + b"=?utf-8?q?a" * 100_000,
    "semicolons": b"Content-Type: text/plain" + b";" * 1_000_000,
    "white space": b"Subject:" + b" " * 1_000_000 + b"x",
    "folds": b"Subject: x" + b"\r\n " * 300_000,
    "blobs": b"Subject: " + b"[a] " * 250_000,
    "references": b"References: " + b"< " * 500_000,
    "fields": b"a:\n" * 300_000,
    "names without colons": b"Subject: x\n" + b"abc\n" * 250_000 + b"\nx",
    "dates": b"Date: " + b"1 " * 500_000,
    "groups": b"To: " + b"a:" * 500_000,
    "routes": b"To: <" + b"@a," * 300_000,
    "addresses": b"To: " + b"a," * 500_000,
    "false delimiters": MULTIPART.encode() + b"--bx\n" * 200_000,
    "divs": b"Content-Type: text/html\n\n" + b"<div>" * 200_000,
    "scripts": b"Content-Type: text/html\n\n" + b"<script>" * 120_000,
    "comments in html": b"Content-Type: text/html\n\n" + b"<!--" * 250_000,
    "quoted lines": b"\n" + b"> x\n" * 250_000,
    "utf-7": b"Content-Type: text/plain; charset=utf-7\n\n" + b"+2AA-" * 200_000,
    "continuations": b"Content-Type: text/plain"
    + b"".join(b"; a*%d*=%%41" % n for n in range(80_000)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_megabyte_costs_little(name: str) -> None:
    """About 1 MB each; linear code needs 1 to 120 ms for them, quadratic code minutes."""
    raw = HOSTILE[name]
    start = time.process_time()
    found = digest(raw)
    message = parse(raw)
    check_envelope(read(envelope(message)))
    assert time.process_time() - start < 2
    assert len(found.env) < 3_000_000


def test_fifty_megabytes() -> None:
    line = b"A" * 76 + b"\r\n"
    raw = (
        MULTIPART.replace("\n", "\r\n").encode()
        + b"--b\r\nContent-Transfer-Encoding: base64\r\nContent-Type: image/png\r\n\r\n"
        + line * 640_000
        + b"--b--\r\n"
    )
    assert least(lambda: parse(raw), 0.5) < 0.5
    message = parse(raw)
    assert message.parts[1].body_end - message.parts[1].body_start == 640_000 * 78 - 2
