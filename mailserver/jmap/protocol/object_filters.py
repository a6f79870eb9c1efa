"""Filters of types that are few enough to be tested one by one (RFC 8620 §5.5)."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from mailserver.jmap.protocol.errors import invalid_arguments
from mailserver.jmap.protocol.filters import parse_tree, unsupported_filter
from mailserver.jmap.protocol.properties import Reader, WrongType

T = TypeVar("T")
Test = Callable[[T], bool]


def parse_test(
    value: Mapping[str, object] | None, conditions: Mapping[str, Reader[Test[T]]]
) -> Test[T]:
    """Read a filter into a test of one object; null matches everything.

    `conditions` is what reads each property of a FilterCondition.
    """

    def condition(properties: dict[str, object]) -> Test[T]:
        tests = []
        for name, wanted in properties.items():
            if name not in conditions:
                raise unsupported_filter(f"there is no filter {name[:50]!r}")
            try:
                tests.append(conditions[name](wanted))
            except WrongType as error:
                raise invalid_arguments(f"filter {name} must be {error}") from None
        return _combine("AND", tuple(tests))

    return _combine("AND", ()) if value is None else parse_tree(value, condition, _combine)


def _combine(operator: str, tests: tuple[Test[T], ...]) -> Test[T]:
    if operator == "AND":
        return lambda each: all(test(each) for test in tests)
    if operator == "OR":
        return lambda each: any(test(each) for test in tests)
    return lambda each: not any(test(each) for test in tests)
