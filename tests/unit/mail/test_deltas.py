"""What is told of a change is what it did, or nothing."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail.deltas import (
    MOST_UIDS,
    ROOM,
    Arrived,
    Delta,
    Flagged,
    Left,
    Touched,
    decode,
    encode,
)
from mailserver.model import Flags, MailboxId
from mailserver.storage.messages import Packed

MAILBOXES = st.integers(1, (1 << 63) - 1).map(MailboxId)
WORDS = st.lists(st.text(max_size=20), min_size=1, max_size=3).map(tuple)
FLAGS = st.builds(Flags, st.integers(0, 1 << 20), WORDS | st.just(()))

UIDS = st.lists(st.integers(1, (1 << 32) - 1), unique=True, max_size=9).map(sorted)


@st.composite
def packed(draw: st.DrawFn) -> Packed:
    uids = draw(UIDS)
    columns = [array("q", draw(st.lists(st.integers(0, 1 << 62), min_size=len(uids),
                                        max_size=len(uids)))) for _ in range(6)]  # fmt: skip
    words = {uid: draw(WORDS) for uid in uids if draw(st.booleans())}
    return Packed._make([array("q", uids), *columns, words, {}])


DELTAS = (
    st.builds(Arrived, MAILBOXES, packed())
    | st.builds(
        Flagged, MAILBOXES, st.lists(st.tuples(FLAGS, UIDS.map(lambda uids: array("q", uids))))
    )
    | st.builds(Left, MAILBOXES, UIDS)
    | st.builds(Touched, MAILBOXES)
)


@given(st.lists(DELTAS, max_size=5))
def test_what_is_written_is_read(deltas: list[Delta]) -> None:
    text = encode(deltas)
    assert len(text) <= ROOM
    assert text.isascii()
    assert "\n" not in text
    if text:
        assert decode(text) == deltas


def test_of_too_many_messages_only_the_mailbox_is_told() -> None:
    box = MailboxId(7)
    uids = range(1, MOST_UIDS + 2)
    stamps = [(Flags(), uids[:-1]), (Flags(1), uids[-1:])]
    for delta in (Left(box, uids), Flagged(box, stamps)):
        assert decode(encode([delta])) == [Touched(box)]
    assert decode(encode([Left(box, uids[:-1])])) == [Left(box, list(uids[:-1]))]
    assert encode([Flagged(box, [(Flags(0, ("x" * ROOM,)), [1])])]) == ""


def test_what_a_later_version_says_is_that_something_happened() -> None:
    assert decode('[["~",7,[1],{}]]') == [Touched(MailboxId(7))]
