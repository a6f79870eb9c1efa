"""Stretches of the change log: paging loses nothing, and made-up states are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.errors import CannotCalculateChanges
from mailserver.jmap.methods.changes import Log, Stretch, stretch
from mailserver.model import ChangeEntry, ChangeKind, EmailId, MailboxId, Modseq, ThreadId

HISTORIES = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12, unique=True), max_size=8)


def entries(history: list[list[int]]) -> list[ChangeEntry]:
    return [
        ChangeEntry(
            modseq=Modseq(number),
            kind=ChangeKind.EMAIL_UPDATED,
            mailbox_id=MailboxId(1),
            uids=tuple(ids),
            email_ids=tuple(map(EmailId, ids)),
            thread_ids=tuple(map(ThreadId, ids)),
        )
        for number, ids in enumerate(history, 1)
    ]


def emails_of(entry: ChangeEntry) -> tuple[int, ...]:
    return entry.email_ids


def page(history: list[list[int]], state: str, limit: int, *, divisible: bool = True) -> Stretch:
    since, _, skip = state.partition("-")
    left = [each for each in entries(history) if each.modseq > int(since)]
    log = Log(int(since), int(skip or 0), left, len(history), complete=True, limit=limit)
    return stretch(log, emails_of, divisible=divisible)


@given(HISTORIES, st.integers(1, 5))
def test_pages_say_everything_and_end(history: list[list[int]], limit: int) -> None:
    state, seen, more = "0", set[int](), True
    states = [state]
    while more:
        found = page(history, state, limit)
        assert len(found.touched) <= limit
        seen |= found.touched
        state, more = found.new_state, found.more
        assert state not in states or not more
        states.append(state)
    assert seen == {each for ids in history for each in ids}
    assert state == str(len(history))


@pytest.mark.parametrize("state", ["0-3", "0-4", "1-1", "1-9"])
def test_a_state_that_was_never_given_out_is_refused(state: str) -> None:
    assert page([[1, 2, 3]], "0-2", 5).touched == {3}
    with pytest.raises(CannotCalculateChanges):
        page([[1, 2, 3]], state, 5)


def test_an_inner_state_of_another_type_is_refused() -> None:
    with pytest.raises(CannotCalculateChanges):
        page([[1, 2, 3]], "0-2", 5, divisible=False)
