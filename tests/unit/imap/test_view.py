"""A client that follows what the view says ends up with the mailbox."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.protocol.sequences import SequenceSet
from mailserver.imap.protocol.view import NOTHING, Update, View


class Mailbox:
    """Follows the rules of a listing: appended in place, replaced when messages leave."""

    def __init__(self, count: int) -> None:
        self.uids = array("q", range(1, count + 1))
        self.next = count + 1

    def add(self, count: int) -> None:
        self.uids.extend(range(self.next, self.next + count))
        self.next += count

    def remove(self, chance: int) -> None:
        self.uids = array("q", (uid for uid in self.uids if (uid * 2654435761 >> 7) % 5 != chance))


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "look", "peek"]), st.integers(0, 4)), max_size=30
)


@given(st.integers(0, 8), STEPS)
def test_a_client_can_follow(count: int, steps: list[tuple[str, int]]) -> None:
    mailbox = Mailbox(count)
    view = View(mailbox.uids, 1)
    client = list(mailbox.uids)  # UIDs by sequence number; new ones are asked for
    for step, number in [*steps, ("look", 0)]:
        if step == "add":
            mailbox.add(number)
        elif step == "remove":
            mailbox.remove(number)
        else:
            update = view.advance(mailbox.uids, may_expunge=step == "look")
            assert step == "look" or not update.expunged
            for sequence in update.expunged:
                del client[sequence - 1]
            if update.exists is not None:
                assert update.exists > len(client)
                client += view.uids[len(client) : update.exists]
        assert client == list(view.uids[: view.count])
        for position, uid in enumerate(client):
            assert view.position(uid) == position
    assert client == list(mailbox.uids)
    assert view.advance(mailbox.uids, may_expunge=True) == NOTHING


@given(st.integers(0, 500), st.sets(st.integers(0, 999), max_size=8), st.integers(0, 3))
def test_few_of_many_leave(count: int, leaving: set[int], new: int) -> None:
    told = [2 * number for number in range(count)]
    view = View(array("q", told), 1)
    view.uids.append(1000)  # it came, and was not announced
    left = array("q", [uid for uid in told if uid not in leaving] + [*range(1000, 1000 + new)])
    update = view.advance(left, may_expunge=True)
    numbers = [number for number, uid in enumerate(told, 1) if uid in leaving]
    assert list(update.expunged) == numbers[::-1]
    assert update.exists == (len(left) if new else None)
    assert view.uids is left


def test_expunges_are_descending_and_come_with_a_grown_exists() -> None:
    mailbox = Mailbox(5)
    view = View(mailbox.uids, 1)
    mailbox.uids = array("q", [1, 4, 5])
    mailbox.add(2)
    assert view.advance(mailbox.uids, may_expunge=False) == NOTHING
    assert view.count == 5
    assert view.advance(mailbox.uids, may_expunge=True) == Update((3, 2), 5)


def test_exists_is_not_repeated_after_an_expunge() -> None:
    mailbox = Mailbox(3)
    view = View(mailbox.uids, 1)
    mailbox.uids = array("q", [1, 3])
    assert view.advance(mailbox.uids, may_expunge=True) == Update((2,), None)


def test_recent() -> None:
    view = View(array("q", [3, 5, 8, 9]), 1)
    view.add_recent(5, 8)
    view.add_recent(6, 9)  # overlapping: each message counts once
    view.add_recent(20, 19)
    assert view.recent_spans() == [range(1, 3), range(3, 4)]
    assert view.recent_positions() == [1, 2, 3]
    assert [view.is_recent(uid) for uid in view.uids] == [False, True, True, True]
    assert view.position(4) is None


def test_positions() -> None:
    view = View(array("q", [3, 5, 8]), 1)
    messages = SequenceSet(((2, 3),))
    assert view.positions(messages, by_uid=False) == [range(1, 3)]
    assert view.positions(messages, by_uid=True) == [range(1)]
