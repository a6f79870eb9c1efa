"""Creations and patches of records (RFC 8620 §5.3)."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.jmap.protocol.errors import SetError
from mailserver.jmap.protocol.properties import boolean, marks, nullable, text, texts, unsigned
from mailserver.jmap.protocol.records import (
    Property,
    Settable,
    created,
    in_order,
    patched,
    pointers,
    server_set,
)

TABLE = {
    "id": server_set(text),
    "name": Property(text),
    "size": Property(unsigned, 7),
    "parentId": Property(nullable(text), None, refers=True),
    "places": Property(marks, frozenset(), refers=True),
    "tags": Property(texts, ()),
    "a/b~c": Property(nullable(boolean), None),
    "kind": Property(text, "plain", settable=Settable.AT_CREATION),
}
RECORD = {
    "id": "1",
    "name": "one",
    "size": 7,
    "parentId": None,
    "places": {"p": True},
    "tags": ["x", "y"],
    "a/b~c": None,
    "kind": "plain",
}


def resolve(text: str) -> str | None:
    return {"#new": "n1"}.get(text) if text.startswith("#") else text


def refused(patch: dict[str, Any]) -> tuple[str, Any]:
    with pytest.raises(SetError) as caught:
        patched(TABLE, RECORD, patch, resolve)
    return caught.value.kind, caught.value.properties


def test_a_creation_gets_defaults_and_resolved_ids() -> None:
    assert created(TABLE, {"name": "x", "parentId": "#new", "places": {"#new": True}}, resolve) == {
        "name": "x",
        "size": 7,
        "parentId": "n1",
        "places": frozenset({"n1"}),
        "tags": (),
        "a/b~c": None,
        "kind": "plain",
    }


def test_all_that_is_wrong_with_a_creation_is_named() -> None:
    wrong = {"id": "1", "size": -1, "parentId": "#none", "places": {"#none": True}, "other": 1}
    with pytest.raises(SetError) as caught:
        created(TABLE, wrong, resolve)
    assert caught.value.kind == "invalidProperties"
    assert set(caught.value.properties or ()) == {
        "id", "size", "parentId", "places", "other", "name",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("patch", "changes"),
    [
        ({}, {}),
        ({"name": "one"}, {}),
        ({"name": "two"}, {"name": "two"}),
        ({"id": "1", "kind": "plain", "size": 8}, {"size": 8}),
        ({"size": None}, {"size": 7}),
        ({"parentId": "#new"}, {"parentId": "n1"}),
        ({"places/q": True}, {"places": frozenset("pq")}),
        ({"places/#new": True, "places/p": None}, {"places": frozenset({"n1"})}),
        ({"places/absent": None}, {}),
        ({"places": {"q": True}}, {"places": frozenset("q")}),
        ({"places": None}, {"places": frozenset()}),
        ({"tags": ["z"]}, {"tags": ("z",)}),
        ({"a~1b~0c": True}, {"a/b~c": True}),
    ],
)
def test_patches(patch: dict[str, Any], changes: dict[str, Any]) -> None:
    before = copy.deepcopy(RECORD)
    assert patched(TABLE, RECORD, patch, resolve) == changes
    assert before == RECORD


@pytest.mark.parametrize(
    "patch",
    [
        {"tags/0": "z"},  # inside an array
        {"other/x": 1}, {"name/x": 1}, {"parentId/x": 1}, {"places/q/r": True},  # no such parent
        {"places": {}, "places/p": None},  # one is the prefix of the other
        {"/name": "x"}, {"a~2b": 1}, {"places~": 1}, {"/".join("p" * 17): 1},
    ],
)  # fmt: skip
def test_paths_that_cannot_be_patched(patch: dict[str, Any]) -> None:
    assert refused(patch)[0] == "invalidPatch"


@pytest.mark.parametrize(
    ("patch", "name"),
    [
        ({"other": 1}, "other"), ({"": 1}, ""), ({"id": "2"}, "id"), ({"id": None}, "id"),
        ({"kind": "rich"}, "kind"), ({"name": None}, "name"), ({"size": "8"}, "size"),
        ({"places/p": False}, "places"), ({"parentId": "#none"}, "parentId"),
    ],
)  # fmt: skip
def test_values_that_a_property_cannot_have(patch: dict[str, Any], name: str) -> None:
    assert refused(patch) == ("invalidProperties", [name])


def test_creations_are_ordered_by_what_they_refer_to() -> None:
    create: dict[str, dict[str, object]] = {
        "c": {"places": {"#b": True, "#elsewhere": True}},
        "b": {"parentId": "#a"},
        "a": {"name": "#c"},  # no reference: a name may look like one
        "x": {"parentId": "#y"},
        "y": {"parentId": "#x"},
    }
    assert in_order(TABLE, create) == [["a"], ["b"], ["c"], ["x", "y"]]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["x", "#new", "#none"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("pq#", max_size=2), inner),
    max_leaves=4,
)
PATHS = st.lists(st.sampled_from([*TABLE, "p", "0", "x~1", "~0", ""]), min_size=1, max_size=4)


@settings(max_examples=300)
@given(st.dictionaries(PATHS.map("/".join), JSON, max_size=4))
def test_any_patch_is_applied_or_refused(patch: dict[str, Any]) -> None:
    before = copy.deepcopy(RECORD)
    outcome = attempt(patch)
    if isinstance(outcome, str):
        assert outcome in {"invalidPatch", "invalidProperties"}
    else:
        assert not outcome & {"id", "kind"}
        assert {pointer[0] for pointer in pointers(patch)} <= TABLE.keys()
    assert before == RECORD


def attempt(patch: dict[str, Any]) -> str | set[str]:
    """Return the kind of the error, or which properties change."""
    try:
        return set(patched(TABLE, RECORD, patch, resolve))
    except SetError as error:
        return error.kind
