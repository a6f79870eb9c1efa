from array import array

from hypothesis import given
from hypothesis import strategies as st

from mailserver.antispam.content import calibration
from mailserver.antispam.content.filter import ContentFilter
from mailserver.antispam.content.model import (
    ACCOUNT_BITS,
    Counts,
    Delta,
    Lesson,
    delta_of,
    evidence,
    margin,
)
from mailserver.antispam.content.tokens import Features, features
from mailserver.antispam.content.views import Views
from mailserver.antispam.evidence import Finding
from mailserver.model import AccountId
from tests.unit.antispam.content.mails import inquiry, mail

BITS = 10
_numbers = st.lists(st.integers(0, 2**32 - 1), max_size=30, unique=True)
_features = st.lists(_numbers, min_size=8, max_size=8).map(
    lambda groups: Features(*(array("I", group) for group in groups))
)
_lessons = st.lists(st.builds(Lesson, _features, st.booleans()), max_size=8)


@given(_lessons, _lessons)
def test_what_is_unlearned_leaves_nothing(kept: list[Lesson], gone: list[Lesson]) -> None:
    counts, expected = Counts(BITS), Counts(BITS)
    for lesson in [*gone, *kept]:
        counts.learn(lesson)
    for lesson in gone:
        counts.learn(Lesson(lesson.features, lesson.spam, -1))
    for lesson in kept:
        expected.learn(lesson)
    assert counts.pack() == expected.pack()


@given(_lessons)
def test_packed_is_the_same(lessons: list[Lesson]) -> None:
    counts = Counts(BITS)
    delta = Delta.unpack(delta_of(lessons, BITS).pack())
    counts.add(delta)
    again = Counts.unpack(counts.pack())
    assert again.pack() == counts.pack()
    assert again.lessons == len(lessons)
    assert again.numbers == counts.numbers


@given(_lessons, _features)
def test_evidence_is_bounded(lessons: list[Lesson], found: Features) -> None:
    counts = Counts(BITS)
    counts.add(delta_of(lessons, BITS))
    means = evidence(found, counts)
    assert len(means) == len(calibration.WEIGHTS)
    assert all(abs(mean) < 20 for mean in means)


def test_scores_grow_with_the_margin() -> None:
    scores = [calibration.score(at / 10) for at in range(-200, 200)]
    assert scores == sorted(scores)
    assert scores[0] < 0 < 5 < scores[-1] < 10


def learned(spam: int, ham: int) -> Counts:
    counts = Counts(ACCOUNT_BITS)
    for number in range(spam):
        text = mail(f"cheap watches and pills number {number}, click now", subject="offer")
        counts.learn(Lesson(features(Views(inquiry(text))), spam=True))
    for number in range(ham):
        text = mail(f"the minutes of meeting {number} are attached", subject="minutes")
        counts.learn(Lesson(features(Views(inquiry(text))), spam=False))
    return counts


class Taught:
    """What a server and one account know."""

    def __init__(self, server: Counts, own: Counts | None = None) -> None:
        self.server = server
        self._own = own

    async def refresh(self) -> None:
        pass

    async def of_account(self, account: AccountId) -> Counts | None:
        return self._own if account == 1 else None


def test_what_was_learned_tells_apart() -> None:
    counts = learned(40, 40)
    spam = features(Views(inquiry(mail("cheap pills and watches, click", subject="offer"))))
    ham = features(Views(inquiry(mail("minutes of the meeting", subject="minutes"))))
    assert margin(evidence(spam, counts)) > margin(evidence(ham, counts)) + 5


async def test_nothing_is_said_before_enough_was_learned() -> None:
    message = inquiry(mail("cheap pills and watches, click", subject="offer"))
    for count, speaks in ((29, False), (30, True)):
        content = ContentFilter(models=Taught(learned(count, 40)))
        await content.load()
        finding = await content.judge(message, ())
        assert ("CLASSIFIER" in [each.name for each in finding.symbols]) is speaks


async def test_lessons_of_one_user_count_for_that_user_from_the_fifth_on() -> None:
    newsletter = inquiry(mail("cheap watches and pills, click now", subject="offer"))
    for count, counts_for in ((4, False), (12, True)):
        own = Counts(ACCOUNT_BITS)
        for _ in range(count):
            own.learn(Lesson(features(Views(newsletter)), spam=False))
        content = ContentFilter(models=Taught(learned(40, 40), own))
        await content.load()
        findings: tuple[Finding, ...] = (await content.judge(newsletter, ()),)
        mine = await content.judge_for(AccountId(1), newsletter, findings)
        theirs = await content.judge_for(AccountId(2), newsletter, findings)
        assert theirs.symbols == ()
        assert (mine.score < -0.5) is counts_for
