"""Headers as they are searched: most are read as a whole, and none differently from its fields."""

from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.mime import parse, search_text
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
