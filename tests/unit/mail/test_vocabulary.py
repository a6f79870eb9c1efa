"""Words of messages say where a text is, or at least where it is not."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.errors import Corrupt
from mailserver.mail.vocabulary import ROWS, Vocabulary, pack, sought

# few letters, so that what is looked for is often there, also where two words meet
texts = st.text("AB \n\x1c", max_size=8).map(str.encode)
messages = st.lists(st.tuples(texts, texts, texts), max_size=6)


@given(messages, texts, st.booleans())
@example([(b"A B", b"", b"")], b" B", False)
@example([(b"A B", b"", b"")], b"B A", False)
@example([(b"AB", b"", b"BA")], b"BA", True)
def test_what_words_say(
    found: list[tuple[bytes, bytes, bytes]], wanted: bytes, everywhere: bool
) -> None:
    ids = [10 + number for number in range(len(found))]
    words = Vocabulary(ids, (), pack((body, (names, head)) for body, names, head in found))
    having = [
        email_id
        for email_id, (body, *others) in zip(ids, found, strict=True)
        if wanted in body or (everywhere and any(wanted in each for each in others))
    ]
    pieces = sought(wanted)
    if pieces is None:
        assert not wanted.split()
        return
    told = words.matching(pieces, everywhere=everywhere)
    assert set(having) <= set(told)
    if pieces.exact:
        assert list(told) == having
    else:
        assert any(octet in b" \n" for octet in wanted)


def test_pieces_are_looked_for_where_words_begin_and_end() -> None:
    rows = [(b"NEW YORK", ()), (b"ANEW YORKER", ()), (b"NEWS YORK", ()), (b"A YORK NEW", ())]
    words = Vocabulary([1, 2, 3, 4], (), pack(rows))
    told = {
        text: list(words.matching(pieces, everywhere=False))
        for text in (b"NEW YORK", b" NEW YORK ", b"EW Y", b"NEW X", b"A YORK N")
        if (pieces := sought(text)) is not None
    }
    assert told == {
        b"NEW YORK": [1, 2, 4],  # of the last one only the text tells
        b" NEW YORK ": [1, 4],
        b"EW Y": [1, 2, 4],
        b"NEW X": [],
        b"A YORK N": [4],
    }


def test_as_many_messages_as_there_are_bits() -> None:
    rows = [(b"ALL NO%dX" % number, ()) for number in range(ROWS)]
    words = Vocabulary(range(ROWS), (), pack(rows))
    last = sought(b"NO63X")
    every = sought(b"LL")
    assert last is not None
    assert every is not None
    assert list(words.matching(last, everywhere=True)) == [63]
    assert list(words.matching(every, everywhere=True)) == list(range(ROWS))
    with pytest.raises(Corrupt):
        Vocabulary(range(ROWS + 1), (), pack(rows))
    with pytest.raises(Corrupt):
        Vocabulary(range(ROWS), (), b"cut")


@pytest.mark.parametrize("text", [b"", b" ", b"\n \t", b"A\0B"])
def test_what_words_cannot_tell(text: bytes) -> None:
    assert sought(text) is None
