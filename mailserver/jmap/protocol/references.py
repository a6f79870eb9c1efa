"""Result references: arguments taken from the responses so far (RFC 8620 §3.7)."""

import re
from collections.abc import Sequence
from typing import Any

import orjson

from mailserver.jmap.protocol.errors import MethodError, invalid_arguments

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
WILDCARD = "*"
MAX_DEPTH = 64  # reference tokens of one path

Response = tuple[str, Any, str]  # name, arguments, call id


class Budget:
    """How many octets of JSON the references of one request may still copy.

    Each call may take the whole response of the one before it several times, so without a bound
    the size grows exponentially with the number of calls.
    """

    __slots__ = ("left",)

    def __init__(self, octets: int) -> None:
        self.left = octets

    def take(self, octets: int) -> bool:
        """Take octets; False when there are not enough left."""
        self.left -= octets
        return self.left >= 0


def resolve(
    arguments: dict[str, Any], responses: Sequence[Response], budget: Budget
) -> dict[str, Any]:
    """Replace every `#name` argument by what it refers to."""
    if not any(name.startswith("#") for name in arguments):
        return arguments
    resolved: dict[str, Any] = {}
    for name, value in arguments.items():
        if not name.startswith("#"):
            resolved[name] = value
        elif name[1:] in arguments:
            raise invalid_arguments(f"{name[1:]} is given twice, once as a reference")
        else:
            resolved[name[1:]] = _value(value, responses, budget)
    return resolved


def _value(reference: object, responses: Sequence[Response], budget: Budget) -> Any:
    if not isinstance(reference, dict) or len(reference) != 3:
        raise _malformed()
    match reference:
        case {"resultOf": str() as call_id, "name": str() as name, "path": str() as path}:
            pass
        case _:
            raise _malformed()
    found = next((response for response in responses if response[2] == call_id), None)
    if found is None or found[0] != name:
        raise _unresolved("no earlier response has that call id and name")
    value = pointed(found[1], path)
    encoded = orjson.dumps(value)
    if not budget.take(len(encoded)):
        raise _unresolved("the references of this request copy too much")
    # values that are ready JSON text become readable only by reading them
    return value if _plain(value) else orjson.loads(encoded)


def _plain(value: object) -> bool:
    """Tell whether a value surely has no ready JSON text in it: ids, lists of ids, numbers."""
    if isinstance(value, list):
        return all(type(item) in (str, int, float, bool) for item in value)
    return value is None or isinstance(value, str | int | float | bool)


def pointed(value: Any, path: str) -> Any:
    """Follow a JSON Pointer with `*` for all items of an array, flattened (RFC 8620 §3.7)."""
    if path and not path.startswith("/"):
        raise _unresolved("the path is not a JSON Pointer")
    tokens = path.split("/")[1:]
    if len(tokens) > MAX_DEPTH:
        raise _unresolved("the path is too deep")
    return _follow(value, tokens, 0)


def _follow(value: Any, tokens: Sequence[str], at: int) -> Any:
    for position in range(at, len(tokens)):
        token = tokens[position]
        if isinstance(value, orjson.Fragment):
            value = orjson.loads(orjson.dumps(value))
        if token == WILDCARD and isinstance(value, list):
            return _mapped(value, tokens, position + 1)
        value = _step(value, token)
    return value


def _mapped(items: list[Any], tokens: Sequence[str], at: int) -> list[Any]:
    flat: list[Any] = []
    for item in items:
        result = _follow(item, tokens, at)
        if isinstance(result, orjson.Fragment):
            result = orjson.loads(orjson.dumps(result))
        if isinstance(result, list):
            flat.extend(result)
        else:
            flat.append(result)
    return flat


def _step(value: Any, token: str) -> Any:
    if isinstance(value, dict):
        name = token.replace("~1", "/").replace("~0", "~")
        if name in value:
            return value[name]
    elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
        return value[int(token)]
    raise _unresolved("the path leads nowhere")


def _malformed() -> MethodError:
    return invalid_arguments("a reference needs resultOf, name and path, all strings")


def _unresolved(description: str) -> MethodError:
    return MethodError("invalidResultReference", description)
