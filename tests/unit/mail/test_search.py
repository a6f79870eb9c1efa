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
from mailserver.mail.matching import Candidate, compile_test
from mailserver.mail.search import narrowed
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
        (All((HERE, HasKeyword("work"))), None),
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
    ],
)
def test_what_it_does_not(asked: Query) -> None:
    assert narrowed(asked) is None


UNKNOWN = HasAttachment(True)  # nothing of the envelope was read
TRUE, FALSE = All(()), AnyOf(())


@pytest.mark.parametrize(
    ("criterion", "answer"),
    [
        (UNKNOWN, None), (Contains(Place.BODY, ("x",)), None),
        (All((UNKNOWN, TRUE)), None), (All((UNKNOWN, FALSE)), False),
        (AnyOf((UNKNOWN, TRUE)), True), (AnyOf((UNKNOWN, FALSE)), None),
        (NoneOf((UNKNOWN, TRUE)), False), (NoneOf((UNKNOWN, FALSE)), None), (NoneOf(()), True),
    ],
)  # fmt: skip
def test_unknown_is_not_false(criterion: Criterion, answer: bool | None) -> None:
    candidate = Candidate(1, 2, 3, 4, 5, 0)
    assert compile_test(criterion, {2: [candidate]})(candidate) is answer
