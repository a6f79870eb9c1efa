"""What creations and patches make of the records of a type (RFC 8620 §5.3).

A type is a table of its properties. Values come in as JSON and go out as the readers of the table
return them; what cannot be done raises a SetError.
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from mailserver.jmap.protocol.errors import SetError, invalid_properties
from mailserver.jmap.protocol.properties import Reader, WrongType

REQUIRED: Final = object()  # the default of a property that has none
MAX_TOKENS = 16  # of one pointer
_ESCAPE = re.compile(r"~(?![01])")

Resolve = Callable[[str], str | None]  # `#creation-id` or an id -> id; None: there is none such
Pointer = tuple[str, ...]


class Settable(Enum):
    """When a client may set a property."""

    ALWAYS = auto()
    AT_CREATION = auto()  # immutable afterwards
    NEVER = auto()  # set by the server


@dataclass(frozen=True, slots=True)
class Property:
    """One property of a type."""

    read: Reader[Any]
    default: object = REQUIRED  # as `read` would return it
    settable: Settable = Settable.ALWAYS
    refers: bool = False  # the value, or the names in it, are ids or `#creation-id`


Table = Mapping[str, Property]


def server_set(read: Reader[Any]) -> Property:
    """Declare a property that only the server sets."""
    return Property(read, None, Settable.NEVER)


# Creations ---------------------------------------------------------------------------------------


def created(table: Table, given: Mapping[str, object], resolve: Resolve) -> dict[str, Any]:
    """Return the properties of a new record, defaults included; all that is wrong is named."""
    wrong: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, value in given.items():
        known = table.get(name)
        if known is None:
            wrong[name] = "is not a property"
        elif known.settable is Settable.NEVER:
            wrong[name] = "is set by the server"
        else:
            _read(known, name, value, resolve, values, wrong)
    for name, known in table.items():
        if name in values or name in wrong or known.settable is Settable.NEVER:
            continue
        if known.default is REQUIRED:
            wrong[name] = "is missing"
        else:
            values[name] = known.default
    if wrong:
        raise _invalid(wrong)
    return values


def _read(
    known: Property,
    name: str,
    value: object,
    resolve: Resolve,
    values: dict[str, Any],
    wrong: dict[str, str],
) -> None:
    try:
        values[name] = known.read(_resolved(value, resolve) if known.refers else value)
    except WrongType as error:
        wrong[name] = f"must be {error}"


def _resolved(value: object, resolve: Resolve) -> object:
    if isinstance(value, str):
        return _known(value, resolve)
    if isinstance(value, dict):
        return {_known(name, resolve): each for name, each in value.items()}
    if isinstance(value, list):
        return [_known(each, resolve) if isinstance(each, str) else each for each in value]
    return value


def _known(text: str, resolve: Resolve) -> str:
    found = resolve(text)
    if found is None:
        raise WrongType("an id, or # and the id of a creation that succeeded")
    return found


def _invalid(wrong: Mapping[str, str]) -> SetError:
    name, why = next(iter(wrong.items()))
    return invalid_properties(list(wrong), f"{name[:50]} {why}")


def in_order(table: Table, create: Mapping[str, Mapping[str, object]]) -> list[list[str]]:
    """Return creation ids in groups, each of which refers to groups before it only.

    What refers to itself comes last; there the references lead nowhere.
    """
    waiting = {name: _references(table, given) & create.keys() for name, given in create.items()}
    groups: list[list[str]] = []
    while waiting:
        ready = [name for name, needs in waiting.items() if not needs & waiting.keys()]
        group = ready or list(waiting)
        groups.append(group)
        for name in group:
            del waiting[name]
    return groups


def _references(table: Table, given: Mapping[str, object]) -> set[str]:
    found: set[str] = set()
    for name, value in given.items():
        known = table.get(name)
        if known is None or not known.refers:
            continue
        texts = value if isinstance(value, dict | list) else (value,)
        found.update(each[1:] for each in texts if isinstance(each, str) and each[:1] == "#")
    return found


# Patches -----------------------------------------------------------------------------------------


def pointers(patch: Mapping[str, object]) -> dict[Pointer, object]:
    """Read the paths of a PatchObject; none may lead into what another one replaces."""
    found: dict[Pointer, object] = {}
    for path, value in patch.items():
        tokens = path.split("/")
        if len(tokens) > MAX_TOKENS or _ESCAPE.search(path):
            raise _invalid_patch(path)
        found[tuple(each.replace("~1", "/").replace("~0", "~") for each in tokens)] = value
    for pointer in found:
        if any(pointer[:length] in found for length in range(1, len(pointer))):
            raise _invalid_patch("/".join(pointer))
    return found


def _invalid_patch(path: str) -> SetError:
    return SetError("invalidPatch", f"the path {path[:80]!r} cannot be patched")


def patched(
    table: Table,
    current: Mapping[str, object],
    patch: Mapping[str, object],
    resolve: Resolve,
) -> dict[str, Any]:
    """Return the properties that a patch changes, with their new values.

    `current` is the record as /get shows it. What only the server sets, or what cannot change, may
    be in the patch if it stays what it is.
    """
    wrong: dict[str, str] = {}
    changed, reset = _applied(table, current, patch, resolve, wrong)
    values: dict[str, Any] = {name: table[name].default for name in reset}
    for name, value in changed.items():
        if value != current.get(name):
            _read(table[name], name, value, resolve, values, wrong)
    for name in [*values]:
        if table[name].settable is Settable.ALWAYS:
            continue
        if name in changed or current.get(name) is not None:
            wrong[name] = "cannot be changed"
        del values[name]
    if wrong:
        raise _invalid(wrong)
    return values


def _applied(
    table: Table,
    current: Mapping[str, object],
    patch: Mapping[str, object],
    resolve: Resolve,
    wrong: dict[str, str],
) -> tuple[dict[str, object], set[str]]:
    """Return new JSON values, and the properties that get their default."""
    changed: dict[str, object] = {}
    reset: set[str] = set()
    for pointer, value in pointers(patch).items():
        name, *inner = pointer
        if name not in table:
            if inner:
                raise _invalid_patch("/".join(pointer))
            wrong[name] = "is not a property"
        elif inner:
            target = changed.setdefault(name, copy.deepcopy(current.get(name)))
            if table[name].refers:
                inner[0] = resolve(inner[0]) or inner[0]
            _put(target, inner, value, pointer)
        elif value is None and table[name].default is not REQUIRED:
            reset.add(name)
        else:
            changed[name] = value
    return changed, reset


def _put(target: object, tokens: list[str], value: object, pointer: Pointer) -> None:
    """Set or remove what a pointer inside a property leads to; its parents must be there."""
    *parents, last = tokens
    for token in parents:
        target = target.get(token) if isinstance(target, dict) else None
    if not isinstance(target, dict):
        raise _invalid_patch("/".join(pointer))
    if value is None:
        target.pop(last, None)
    else:
        target[last] = value
