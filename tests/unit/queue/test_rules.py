"""The state machine of the queue: what becomes of a recipient, however attempts end."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mailserver.model import QueueState, ReportKind
from mailserver.queue.enqueue import EXPIRY
from mailserver.queue.rules import (
    Attempted,
    DeliverBy,
    Next,
    Outcome,
    Result,
    Schedule,
    after,
    rank,
    report_due,
)

START = datetime(2026, 11, 26, tzinfo=UTC)
WISHES = st.sampled_from([None, "NEVER", "SUCCESS", "FAILURE", "DELAY", "SUCCESS,FAILURE"])


def outcome(result: Result, *, reports: bool = False) -> Outcome:
    return Outcome(result, "450 4.0.0 words", "4.0.0", "mx.example.org", reports)


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_pauses_double_to_the_longest(attempts: int, chance: float) -> None:
    schedule = Schedule()
    pause = schedule.delay(attempts, chance)
    plain = min(timedelta(minutes=5) * 2 ** min(attempts - 1, 20), timedelta(hours=4))
    assert plain * 0.9 <= pause <= plain * 1.1


@given(WISHES, st.sampled_from(Result), st.booleans(), st.booleans())
def test_reports_are_those_that_were_asked_for(
    notify: str | None, result: Result, null: bool, takes_over: bool
) -> None:
    attempted = Attempted(1, START, START + EXPIRY, notify, null)
    found = report_due(attempted, result, reports=takes_over)
    wishes = {"FAILURE"} if notify is None else set(notify.split(","))
    expected = None
    if result is Result.FAILED and "FAILURE" in wishes:
        expected = ReportKind.FAILED
    if result is Result.DELIVERED and "SUCCESS" in wishes:
        expected = ReportKind.DELIVERED
    if result is Result.RELAYED and "SUCCESS" in wishes and not takes_over:
        expected = ReportKind.RELAYED
    assert found == (None if null else expected)


def test_a_route_may_give_up_earlier() -> None:
    attempted = Attempted(3, START, START + EXPIRY, None, False)
    schedule = Schedule(expire_after=timedelta(hours=1))
    now = START + timedelta(minutes=50)
    then = after(attempted, outcome(Result.DEFERRED), schedule, now, 0.5)
    assert then.next_attempt == then.expires_at == START + timedelta(hours=1)
    last = after(attempted, outcome(Result.DEFERRED), schedule, then.next_attempt, 0.5)
    assert (last.state, last.status) == (QueueState.FAILED, "5.4.7")
    assert last.reply == "450 4.0.0 words (given up: tried for too long)"


class Life(RuleBasedStateMachine):
    """One recipient from its acceptance to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.attempts = 0
        self.then = Next(QueueState.WAITING, START, START + EXPIRY, None, None, "", "", None)
        self.reports: list[ReportKind] = []

    @rule(
        result=st.sampled_from([Result.DEFERRED] * 6 + list(Result)),
        chance=st.floats(0, 1, exclude_max=True),
        late=st.timedeltas(timedelta(0), timedelta(hours=30)),
    )
    def attempt(self, result: Result, chance: float, late: timedelta) -> None:
        if self.then.state is not QueueState.WAITING:
            return
        self.now = max(self.now, self.then.next_attempt) + late
        self.attempts += 1
        attempted = Attempted(self.attempts, START, self.then.expires_at, None, False)
        before = self.then
        self.then = after(attempted, outcome(result), Schedule(), self.now, chance)
        if self.then.report is not None:
            self.reports.append(self.then.report)
        assert self.then.expires_at == before.expires_at

    @invariant()
    def a_final_state_has_its_time_and_at_most_one_report(self) -> None:
        final = self.then.state in (QueueState.DELIVERED, QueueState.FAILED)
        assert (self.then.finished_at is not None) == final
        assert len(self.reports) == (self.then.state is QueueState.FAILED)

    @invariant()
    def who_waits_is_tried_again_and_not_after_the_expiry(self) -> None:
        if self.then.state is QueueState.WAITING and self.attempts:
            assert self.now < self.then.next_attempt <= self.then.expires_at
            assert self.then.next_attempt - self.now <= timedelta(hours=4) * 1.1


TestLife = Life.TestCase


@given(WISHES, st.booleans(), st.booleans())
def test_who_wants_a_trace_hears_of_each_relay(
    notify: str | None, returns: bool, null: bool
) -> None:
    by = DeliverBy(START + timedelta(minutes=2), returns, traced=True)
    assert DeliverBy.stored(by.at, by.mode) == by
    attempted = Attempted(1, START, START + EXPIRY, notify, null, by)
    told = None if null or notify == "NEVER" else ReportKind.RELAYED
    assert report_due(attempted, Result.RELAYED, reports=True) == told


@given(st.booleans(), st.integers(0, 600))
def test_what_must_go_back_in_time_is_tried_no_longer(returns: bool, seconds: int) -> None:
    by = DeliverBy(START + timedelta(minutes=5), returns)
    now = START + timedelta(seconds=seconds)
    attempted = Attempted(1, START, START + EXPIRY, None, False, by)
    then = after(attempted, outcome(Result.DEFERRED), Schedule(expire_after=EXPIRY), now, 0.5)
    if returns and now >= by.at:
        assert (then.state, then.status) == (QueueState.FAILED, "5.4.7")
    else:
        assert then.state is QueueState.WAITING
        assert not returns or then.next_attempt <= by.at


def test_ranks() -> None:
    assert [rank(priority) for priority in (-9, -1, 0, 1, 9)] == [2, 2, 1, 0, 0]
    assert DeliverBy.stored(None, None) is None
