"""Updates of search results (RFC 5267 §4.3)."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.protocol.context import (
    NOTHING,
    CancelUpdate,
    Run,
    additions,
    frozen,
    names_last,
    parse_cancelupdate,
    removals,
    update,
)
from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.fetch import Attribute
from mailserver.imap.protocol.search import (
    Returns,
    Wanted,
    esearch,
    modseq_shown,
    parse_search,
)
from mailserver.imap.protocol.search_keys import And, HasFlag, Messages, Not, Or
from mailserver.imap.protocol.sequences import SAVED, STAR, SequenceSet
from mailserver.imap.protocol.view import View
from mailserver.model import SEEN

RESULTS = st.lists(st.integers(1, 60), unique=True)


def _apply(results: list[int], item: bytes, runs: list[Run]) -> list[int]:
    """Do what a client does (RFC 5267 §4.3.3, §4.3.4)."""
    results = list(results)
    for run in runs:
        start = run.position - 1
        if item == b"ADDTO":
            results[start:start] = run.uids
        else:
            assert results[start : start + len(run.uids)] == run.uids
            del results[start : start + len(run.uids)]
    return results


@given(RESULTS, st.sets(st.integers(1, 60)))
def test_removals(results: list[int], gone: set[int]) -> None:
    runs = removals(results, gone)
    assert _apply(results, b"REMOVEFROM", runs) == [uid for uid in results if uid not in gone]


@given(RESULTS, st.sets(st.integers(1, 60)))
def test_additions(results: list[int], new: set[int]) -> None:
    before = [uid for uid in results if uid not in new]
    assert _apply(before, b"ADDTO", additions(results, new)) == results


def test_neighbours_are_one_run() -> None:
    # the preferred form of the example of §4.3.3
    runs = additions([2731, 2732, 2733, 2734, 2735], {2731, 2732, 2733})
    shown = [(run.position, run.uids) for run in runs]
    assert update(b"C01", b"", b"ADDTO", shown, by_uid=True) == (
        b'ESEARCH (TAG "C01") UID ADDTO (1 2731:2733)'
    )
    assert update(b"x", b" MAILBOX a", b"REMOVEFROM", [(0, [2]), (4, [9, 3])], by_uid=False) == (
        b'ESEARCH (TAG "x" MAILBOX a) REMOVEFROM (0 2 4 9,3)'
    )


def test_cancelupdate() -> None:
    assert parse_cancelupdate(Cursor((b' "B01" "a b"',))) == CancelUpdate((b"B01", b"a b"))
    for text in (b"", b" B01", b' "a" b'):
        with pytest.raises(ProtocolError):
            parse_cancelupdate(Cursor((text,)))


def test_numbers_mean_the_messages_of_now() -> None:
    view = View(array("q", [3, 5, 9, 12]), 1)
    view.saved = (5, 9, 10)
    numbers = Messages(SequenceSet(((2, 3), (STAR, STAR), (7, 8))), by_uid=False)
    uids = Messages(SequenceSet(((5, 12),)), by_uid=True)
    assert frozen(numbers, view) == uids
    assert frozen(Messages(SAVED, by_uid=False), view) == Messages(
        SequenceSet(((5, 9),)), by_uid=True
    )
    assert frozen(Messages(SAVED, by_uid=True), view) == Messages(
        SequenceSet(((5, 9),)), by_uid=True
    )
    assert frozen(Messages(SequenceSet(((9, 9),)), by_uid=False), view) == NOTHING
    seen = HasFlag(SEEN)
    key = And((Or(seen, Not(numbers)), uids))
    assert frozen(key, view) == And((Or(seen, Not(uids)), uids))


def test_what_depends_on_the_last_message() -> None:
    last = Messages(SequenceSet(((3, STAR),)), by_uid=True)
    some = Messages(SequenceSet(((3, 4),)), by_uid=True)
    assert names_last(And((some, Or(some, Not(last)))))
    assert names_last(Or(last, some))
    assert not names_last(And((some, Or(some, Not(some)))))
    assert not names_last(HasFlag(SEEN))


def test_return_options() -> None:
    found = parse_search(Cursor((b" RETURN (UPDATE CONTEXT COUNT) SEEN",)))
    assert found.returns == Returns(Wanted.UPDATE | Wanted.CONTEXT | Wanted.COUNT)
    for text in (b"(UID FLAGS UID)", b" (UID FLAGS UID)"):  # RFC 5465 §8 and its examples
        found = parse_search(Cursor((b" RETURN (UPDATE" + text + b" COUNT) SEEN",)))
        items = (Attribute.UID, Attribute.FLAGS)
        assert found.returns == Returns(Wanted.UPDATE | Wanted.COUNT, items=items)
    for text in (b"UPDATE ()", b"UPDATE (NONSENSE)", b"COUNT (UID)", b"UPDATE  (UID)"):
        with pytest.raises(ProtocolError):
            parse_search(Cursor((b" RETURN (" + text + b") SEEN",)))
    # only updates are asked for: the response says that there are none yet
    assert esearch(b"a", Returns(Wanted.UPDATE), [1], by_uid=False) == b'ESEARCH (TAG "a")'
    assert esearch(b"a", Returns(Wanted.SAVE | Wanted.CONTEXT), [1], by_uid=False) is None
    assert modseq_shown(Returns(Wanted.MIN | Wanted.UPDATE), [4, 9]) == 4
