"""Words of messages say where a text is, or at least where it is not."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.errors import Corrupt
from mailserver.mail.vocabulary import ROWS, Vocabulary, pack, sought, words

# few letters, so that what is looked for is often there, also where two words meet
texts = st.text("AB -\n\x1cé", max_size=8).map(str.encode)
messages = st.lists(st.tuples(texts, texts), max_size=6)


def of(*texts: tuple[bytes, bytes]) -> Vocabulary:
    """Return the words of messages, given as body and other text, whose ids are 10, 11, ..."""
    packed = pack((words(body), words(other)) for body, other in texts)
    return Vocabulary(range(10, 10 + len(texts)), (), packed)


@given(messages, texts, st.booleans())
@example([(b"A B", b"")], b" B", False)
@example([(b"A B", b"")], b"B A", False)
@example([(b"AB", b"BA")], b"BA", True)
@example([("é".encode(), b"")], b"\xa9", False)
def test_what_words_say(found: list[tuple[bytes, bytes]], wanted: bytes, everywhere: bool) -> None:
    having = [
        email_id
        for email_id, (body, other) in enumerate(found, 10)
        if wanted in body or (everywhere and wanted in other)
    ]
    pieces = sought(wanted)
    if pieces is None:
        assert not words(wanted)
        return
    told = of(*found).matching(pieces, everywhere=everywhere)
    assert set(having) <= set(told)
    if pieces.exact:
        assert list(told) == having
    else:
        assert any(octet in b" -\n\x1c" for octet in wanted)


def test_pieces_are_looked_for_where_words_begin_and_end() -> None:
    bodies = (b"NEW YORK", b"ANEW YORKER", b"NEWS YORK", b"A YORK NEW")
    known = of(*((body, b"") for body in bodies))
    told = {
        text: list(known.matching(pieces, everywhere=False))
        for text in (b"NEW YORK", b" NEW.YORK-", b"EW Y", b"NEW X", b"A YORK N")
        if (pieces := sought(text)) is not None
    }
    assert told == {
        b"NEW YORK": [10, 11, 13],  # of the last one only the text tells
        b" NEW.YORK-": [10, 13],
        b"EW Y": [10, 11, 13],
        b"NEW X": [],
        b"A YORK N": [13],
    }


def test_as_many_messages_as_there_are_bits() -> None:
    rows = [(b"ALL NO%dX" % number, b"") for number in range(ROWS)]
    known = of(*rows)
    last = sought(b"NO63X")
    every = sought(b"LL")
    assert last is not None
    assert every is not None
    assert list(known.matching(last, everywhere=True)) == [10 + 63]
    assert list(known.matching(every, everywhere=True)) == list(range(10, 10 + ROWS))
    with pytest.raises(Corrupt):
        of(*rows, (b"", b""))
    with pytest.raises(Corrupt):
        Vocabulary(range(ROWS), (), b"cut")


@pytest.mark.parametrize("text", [b"", b" ", b"\n-\t", b"A\0B"])
def test_what_words_cannot_tell(text: bytes) -> None:
    assert sought(text) is None
