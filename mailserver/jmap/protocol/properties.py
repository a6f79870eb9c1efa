"""Arguments of methods: one layer that checks names and types for all of them.

A method's arguments are a frozen dataclass whose fields are made by `required` and `optional`;
`parse` reads a JSON object into it, or raises `invalidArguments`.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from mailserver.jmap.protocol.errors import MethodError, invalid_arguments

T = TypeVar("T")
Reader = Callable[[object], T]  # raises WrongType

MAX_INT = 2**53 - 1  # RFC 8620 §1.3


class WrongType(Exception):
    """A value is not what an argument takes; the text names what is."""


def required(name: str, read: Reader[T]) -> T:
    """Declare an argument that must be there."""
    field: T = dataclasses.field(metadata={"name": name, "read": read})
    return field


def optional(name: str, read: Reader[T], default: T) -> T:
    """Declare an argument with a default; null counts as absent only where the reader takes it."""
    field: T = dataclasses.field(default=default, metadata={"name": name, "read": read})
    return field


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[str, Reader[Any], bool]]:
    """Return JSON name -> field name, reader, whether it is required."""
    return {
        field.metadata["name"]: (
            field.name,
            field.metadata["read"],
            field.default is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
    }


def parse(kind: Callable[..., T], arguments: Mapping[str, object]) -> T:
    """Read the arguments of a method; raise `invalidArguments` naming the one that is wrong."""
    fields = _fields(kind)
    values: dict[str, object] = {}
    for name, value in arguments.items():
        known = fields.get(name)
        if known is None:
            raise invalid_arguments(f"there is no argument {name[:50]!r}")
        try:
            values[known[0]] = known[1](value)
        except WrongType as error:
            raise invalid_arguments(f"{name} must be {error}") from None
    for name, (field, _, needed) in fields.items():
        if needed and field not in values:
            raise invalid_arguments(f"{name} is missing")
    return kind(**values)


# Readers -----------------------------------------------------------------------------------------


def text(value: object) -> str:
    """Read a String."""
    if not isinstance(value, str):
        raise WrongType("a string")
    return value


def short_text(most: int) -> Reader[str]:
    """Return what reads a String of at most so many characters."""

    def read(value: object) -> str:
        if len(text(value)) > most:
            raise WrongType(f"at most {most} characters long")
        return text(value)

    return read


def boolean(value: object) -> bool:
    """Read a Boolean."""
    if not isinstance(value, bool):
        raise WrongType("true or false")
    return value


def integer(value: object) -> int:
    """Read an Int (RFC 8620 §1.3)."""
    if type(value) is not int or abs(value) > MAX_INT:
        raise WrongType("an integer")
    return value


def unsigned(value: object) -> int:
    """Read an UnsignedInt (RFC 8620 §1.3)."""
    if type(value) is not int or not 0 <= value <= MAX_INT:
        raise WrongType("an integer of zero or more")
    return value


def positive(value: object) -> int:
    """Read an UnsignedInt that is not zero."""
    if type(value) is not int or not 0 < value <= MAX_INT:
        raise WrongType("an integer greater than zero")
    return value


def texts(value: object) -> tuple[str, ...]:
    """Read a String[]; ids are strings too: one that nobody made is merely unknown."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise WrongType("an array of strings")
    return tuple(value)


def mapping(value: object) -> dict[str, object]:
    """Read an object."""
    if not isinstance(value, dict):
        raise WrongType("an object")
    return value


def mappings(value: object) -> tuple[dict[str, object], ...]:
    """Read an array of objects."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise WrongType("an array of objects")
    return tuple(value)


def objects(value: object) -> dict[str, dict[str, object]]:
    """Read a map of ids to objects."""
    if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):
        raise WrongType("a map of ids to objects")
    return value


def marks(value: object) -> frozenset[str]:
    """Read a set, which JMAP writes as a map to true."""
    if not isinstance(value, dict) or not all(each is True for each in value.values()):
        raise WrongType("a map whose values are true")
    return frozenset(value)


def nullable(read: Reader[T]) -> Reader[T | None]:
    """Let a reader also take null."""

    def read_nullable(value: object) -> T | None:
        if value is None:
            return None
        try:
            return read(value)
        except WrongType as error:
            raise WrongType(f"{error}, or null") from None

    return read_nullable


def check_properties(asked: Collection[str] | None, known: Collection[str]) -> frozenset[str]:
    """Return the properties a /get shows: all for null, `id` always (RFC 8620 §5.1)."""
    if asked is None:
        return frozenset(known)
    wrong = next((name for name in asked if name not in known), None)
    if wrong is not None:
        raise invalid_arguments(f"there is no property {wrong[:50]!r}")
    return frozenset(asked) | {"id"}


def unique_ids(ids: Collection[str], limit: int) -> list[str]:
    """Return each id once; raise `requestTooLarge` above the limit (RFC 8620 §5.1)."""
    if len(ids) > limit:
        raise MethodError("requestTooLarge", f"at most {limit} ids in one call")
    return list(dict.fromkeys(ids))
