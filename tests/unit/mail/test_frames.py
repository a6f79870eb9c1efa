"""Texts are found in a frame wherever they are found in the text of one message."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail.frames import LEVEL, Frame, Texts, packed

# few letters, so that what is looked for is often there, also where two texts meet
texts = st.text("AB ", max_size=6).map(str.encode)
messages = st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=6)


@given(messages, st.text("AB ", max_size=3).map(str.encode), st.booleans())
def test_matching(found: list[tuple[bytes, bytes, bytes]], wanted: bytes, everywhere: bool) -> None:
    rows = [Texts(10 + number, *each) for number, each in enumerate(found)]
    frame = Frame([row.email_id for row in rows], packed(rows, LEVEL)[1])
    expected = [
        row.email_id
        for row in rows
        if wanted in row.body or (everywhere and (wanted in row.names or wanted in row.header))
    ]
    assert frame.matching(wanted, everywhere=everywhere) == expected
    assert frame.matching(wanted, everywhere=everywhere) == expected  # with what it knows now
    assert list(frame.texts()) == rows


def test_nul_is_in_no_text() -> None:
    frame = Frame([1], packed([Texts(1, b"A", b"B", b"C")], LEVEL)[1])
    assert frame.matching(b"A\0B", everywhere=True) == []
    assert Frame([], packed([], LEVEL)[1]).matching(b"", everywhere=True) == []
