"""Result references and JSON pointers (RFC 8620 §3.7, RFC 6901)."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.jmap.protocol.errors import MethodError
from mailserver.jmap.protocol.references import Budget, Response, pointed, resolve

RFC6901 = {
    "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6,
    " ": 7, "m~n": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", RFC6901), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1),
        ("/c%d", 2), ("/e^f", 3), ("/g|h", 4), ("/i\\j", 5), ('/k"l', 6), ("/ ", 7), ("/m~0n", 8),
    ],
)  # fmt: skip
def test_json_pointers_of_rfc_6901(path: str, value: object) -> None:
    assert pointed(RFC6901, path) == value


@pytest.mark.parametrize(
    "path", ["foo", "/nothing", "/foo/2", "/foo/-1", "/foo/00", "/foo/-", "/foo/0/x", "/foo/*/x"]
)
def test_paths_that_lead_nowhere(path: str) -> None:
    with pytest.raises(MethodError) as caught:
        pointed(RFC6901, path)
    assert caught.value.kind == "invalidResultReference"


def test_star_maps_and_flattens() -> None:
    value = {"list": [{"ids": ["a", "b"], "id": 1}, {"ids": [], "id": 2}, {"ids": ["c"], "id": 3}]}
    assert pointed(value, "/list/*/id") == [1, 2, 3]
    assert pointed(value, "/list/*/ids") == ["a", "b", "c"]
    assert pointed({"a": [[1, 2], [3]]}, "/a/*") == [1, 2, 3]
    assert pointed({"*": 5}, "/*") == 5
    assert pointed({"list": []}, "/list/*/id") == []


def test_reads_ready_json() -> None:
    stored = orjson.Fragment(b'[{"email":"a@example.org"},{"email":"b@example.org"}]')
    assert pointed({"list": [{"from": stored}]}, "/list/*/from/*/email") == [
        "a@example.org",
        "b@example.org",
    ]
    responses: list[Response] = [("Email/get", {"list": [{"from": stored}]}, "0")]
    reference = {"resultOf": "0", "name": "Email/get", "path": "/list/0"}
    resolved = resolve({"#x": reference}, responses, Budget(1000))
    assert resolved == {"x": {"from": [{"email": "a@example.org"}, {"email": "b@example.org"}]}}


def test_uses_the_first_response_of_a_call() -> None:
    responses: list[Response] = [("A", {"x": 1}, "0"), ("B", {"x": 2}, "0")]
    reference = {"resultOf": "0", "name": "B", "path": "/x"}
    with pytest.raises(MethodError) as caught:
        resolve({"#a": reference}, responses, Budget(100))
    assert caught.value.kind == "invalidResultReference"
    assert resolve({"#a": {**reference, "name": "A"}}, responses, Budget(100)) == {"a": 1}


@pytest.mark.parametrize(
    "reference", [None, "x", [], {}, {"resultOf": "0", "name": "A"},
                  {"resultOf": "0", "name": "A", "path": 1},
                  {"resultOf": "0", "name": "A", "path": "/x", "more": 1}],
)  # fmt: skip
def test_malformed_references(reference: object) -> None:
    with pytest.raises(MethodError) as caught:
        resolve({"#a": reference}, [("A", {"x": 1}, "0")], Budget(100))
    assert caught.value.kind == "invalidArguments"


def test_a_chain_of_doublings_ends() -> None:
    responses: list[Response] = [("Core/echo", {"a": "x" * 100}, "0")]
    budget = Budget(100_000)

    def double() -> None:
        number = len(responses) - 1
        whole = {"resultOf": str(number), "name": "Core/echo", "path": ""}
        arguments = resolve({"#a": whole, "#b": whole}, responses, budget)
        responses.append(("Core/echo", arguments, str(number + 1)))

    def double_on() -> None:
        for _ in range(100):
            double()

    with pytest.raises(MethodError) as caught:
        double_on()
    assert caught.value.kind == "invalidResultReference"
    assert len(responses) < 15


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1000, 1000)
    | st.sampled_from(["", "a", "~", "/", "*"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["", "a", "b/c", "d~e", "0", "1"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def paths(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return every pointer into a value and what it points to."""
    found = [(prefix, value)]
    if isinstance(value, dict):
        for name, inner in value.items():
            token = name.replace("~", "~0").replace("/", "~1")
            found += paths(inner, f"{prefix}/{token}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += paths(inner, f"{prefix}/{index}")
    return found


@settings(max_examples=100)
@given(JSON)
def test_every_pointer_finds_its_value(value: Any) -> None:
    for path, expected in paths(value):
        assert pointed(value, path) == expected


@settings(max_examples=200)
@given(JSON, st.lists(st.sampled_from(["", "a", "b~1c", "d~0e", "0", "1", "*", "~", "-1"])))
def test_any_path_finds_something_or_is_refused(value: Any, tokens: list[str]) -> None:
    kind = "found"
    try:
        pointed(value, "".join("/" + token for token in tokens))
    except MethodError as error:
        kind = error.kind
    assert kind in ("found", "invalidResultReference")
