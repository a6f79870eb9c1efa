"""Arguments of methods."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.jmap.methods import METHODS
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.errors import MethodError
from mailserver.jmap.protocol.properties import nullable, optional, parse, required


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    account_id: str = required("accountId", properties.text)
    ids: tuple[str, ...] | None = optional("ids", nullable(properties.texts), None)
    limit: int = optional("limit", properties.unsigned, 7)
    yes: bool = optional("yes", properties.boolean, False)


def refusal(arguments: dict[str, object]) -> str | None:
    with pytest.raises(MethodError) as caught:
        parse(Example, arguments)
    assert caught.value.kind == "invalidArguments"
    return caught.value.description


def test_reads_and_defaults() -> None:
    assert parse(Example, {"accountId": "a"}) == Example(account_id="a")
    whole = {"accountId": "a", "ids": ["x"], "limit": 0, "yes": True}
    assert parse(Example, whole) == Example(account_id="a", ids=("x",), limit=0, yes=True)
    assert parse(Example, {"accountId": "a", "ids": None}).ids is None


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"accountId": None}, "accountId"), ({"accountId": 1}, "accountId"), ({"ids": "x"}, "ids"),
        ({"ids": [1]}, "ids"), ({"limit": -1}, "limit"), ({"limit": 1.0}, "limit"),
        ({"limit": True}, "limit"), ({"limit": 2**53}, "limit"), ({"yes": 0}, "yes"),
        ({"yes": None}, "yes"), ({"more": 1}, "more"),
    ],
)  # fmt: skip
def test_names_the_argument_that_is_wrong(wrong: dict[str, object], named: str) -> None:
    description = refusal({"accountId": "a", **wrong})
    assert description is not None
    assert named in description


def test_a_missing_argument_is_named() -> None:
    assert refusal({}) == "accountId is missing"


def test_properties_always_show_the_id() -> None:
    assert properties.check_properties(("name",), ("id", "name", "role")) == {"id", "name"}
    assert properties.check_properties(None, ("id", "name")) == {"id", "name"}
    with pytest.raises(MethodError):
        properties.check_properties(("nothing",), ("id",))


def test_ids_are_unique_and_limited() -> None:
    assert properties.unique_ids(("b", "a", "b"), 3) == ["b", "a"]
    with pytest.raises(MethodError) as caught:
        properties.unique_ids(("a", "b"), 1)
    assert caught.value.kind == "requestTooLarge"


ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
VALUES = ANY | st.lists(ANY, max_size=3) | st.dictionaries(st.text(max_size=3), ANY, max_size=2)


@pytest.mark.parametrize("method", [name for name, spec in METHODS.items() if spec.arguments])
@settings(max_examples=60)
@given(data=st.data())
def test_any_arguments_are_read_or_refused(method: str, data: st.DataObject) -> None:
    kind = METHODS[method].arguments
    assert kind is not None
    names = list(properties._fields(kind))
    drawn = data.draw(st.dictionaries(st.sampled_from([*names, "x"]), VALUES, max_size=4))
    arguments = {"accountId": "a", "sinceState": "1", **drawn}
    if "sinceState" not in names and "sinceState" not in drawn:
        del arguments["sinceState"]
    outcome = "read"
    try:
        parse(kind, arguments)
    except MethodError as error:
        outcome = error.kind
    assert outcome in ("read", "invalidArguments")
    if outcome == "read":
        assert arguments.keys() <= set(names)
