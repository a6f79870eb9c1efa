"""Headers as they are searched: most are read as a whole, and none differently from its fields."""

from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.mime import HEADER_LIMIT, HeaderBlock, field_reader, parse, search_text
from mailserver.mime.forms import as_text

pieces = st.sampled_from(
    [
        *(b"plain words", b"=?utf-8?q?J=C3=BCrgen?=", b"=?utf-8?b?R3LDvMOfZQ==?=", b"\r\n "),
        *(b"\r\n\t", b" ", b"=?x", b"?=", b"=?utf-8?q?=0A=00?=", b"J\xc3\xbcrgen", b"\xff"),
        *(b"\0", b":", b": ", b"\r"),
    ]
)  # fmt: skip
names = st.sampled_from([b"Subject", b"X-=?utf-8?q?a?=", b"X:", b"To "])
fields = st.lists(st.tuples(names, st.lists(pieces, max_size=6).map(b"".join)), max_size=5)


@given(fields)
@example([(b"Subject", b"a"), (b"Subject", b"=?utf-8?q?=C3=BC?=\r\n =?utf-8?q?b?=: c")])
def test_headers_are_their_fields(found: list[tuple[bytes, bytes]]) -> None:
    raw = b"".join(b"%b: %b\r\n" % field for field in found) + b"\r\n"
    message = parse(raw)
    lines = [f"{name.decode()}: {as_text(value)}" for name, value in message.header.pairs()]
    assert search_text(raw, message).headers == "\n".join(lines)


lines = st.sampled_from(
    [
        *(b"From: a", b"from:", b"FROM : b", b"To: c\r", b" folded", b"\tfolded", b"", b"\r", b"x"),
        *(
            b"From me",
            b">From you",
            b": no name",
            b"no colon",
            b"a b: c",
            b"From: =?utf-8?q?=C3=BC?=",
        ),
        *(b"\xff: x", b"Subject:\0", b"From:from:", b" ", b"X-From: a"),
    ]
)
blocks = st.lists(lines, max_size=8).flatmap(
    lambda found: st.sampled_from([b"\r\n", b"\n"]).map(
        lambda end: b"".join(line + end for line in found)
    )
)


@given(blocks, st.sampled_from([b"", b"\r\n", b"\n", b"body", b"\r"]))
@example(b"From: a\r\nstray\r\n", b"\r\n")
@example(b"From: a\r\n\r\nFrom: b\r\n", b"")
@example(b" folded\r\nFrom: b\r\n", b"\r\n")
@example(b"From: a\r\n" * 3, b"\r\n")
def test_values_of_one_field_are_those_of_the_header(block: bytes, end: bytes) -> None:
    octets = block + end
    header = HeaderBlock(octets)
    for name in ("from", "To", "x-from", "", "from:from", "a b", "no name", "ü", "subject"):
        assert tuple(field_reader(name)(octets)) == header.all(name)
        cut = octets[: header.body_start]
        assert tuple(field_reader(name)(cut)) == HeaderBlock(cut).all(name)


def test_values_behind_what_is_read_of_a_header_are_none() -> None:
    octets = b"From: a\r\n" + b"X: " + b"y" * HEADER_LIMIT + b"\r\nFrom: b\r\n\r\n"
    assert tuple(field_reader("from")(octets)) == HeaderBlock(octets).all("from") == (b" a",)
