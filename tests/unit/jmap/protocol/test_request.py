"""Requests from octets (RFC 8620 §3.3, §3.6.1)."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.jmap.protocol.errors import Problem, RequestError
from mailserver.jmap.protocol.request import parse_request, read_json

VALID = {
    "using": ["urn:ietf:params:jmap:core"],
    "methodCalls": [["Core/echo", {"a": [1, {"b": "ü"}]}, "0"], ["Foo/get", {"#ids": {}}, "1"]],
    "createdIds": {"k1": "e1"},
}


def problem(body: bytes, max_calls: int = 4) -> Problem | None:
    try:
        parse_request(body, max_calls=max_calls)
    except RequestError as error:
        return error.problem
    return None


def test_reads_a_whole_request() -> None:
    request = parse_request(json.dumps(VALID).encode(), max_calls=2)
    assert request.using == {"urn:ietf:params:jmap:core"}
    assert [(call.method, call.id) for call in request.calls] == [
        ("Core/echo", "0"),
        ("Foo/get", "1"),
    ]
    assert request.calls[0].arguments == {"a": [1, {"b": "ü"}]}
    assert request.created_ids == {"k1": "e1"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff", b"nul", b"[1,]", b'{"a":1,"a":2}', b'[{"x":{"a":1,"\\u0061":2}}]',
        b"[" * 100_000, b'{"a":' * 50_000, b"NaN", b"[Infinity]", b'"\\ud800"', b'"\x00"', b"1 2",
    ],
)  # fmt: skip
def test_refuses_what_is_not_i_json(body: bytes) -> None:
    assert problem(body) is Problem.NOT_JSON


def test_reads_deep_and_large_values_that_are_i_json() -> None:
    assert read_json(b"[" * 500 + b"]" * 500)
    assert read_json(b"1" * 40) == pytest.approx(1.1111e39, rel=1e-4)
    assert read_json(b'{"a":1,"b":{"a":1}}') == {"a": 1, "b": {"a": 1}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("using", None), ("using", "x"), ("using", [1]), ("methodCalls", None),
        ("methodCalls", {}), ("methodCalls", [{}]), ("methodCalls", [["a", {}]]),
        ("methodCalls", [["a", {}, 1]]), ("methodCalls", [["a", [], "0"]]),
        ("methodCalls", [[1, {}, "0"]]), ("methodCalls", [["a", {}, "0", "x"]]),
        ("createdIds", []), ("createdIds", {"a": 1}),
    ],
)  # fmt: skip
def test_refuses_what_is_not_a_request(name: str, value: object) -> None:
    assert problem(json.dumps({**VALID, name: value}).encode()) is Problem.NOT_REQUEST


@pytest.mark.parametrize("name", ["using", "methodCalls"])
def test_needs_every_property(name: str) -> None:
    rest = {key: value for key, value in VALID.items() if key != name}
    assert problem(json.dumps(rest).encode()) is Problem.NOT_REQUEST


def test_limits_the_number_of_calls() -> None:
    body = json.dumps({"using": [], "methodCalls": [["a", {}, "0"]] * 5}).encode()
    assert problem(body, 5) is None
    with pytest.raises(RequestError) as caught:
        parse_request(body, max_calls=4)
    assert caught.value.body()["limit"] == "maxCallsInRequest"


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """Valid requests that were cut, doubled or changed in one octet."""
    body = json.dumps(VALID).encode()
    at = draw(st.integers(0, len(body) - 1))
    end = draw(st.integers(at, len(body)))
    return draw(
        st.sampled_from([body[:at], body[:at] + body[end:], body[:end] + body[at:], body + body])
        | st.binary(min_size=1, max_size=1).map(lambda one: body[:at] + one + body[at + 1 :])
    )


@settings(max_examples=200)
@given(broken())
def test_any_octets_are_a_request_or_a_problem(body: bytes) -> None:
    found = problem(body)
    assert found in (None, Problem.NOT_JSON, Problem.NOT_REQUEST)
    if found is None:
        assert isinstance(json.loads(body), dict)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@settings(max_examples=100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner),
        max_leaves=10,
    )
)
def test_arguments_come_through_unchanged(value: Any) -> None:
    body = json.dumps({"using": [], "methodCalls": [["Core/echo", {"value": value}, "0"]]})
    request = parse_request(body.encode(), max_calls=1)
    assert request.calls[0].arguments == {"value": value}
