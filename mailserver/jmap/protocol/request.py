"""The Request object: from octets to method calls (RFC 8620 §3.3)."""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from mailserver.jmap.protocol.errors import Problem, RequestError

MAX_CREATED_IDS = 10_000


@dataclass(frozen=True, slots=True)
class Call:
    """One Invocation of a request: a method, its arguments, the client's name for the call."""

    method: str
    arguments: dict[str, Any]
    id: str


@dataclass(frozen=True, slots=True)
class Request:
    """A whole API request."""

    using: frozenset[str]
    calls: tuple[Call, ...]
    created_ids: dict[str, str] | None  # None: the client did not ask for them


def parse_request(body: bytes, *, max_calls: int) -> Request:
    """Read a Request object; raise RequestError with the type of RFC 8620 §3.6.1."""
    return request_of(read_json(body), max_calls=max_calls)


def request_of(value: object, *, max_calls: int) -> Request:
    """Read a Request object that was parsed; raise as `parse_request` does."""
    if not isinstance(value, dict):
        _refuse("the request is not a JSON object")
    calls = value.get("methodCalls")
    if not isinstance(calls, list):
        _refuse("methodCalls is not an array")
    if len(calls) > max_calls:
        raise RequestError(
            Problem.LIMIT, "the request has too many method calls", limit="maxCallsInRequest"
        )
    return Request(
        using=_using(value.get("using")),
        calls=tuple(_call(call) for call in calls),
        created_ids=_created_ids(value.get("createdIds")),
    )


def read_json(body: bytes) -> Any:
    """Read I-JSON (RFC 7493): UTF-8, no lone surrogates, no name twice in one object."""
    try:
        value = orjson.loads(body)
        # orjson keeps the last of two equal names; only the standard library shows both
        _DECODER.decode(body.decode())
    except (ValueError, RecursionError):  # orjson's and json's errors are ValueErrors
        raise RequestError(Problem.NOT_JSON, "the request is not I-JSON") from None
    return value


def _unique(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice")


def _ignore(number: str) -> None:
    return None


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_ignore, parse_float=_ignore)


def _refuse(detail: str) -> NoReturn:
    raise RequestError(Problem.NOT_REQUEST, detail)


def _using(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        _refuse("using is not an array of strings")
    return frozenset(value)


def _call(value: object) -> Call:
    match value:
        case [str() as method, dict() as arguments, str() as call_id]:
            return Call(method, arguments, call_id)
    _refuse("a method call is not an array of name, arguments and call id")


def _created_ids(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        _refuse("createdIds is not a map of ids")
    if len(value) > MAX_CREATED_IDS:
        _refuse("createdIds has too many entries")
    return value
