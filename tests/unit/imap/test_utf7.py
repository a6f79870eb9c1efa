"""Modified UTF-7."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.protocol import utf7
from mailserver.imap.protocol.errors import ProtocolError

EXAMPLES = [
    ("INBOX", b"INBOX"),
    ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 §5.1.3
    ("a&b", b"a&-b"),
    ("&", b"&-"),
    ("Entwürfe", b"Entw&APw-rfe"),
    ("😀", b"&2D3eAA-"),
    ("\t", b"&AAk-"),
]


@pytest.mark.parametrize(("name", "octets"), EXAMPLES)
def test_examples(name: str, octets: bytes) -> None:
    assert utf7.encode(name) == octets
    assert utf7.decode(octets) == name


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_round_trip(name: str) -> None:
    octets = utf7.encode(name)
    assert all(0x20 <= octet < 0x7F for octet in octets)
    assert utf7.decode(octets) == name


@given(
    st.lists(
        st.sampled_from([octets for _, octets in EXAMPLES])
        | st.sampled_from([b"&", b"-", b",", b"A", b"/", b"=", b"\xff", b"\0"])
        | st.binary(max_size=4)
    ).map(b"".join)
)
def test_whatever_is_read_is_written_the_same(octets: bytes) -> None:
    try:
        name = utf7.decode(octets)
    except ProtocolError:
        return
    assert utf7.encode(name) == octets


@pytest.mark.parametrize(
    "octets",
    [
        b"&",  # not ended
        b"a&b",
        b"&AGE-",  # "a" needs no encoding
        b"&Jjo-&Jjo-",  # two shifts that could be one, RFC 3501 §5.1.3
        b"&2D0-",  # half a surrogate pair
        b"&Jj-",  # not whole characters
        b"&JjoA-",
        b"\xc3\xbc",
        b"&/wA-",  # "/" instead of ","
    ],
)
def test_rejected(octets: bytes) -> None:
    with pytest.raises(ProtocolError):
        utf7.decode(octets)
