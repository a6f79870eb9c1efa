"""Which queries one index scan answers, and tests that do not know yet."""

from datetime import UTC, datetime

import pytest

from mailserver.mail.criteria import (
    All,
    AnyOf,
    Comparator,
    Contains,
    Criterion,
    HasAttachment,
    HasKeyword,
    InMailbox,
    NoneOf,
    Place,
    Query,
    Received,
    Size,
    SortKey,
    Window,
)
from mailserver.mail.matching import Candidate, Known, compile_test
from mailserver.mail.search import narrowed
from mailserver.mail.text_index import Hits
from mailserver.model import FLAGGED, SEEN, EmailId, MailboxId
from mailserver.storage.search import Narrow

HERE = InMailbox(7)
BOX = MailboxId(7)
DAY = datetime(2026, 1, 1, tzinfo=UTC)
UNSEEN = NoneOf((HasKeyword("$seen"),))


@pytest.mark.parametrize(
    ("where", "narrow"),
    [
        (HERE, Narrow(BOX)),
        (All((All((UNSEEN,)), HERE)), Narrow(BOX, lacking=SEEN)),
        (All((HERE, HasKeyword("$flagged"), UNSEEN)), Narrow(BOX, having=FLAGGED, lacking=SEEN)),
        (All((HERE, Received(after=DAY), Received(before=DAY))), Narrow(BOX, 0, 0, DAY, DAY)),
        (All((HERE, Size(5), Size(3, 9))), Narrow(BOX, minimum=5, below=9)),
        (All(()), None),
        (UNSEEN, None),
        (AnyOf((HERE,)), None),
        (All((HERE, InMailbox(8))), None),
        (All((HERE, HasKeyword("work"))), Narrow(BOX, words=frozenset({"work"}))),
        (All((HERE, NoneOf((HasKeyword("work"),)))), Narrow(BOX, no_words=frozenset({"work"}))),
        (All((HERE, HasKeyword("$seen"), UNSEEN)), None),
        (All((HERE, HasAttachment(True))), None),
    ],
)
def test_what_an_index_answers(where: Criterion, narrow: Narrow | None) -> None:
    assert narrowed(Query(where)) == narrow


@pytest.mark.parametrize(
    "asked",
    [
        Query(HERE, window=Window(position=-1)),
        Query(HERE, window=Window(anchor=EmailId(1))),
        Query(HERE, (Comparator(SortKey.RECEIVED_AT),)),
        Query(HERE, (Comparator(SortKey.SIZE, False),)),
        Query(HERE, (Comparator(SortKey.RECEIVED_AT, False), Comparator(SortKey.SIZE))),
    ],
)
def test_what_it_does_not(asked: Query) -> None:
    assert narrowed(asked) is None


UNKNOWN = HasAttachment(True)  # nothing of the envelope was read
WORD, PHRASE = Contains(Place.BODY, ("x",)), Contains(Place.TEXT, ("x y",))
HITS: dict[Criterion, Hits] = {
    WORD: Hits(frozenset({1}), True, frozenset()),
    PHRASE: Hits(frozenset({1}), False, frozenset({2})),
}
TRUE, FALSE = All(()), AnyOf(())


@pytest.mark.parametrize(
    ("criterion", "answer"),
    [
        (UNKNOWN, None), (WORD, True), (PHRASE, None), (Contains(Place.BODY, ()), True),
        (All((UNKNOWN, TRUE)), None), (All((UNKNOWN, FALSE)), False),
        (AnyOf((UNKNOWN, TRUE)), True), (AnyOf((UNKNOWN, FALSE)), None),
        (NoneOf((UNKNOWN, TRUE)), False), (NoneOf((UNKNOWN, FALSE)), None), (NoneOf(()), True),
    ],
)  # fmt: skip
def test_unknown_is_not_false(criterion: Criterion, answer: bool | None) -> None:
    candidate = Candidate(1, 2, 3, 4, 5, 0)
    assert compile_test(criterion, Known({2: [candidate]}, HITS))(candidate) is answer


def test_what_the_index_does_not_know_is_looked_at() -> None:
    for number, word, phrase in ((1, True, None), (2, False, None), (3, False, False)):
        candidate = Candidate(number, 2, 3, 4, 5, 0)
        known = Known({2: [candidate]}, HITS)
        assert compile_test(WORD, known)(candidate) is word
        assert compile_test(PHRASE, known)(candidate) is phrase
