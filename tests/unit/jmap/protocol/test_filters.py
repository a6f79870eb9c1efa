"""Filters, sorts and header properties."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver import mime
from mailserver.jmap.protocol.errors import MethodError
from mailserver.jmap.protocol.filters import email_filter, email_sort, words_of
from mailserver.jmap.protocol.headers import parse_header_property
from mailserver.mail.criteria import All, AnyOf, Comparator, HasKeyword, NoneOf, Size, SortKey


def kind_of(error: pytest.ExceptionInfo[MethodError]) -> str:
    return error.value.kind


def test_several_conditions_are_all_needed() -> None:
    assert email_filter({"minSize": 1, "hasKeyword": "$Seen"}) == All(
        (Size(minimum=1), HasKeyword("$seen"))
    )
    assert email_filter(None) == email_filter({}) == All(())


def test_operators() -> None:
    condition: dict[str, object] = {"hasKeyword": "a"}
    has = HasKeyword("a")
    for operator, kind in (("AND", All), ("OR", AnyOf), ("NOT", NoneOf)):
        found = email_filter({"operator": operator, "conditions": [condition, condition]})
        assert found == kind((has, has))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("one Two", ("one", "two")), ('"one two" three', ("one two", "three")),
        ("'it\\'s' \"a\\\\b\"", ("it's", "a\\b")), ("don't 5\"", ("don't", '5"')),
        ("'open end", ("'open", "end")), ("", ()), ("  ", ()), ('""', ()), ("Straße", ("strasse",)),
    ],
)  # fmt: skip
def test_words_and_phrases(query: str, words: tuple[str, ...]) -> None:
    assert words_of(query) == words


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(depth):
        found = {"operator": "AND", "conditions": [found]}
    return found


@pytest.mark.parametrize(
    "value",
    [nested(100), {"operator": "OR", "conditions": [{}] * 1000}, {"text": "x" * 5000},
     {"text": "x " * 400}, {"unknown": 1}],
)  # fmt: skip
def test_too_much_is_unsupported(value: dict[str, Any]) -> None:
    with pytest.raises(MethodError) as caught:
        email_filter(value)
    assert kind_of(caught) == "unsupportedFilter"


@pytest.mark.parametrize(
    "value",
    [{"inMailbox": 1}, {"before": "yesterday"}, {"before": "2026-01-01T00:00:00+01:00"},
     {"minSize": -1}, {"hasAttachment": "yes"}, {"header": []}, {"header": ["a", "b", "c"]},
     {"header": "a"}, {"operator": "AND"}, {"operator": "AND", "conditions": [1]},
     {"operator": "AND", "conditions": [], "hasKeyword": "a"}, {"operator": 1, "conditions": []}],
)  # fmt: skip
def test_wrong_types_are_invalid(value: dict[str, Any]) -> None:
    with pytest.raises(MethodError) as caught:
        email_filter(value)
    assert kind_of(caught) == "invalidArguments"


def test_sorts() -> None:
    assert email_sort(None) == ()
    given_sort: list[dict[str, object]] = [
        {"property": "someInThreadHaveKeyword", "keyword": "$Flagged", "isAscending": False},
        {"property": "subject", "collation": "i;ascii-casemap"},
    ]
    assert email_sort(given_sort) == (
        Comparator(SortKey.SOME_IN_THREAD_HAVE_KEYWORD, False, "$flagged"),
        Comparator(SortKey.SUBJECT, collation="i;ascii-casemap"),
    )


CONDITIONS = st.sampled_from(
    [{"hasKeyword": "a"}, {"minSize": 1}, {"header": ["a"]}, {"text": "a 'b c'"}, {"x": 1}, {}]
)
TREES = st.recursive(
    CONDITIONS,
    lambda inner: st.fixed_dictionaries(
        {"operator": st.sampled_from(["AND", "OR", "NOT", "XOR"]), "conditions": st.lists(inner)}
    ),
    max_leaves=20,
)


@settings(max_examples=150)
@given(TREES)
def test_any_tree_is_read_or_refused(tree: dict[str, Any]) -> None:
    kind = "read"
    try:
        email_filter(tree)
    except MethodError as error:
        kind = error.kind
    assert kind in ("read", "invalidArguments", "unsupportedFilter")


@pytest.mark.parametrize(
    "name",
    ["header:", "header:a b", "header:From:asDate", "header:Subject:asAddresses",
     "header:Received:asText", "header:Date:asnothing", "header:X:all:asText", "header:X:all:all",
     "header:List-Post:asText", "header:é"],
)  # fmt: skip
def test_forms_that_are_forbidden(name: str) -> None:
    with pytest.raises(MethodError) as caught:
        parse_header_property(name)
    assert kind_of(caught) == "invalidArguments"


def test_forms_of_other_headers_are_free() -> None:
    block = mime.HeaderBlock(b"X-Custom: <a@b>\r\nList-Id: =?utf-8?q?=C3=BC?= <l>\r\n\r\n")
    assert parse_header_property("header:x-custom:asMessageIds").value(block) == ["a@b"]
    assert parse_header_property("header:X-Custom:asURLs:all").value(block) == [["a@b"]]
    assert parse_header_property("header:List-Id:asText").value(block) == "ü <l>"
