"""Who asks, how much they may ask at once, and the octets they send."""

import asyncio
import base64
import binascii
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

from mailserver.auth.credentials import Authenticator, Hold
from mailserver.auth.oauth import Bearer, bearer_token
from mailserver.errors import AuthenticationFailed, Invalid, MailError, TooMany
from mailserver.events import Hub, shares_of
from mailserver.jmap.protocol.errors import Problem, RequestError
from mailserver.jmap.server.replies import BASIC, BEARER, Receive, Scope, simple_problem
from mailserver.metrics import Metrics
from mailserver.model import AccountId, Principal

log = logging.getLogger(__name__)

RECHECK = 60.0  # seconds between two looks whether who stays connected still may be
WAIT = 10.0  # seconds that a request waits for one of the same account to end
WAITING = 4  # requests that wait, for each one that may run
MAX_CREDENTIALS = 2048  # octets of Basic credentials
MAX_TOKEN = 16384  # octets of a token


def header_map(scope: Scope) -> dict[bytes, bytes]:
    """Return the request's headers by lower-case name."""
    return dict(scope["headers"])


def peer_of(scope: Scope) -> str:
    """Return the address of the peer."""
    client = scope.get("client")
    return client[0] if client else ""


def basic_credentials(header: bytes | None) -> tuple[str, str]:
    """Read `Basic` credentials (RFC 7617); raise AuthenticationFailed."""
    scheme, _, encoded = (header or b"").partition(b" ")
    if scheme.lower() != b"basic" or len(encoded) > MAX_CREDENTIALS:
        raise AuthenticationFailed("no Basic credentials")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise AuthenticationFailed("malformed credentials") from None
    login, colon, password = text.partition(":")
    if not colon:
        raise AuthenticationFailed("malformed credentials")
    return login, password


def bearer_credentials(header: bytes) -> Bearer:
    """Read `Bearer` credentials (RFC 6750 §2.1); raise AuthenticationFailed."""
    text = header.partition(b" ")[2].strip()
    try:
        return Bearer(bearer_token(text.decode("ascii")))
    except (Invalid, UnicodeDecodeError):
        raise AuthenticationFailed("malformed credentials") from None


def credentials(headers: Mapping[bytes, bytes]) -> Bearer | tuple[str, str]:
    """Return the token, or the login and password of a request; raise AuthenticationFailed."""
    header = headers.get(b"authorization")
    if header is not None and header[:7].lower() == b"bearer " and len(header) <= MAX_TOKEN:
        return bearer_credentials(header)
    return basic_credentials(header)


Lost: TypeAlias = Callable[[Hold], Coroutine[Any, Any, None]]  # `Access.lost`


class Access:
    """Turns the credentials of a request into a principal, and counts outcomes."""

    def __init__(self, authenticator: Authenticator, metrics: Metrics, events: Hub) -> None:
        self._authenticator = authenticator
        self._events = events
        self._attempts = metrics.authentications
        self.challenges = [BASIC, BEARER] if authenticator.takes_tokens else [BASIC]

    async def principal(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Principal:
        """Return who asks; raise AuthenticationFailed, TooMany or Unavailable."""
        peer = peer_of(scope)
        found = credentials(headers)
        if isinstance(found, Bearer):
            attempt = self._authenticator.verify_token(found, peer=peer)
        else:
            attempt = self._authenticator.verify(*found, peer=peer)
        try:
            principal = await attempt
        except MailError as error:
            self._attempts.labels("jmap", _OUTCOMES.get(type(error), "unavailable")).inc()
            raise
        self._attempts.labels("jmap", "ok").inc()
        return principal

    async def hold(self, principal: Principal, headers: Mapping[bytes, bytes]) -> Hold:
        """Return what a principal stays connected by; raise AuthenticationFailed, Unavailable."""
        found = credentials(headers)
        by = found if isinstance(found, Bearer) else found[1]
        return await self._authenticator.hold(principal, by)

    async def hold_by_ticket(self, principal: Principal) -> Hold:
        """Return what a principal stays connected by whose ticket was redeemed."""
        return await self._authenticator.hold(principal, None)

    async def lost(self, hold: Hold) -> None:
        """Wait until who stays connected would not get in any more."""
        # whether somebody may be here is told like what is shared with them; it may get lost
        told = self._events.subscribe(shares_of(hold.principal.account_id))
        try:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(told.wait(), RECHECK)
                try:
                    await self._authenticator.check(hold)
                except AuthenticationFailed as failure:
                    about = {"account": hold.principal.login, "reason": str(failure)}
                    log.info("connection ended: no access any more", extra=about)
                    return
                except MailError:
                    continue  # the store or the issuer does not answer: it is looked at later
        finally:
            self._events.unsubscribe(told)


_OUTCOMES: dict[type[MailError], str] = {AuthenticationFailed: "failed", TooMany: "throttled"}


class Gate:
    """Lets so many requests of each account run at once; a few more wait for a moment."""

    def __init__(self, most: int, limit: str) -> None:
        self._most = most
        self._limit = limit  # name in the core capability
        self._running: dict[AccountId, tuple[asyncio.Semaphore, list[int]]] = {}

    @asynccontextmanager
    async def enter(self, account: AccountId) -> AsyncIterator[None]:
        """Wait for a place; raise the `limit` problem when there is none."""
        semaphore, users = self._running.setdefault(account, (asyncio.Semaphore(self._most), [0]))
        if users[0] >= self._most * (1 + WAITING):
            raise self._refusal()
        users[0] += 1
        try:
            if semaphore.locked():
                try:
                    await asyncio.wait_for(semaphore.acquire(), WAIT)
                except TimeoutError:
                    raise self._refusal() from None
            else:
                await semaphore.acquire()
            try:
                yield
            finally:
                semaphore.release()
        finally:
            users[0] -= 1
            if not users[0]:
                del self._running[account]

    def _refusal(self) -> RequestError:
        return RequestError(
            Problem.LIMIT, "too many requests at once", status=429, limit=self._limit
        )


async def read_body(
    receive: Receive, headers: Mapping[bytes, bytes], most: int, limit: str, seconds: float
) -> bytes:
    """Read a whole request body of at most `most` octets; raise the `limit` problem above it.

    One that has not come after `seconds` is refused, however steadily it drips in.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _read_body(receive, headers, most, limit)
    except TimeoutError:
        raise simple_problem(408, "the request took too long") from None


async def _read_body(
    receive: Receive, headers: Mapping[bytes, bytes], most: int, limit: str
) -> bytes:
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced[:20]) > most:
        raise _too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        pieces = bytearray(body)
        while message.get("more_body", False):
            if len(pieces) > most:
                raise _too_large(limit)
            message = await receive()
            if message["type"] == "http.disconnect":
                raise simple_problem(400, "the request ended early")
            pieces += message.get("body", b"")
        body = bytes(pieces)
    if len(body) > most:
        raise _too_large(limit)
    return body


def _too_large(limit: str) -> RequestError:
    return RequestError(Problem.LIMIT, "the request is too large", status=413, limit=limit)
