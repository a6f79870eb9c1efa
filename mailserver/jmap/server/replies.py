"""Answers over ASGI: head and body handed over together, and JSON problem details."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

import orjson

from mailserver.errors import (
    AuthenticationFailed,
    Forbidden,
    MailError,
    NotFound,
    OverQuota,
    TooLarge,
    Unavailable,
)
from mailserver.errors import TooMany as TooManyAttempts
from mailserver.jmap.protocol.errors import Problem, RequestError

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]

# Credentials are in Authorization, never in cookies: any origin may ask with what it knows.
CORS: tuple[Header, ...] = (
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        b"ETag, Content-Disposition, Content-Range, Retry-After, WWW-Authenticate",
    ),
)
PREFLIGHT: tuple[Header, ...] = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE, OPTIONS"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, Last-Event-ID, If-None-Match, If-Range, Range",
    ),
    (b"access-control-max-age", b"86400"),
)
BASIC: Header = (b"www-authenticate", b'Basic realm="mail", charset="UTF-8"')
BEARER: Header = (b"www-authenticate", b'Bearer realm="mail"')
JSON: Header = (b"content-type", b"application/json; charset=utf-8")
PROBLEM: Header = (b"content-type", b"application/problem+json")
NO_STORE: Header = (b"cache-control", b"no-cache, no-store, must-revalidate")
NOSNIFF: Header = (b"x-content-type-options", b"nosniff")

_STATUS: dict[type[MailError], tuple[int, str]] = {
    AuthenticationFailed: (401, "wrong login or password"),
    Forbidden: (403, "not allowed"),
    NotFound: (404, "not found"),
    OverQuota: (507, "the account has no room for this"),
    TooLarge: (413, "too large"),
    TooManyAttempts: (429, "too many attempts; try again later"),
    Unavailable: (503, "temporarily unavailable; try again later"),
}
_FAULT = (500, "internal error")


async def reply(send: Send, status: int, body: bytes, headers: Iterable[Header]) -> None:
    """Send a whole answer; nothing waits between head and body, so they leave in one write."""
    fields = [*headers, *CORS, NOSNIFF, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def reply_json(send: Send, value: object, headers: Iterable[Header] = (NO_STORE,)) -> None:
    """Send a JSON value."""
    await reply(send, 200, orjson.dumps(value), (JSON, *headers))


async def reply_problem(send: Send, error: RequestError, challenges: Iterable[Header]) -> None:
    """Send problem details (RFC 7807), with the ways to log in when nobody is."""
    headers = [PROBLEM, NO_STORE]
    if error.status == 401:
        headers += challenges
    if error.status in (429, 503):
        headers.append((b"retry-after", b"5"))
    await reply(send, error.status, orjson.dumps(error.body()), headers)


def problem_of(error: MailError) -> RequestError:
    """Return what a peer is told about a failure outside of method calls."""
    status, detail = _STATUS.get(type(error), _FAULT)
    return RequestError(Problem.BLANK, detail, status=status)


def simple_problem(status: int, detail: str) -> RequestError:
    """Return a problem that its HTTP status names."""
    return RequestError(Problem.BLANK, detail, status=status)
