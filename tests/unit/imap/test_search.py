"""Return options, ESEARCH responses, SORT and THREAD as they are read and written."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.errors import BadCharset, ProtocolError
from mailserver.imap.protocol.partial import Partial
from mailserver.imap.protocol.search import (
    Returns,
    Wanted,
    esearch,
    names_numbers,
    newest,
    parse_search,
    parse_uid_search,
    to_save,
)
from mailserver.imap.protocol.search_keys import (
    And,
    Everything,
    Fuzzy,
    HasEmailId,
    HasFlag,
    HasThreadId,
    InBody,
    InHeader,
    InText,
    Messages,
    Not,
    Or,
    Order,
    Saved,
    Younger,
)
from mailserver.imap.protocol.sequences import SAVED, SequenceSet
from mailserver.imap.protocol.sort import Sort, SortKey, parse_sort
from mailserver.imap.protocol.thread import Algorithm, Thread, parse_thread
from mailserver.model import SEEN, IdKind, id_text


def _cursor(text: bytes) -> Cursor:
    return Cursor((text,))


def test_return_options() -> None:
    found = parse_uid_search(_cursor(b" RETURN (MIN save PARTIAL -1:-100) $"))
    assert found.key == Messages(SAVED, by_uid=False)
    assert found.returns == Returns(
        Wanted.MIN | Wanted.SAVE | Wanted.PARTIAL, Partial(1, 100, True)
    )
    assert parse_search(_cursor(b" RETURN () SEEN")).returns == Returns(Wanted.ALL)
    assert parse_search(_cursor(b" YOUNGER 5")).key == Younger(5)


def test_fuzzy_keys_are_texts_that_are_not_excluded() -> None:
    found = parse_search(_cursor(b" FUZZY (SUBJECT a OR TEXT b SEEN NOT BODY c) FROM d")).key
    assert found == And(
        (
            And(
                (
                    Fuzzy(InHeader("subject", "a")),
                    Or(Fuzzy(InText("b")), HasFlag(SEEN)),
                    Not(InBody("c")),
                )
            ),
            InHeader("from", "d"),
        )
    )


def test_relevancy_needs_fuzzy() -> None:
    wanted = parse_search(_cursor(b" RETURN (RELEVANCY ALL) FUZZY SEEN")).returns
    assert wanted == Returns(Wanted.RELEVANCY | Wanted.ALL)
    assert parse_sort(_cursor(b" (RELEVANCY) UTF-8 FUZZY BODY x")).criteria == (
        (SortKey.RELEVANCY, False),
    )
    assert parse_sort(_cursor(b" RETURN (RELEVANCY) (DATE) UTF-8 FUZZY BODY x")).returns
    for text in (b" RETURN (RELEVANCY) BODY x", b" RETURN (RELEVANCY) NOT OR SEEN BODY x"):
        with pytest.raises(ProtocolError):
            parse_search(_cursor(text))
    for text in (b" (RELEVANCY) UTF-8 BODY x", b" RETURN (RELEVANCY) (DATE) UTF-8 BODY x"):
        with pytest.raises(ProtocolError):
            parse_sort(_cursor(text))


def test_relevancies_are_those_of_what_is_told() -> None:
    scores = (4, 99, 42)
    everything = Returns(Wanted.ALL | Wanted.RELEVANCY)
    assert (
        esearch(b"B1", everything, [1, 5, 10], by_uid=False, scores=scores)
        == b'ESEARCH (TAG "B1") ALL 1,5,10 RELEVANCY (4 99 42)'
    )
    some = Returns(Wanted.PARTIAL | Wanted.RELEVANCY, Partial(2, 9, False))
    assert (
        esearch(b"B1", some, [1, 5, 10], by_uid=True, scores=scores)
        == b'ESEARCH (TAG "B1") UID PARTIAL (2:9 5,10) RELEVANCY (99 42)'
    )
    assert esearch(b"B1", everything, [], by_uid=False) == b'ESEARCH (TAG "B1") RELEVANCY ()'


def test_uids_after_and_before() -> None:
    nothing = Not(Everything())
    assert parse_search(_cursor(b" UIDAFTER 5")).key == Messages(
        SequenceSet(((6, 2**32 - 1),)), by_uid=True
    )
    assert parse_search(_cursor(b" UIDAFTER 4294967295")).key == nothing
    assert parse_search(_cursor(b" UIDBEFORE 5")).key == Messages(
        SequenceSet(((1, 4),)), by_uid=True
    )
    assert parse_search(_cursor(b" UIDBEFORE 1")).key == nothing


@pytest.mark.parametrize(
    ("returns", "kept"),
    [
        (None, 3),
        (Returns(Wanted.ALL | Wanted.COUNT), 3),
        (Returns(Wanted.RELEVANCY), 3),
        (Returns(Wanted.SAVE), 3),
        (Returns(Wanted.SAVE | Wanted.COUNT), 3),
        (Returns(Wanted.SAVE | Wanted.MIN), 5),
        (Returns(Wanted.MIN | Wanted.MAX | Wanted.COUNT), 5),
        (Returns(Wanted.PARTIAL, Partial(1, 3, False)), 5),
        (Returns(Wanted.PARTIAL, Partial(1, 4, True)), 3),
    ],
)
def test_only_what_is_told_is_limited(returns: Returns | None, kept: int) -> None:
    assert newest(returns, [1, 2, 4, 8, 9], 3) == [1, 2, 4, 8, 9][-kept:]


def test_object_ids_and_save_dates() -> None:
    email = id_text(IdKind.EMAIL, 7).encode()
    assert parse_search(_cursor(b" emailid " + email)).key == HasEmailId(7)
    assert parse_search(_cursor(b" EMAILID " + email.upper())).key == HasEmailId(None)
    assert parse_search(_cursor(b" THREADID " + email)).key == HasThreadId(None)
    assert parse_search(_cursor(b" SAVEDBEFORE 1-Feb-2020")).key == Saved(
        Order.BEFORE, date(2020, 2, 1)
    )
    assert parse_search(_cursor(b" SAVEDATESUPPORTED")).key == Everything()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b" 1", True),
        (b" UID 1 NOT OR SEEN (SEEN 3)", True),
        (b" OR 2 SEEN", True),
        (b" UID 1:* $ NOT $ OR SEEN UID 2", False),
    ],
)
def test_whether_sequence_numbers_are_named(text: bytes, names: bool) -> None:
    assert names_numbers(parse_search(_cursor(text)).key) is names


@pytest.mark.parametrize(
    "text",
    [
        b" RETURN (ALL PARTIAL 1:2) ALL",
        b" RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL",
        b" RETURN (PARTIAL -1:2) ALL",
        b" RETURN (PARTIAL 0:2) ALL",
        b" RETURN (PARTIAL 1:*) ALL",
        b" RETURN (MIN",
        b" RETURN (MIN)",
        b" RETURN () ",
        b" OLDER 0",
        b" $1",
        b" EMAILID a.b",
        b" THREADID " + b"a" * 256,
        b" SAVEDON x",
    ],
)
def test_what_is_no_search(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_search(_cursor(text))


@pytest.mark.parametrize(("options", "saves"), [(b"RETURN (SAVE) ", True), (b"", False)])
def test_an_unknown_charset_tells_whether_the_result_was_to_be_saved(
    options: bytes, saves: bool
) -> None:
    with pytest.raises(BadCharset) as caught:
        parse_search(_cursor(b" " + options + b"CHARSET rot13 TEXT x"))
    assert caught.value.saves is saves


def test_sort_and_thread() -> None:
    assert parse_sort(_cursor(b" (reverse date Subject) utf-8 SEEN")) == Sort(
        ((SortKey.DATE, True), (SortKey.SUBJECT, False)), HasFlag(SEEN), by_uid=False
    )
    assert parse_thread(_cursor(b" references US-ASCII ALL")) == Thread(
        Algorithm.REFERENCES, Everything(), by_uid=False
    )
    for text in (b" (REVERSE) UTF-8 ALL", b" () UTF-8 ALL", b" (DATE) UTF-8", b" DATE UTF-8 ALL"):
        with pytest.raises(ProtocolError):
            parse_sort(_cursor(text))
    with pytest.raises(ProtocolError):
        parse_sort(_cursor(b" (" + b" ".join([b"DATE"] * 21) + b") UTF-8 ALL"))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10))
def test_partial_is_a_stretch_from_either_end(first: int, last: int, count: int) -> None:
    found = list(range(100, 100 + count))
    low, high = sorted((first, last))
    forward = [each for place, each in enumerate(found, 1) if low <= place <= high]
    assert Partial(low, high, False).of(found) == forward
    backward = [each for place, each in enumerate(found) if low <= count - place <= high]
    assert Partial(low, high, True).of(found) == backward


_FOUND = [2, 10, 11, 15, 21]
_PART = Partial(2, 3, False)


@pytest.mark.parametrize(
    ("wanted", "partial", "saved"),
    [
        # RFC 5182 §2.4 and RFC 9394 §3.2, their tables
        (Wanted.SAVE, None, _FOUND),
        (Wanted.SAVE | Wanted.MIN, None, [2]),
        (Wanted.SAVE | Wanted.MAX, None, [21]),
        (Wanted.SAVE | Wanted.MIN | Wanted.MAX, None, [2, 21]),
        (Wanted.SAVE | Wanted.ALL | Wanted.MIN, None, _FOUND),
        (Wanted.SAVE | Wanted.COUNT | Wanted.MAX, None, _FOUND),
        (Wanted.SAVE | Wanted.PARTIAL, _PART, [10, 11]),
        (Wanted.SAVE | Wanted.PARTIAL | Wanted.MIN, _PART, [2, 10, 11]),
        (Wanted.SAVE | Wanted.PARTIAL | Wanted.MAX, _PART, [10, 11, 21]),
        (Wanted.SAVE | Wanted.PARTIAL | Wanted.MIN | Wanted.MAX, _PART, [2, 10, 11, 21]),
        (Wanted.SAVE | Wanted.PARTIAL | Wanted.COUNT | Wanted.MIN, _PART, _FOUND),
    ],
)
def test_what_is_saved(wanted: Wanted, partial: Partial | None, saved: list[int]) -> None:
    assert to_save(Returns(wanted, partial), _FOUND) == saved
    assert to_save(Returns(wanted, partial), []) == []


def test_esearch_responses() -> None:
    everything = Returns(Wanted.MIN | Wanted.MAX | Wanted.ALL | Wanted.COUNT)
    assert (
        esearch(b"A1", everything, _FOUND, by_uid=True)
        == b'ESEARCH (TAG "A1") UID MIN 2 MAX 21 ALL 2,10:11,15,21 COUNT 5'
    )
    assert esearch(b"A1", everything, [], by_uid=False) == b'ESEARCH (TAG "A1") COUNT 0'
    assert esearch(b"A1", Returns(Wanted.SAVE), _FOUND, by_uid=False) is None
    part = Returns(Wanted.PARTIAL, _PART)
    assert esearch(b"x", part, _FOUND, by_uid=False) == b'ESEARCH (TAG "x") PARTIAL (2:3 10:11)'
    assert esearch(b"x", part, [7], by_uid=False) == b'ESEARCH (TAG "x") PARTIAL (2:3 NIL)'
    # in the order of a SORT, and only rising runs are ranges (RFC 5267 §3.2)
    assert (
        esearch(b"x", Returns(Wanted.ALL), [9, 8, 3, 4, 1], by_uid=False)
        == b'ESEARCH (TAG "x") ALL 9,8,3:4,1'
    )
