"""The API endpoint: one POST, many method calls (RFC 8620 §3)."""

import asyncio
from collections import OrderedDict
from typing import Any

from mailserver.antispam.trace import Journal
from mailserver.jmap import methods
from mailserver.jmap.protocol.errors import Problem, RequestError
from mailserver.jmap.protocol.request import Request, parse_request
from mailserver.jmap.push import vapid
from mailserver.jmap.server.access import Gate, read_body
from mailserver.jmap.server.replies import Receive
from mailserver.jmap.server.resource import session_state
from mailserver.jmap.session import AccountView, Limits, Origin, Session
from mailserver.mail.context import Mail
from mailserver.mail.sharing import Share, Shares
from mailserver.model import AccountId, Principal

LARGE = 64 * 1024  # octets; a larger request is parsed in a thread
STATES_KEPT = 1000  # accounts
BODY_TIME = 60.0  # seconds in which the octets of a request must come


class Api:
    """Answers API requests."""

    def __init__(self, mail: Mail, journal: Journal | None = None) -> None:
        self.limits = Limits.of(mail.config)
        self._journal = journal
        self._mail = mail
        self._gate = Gate(self.limits.max_concurrent_requests, "maxConcurrentRequests")
        self.shares = Shares(mail)
        self._server_key: str | None = None
        self._states: OrderedDict[AccountId, tuple[tuple[Share, ...], str]] = OrderedDict()

    async def server_key(self) -> str:
        """Return the public key of web push, read once (RFC 9749 §3)."""
        if self._server_key is None:
            self._server_key = (await vapid.load(self._mail)).shown
        return self._server_key

    def session(self, principal: Principal, origin: Origin) -> Session:
        """Return what one request of a principal starts with."""
        session = Session(self._mail, principal, self.limits, origin.session)
        session.origin, session.journal = origin, self._journal
        return session

    async def view(self, principal: Principal, account_id: str) -> AccountView | None:
        """Return an account as a principal sees it, None when they do not."""
        return await self.session(principal, Origin()).find(account_id)

    async def answer(
        self,
        principal: Principal,
        headers: dict[bytes, bytes],
        receive: Receive,
        origin: Origin,
    ) -> dict[str, Any]:
        """Read a request, run its calls, return the Response object (RFC 8620 §3.4)."""
        async with self._gate.enter(principal.account_id):
            check_content_type(headers)
            body = await read_body(
                receive, headers, self.limits.max_size_request, "maxSizeRequest", BODY_TIME
            )
            return await self._answer(principal, await self._parsed(body), origin)

    async def run(self, principal: Principal, request: Request, origin: Origin) -> dict[str, Any]:
        """Run the calls of a request that is here, return the Response object."""
        async with self._gate.enter(principal.account_id):
            return await self._answer(principal, request, origin)

    async def _answer(
        self, principal: Principal, request: Request, origin: Origin
    ) -> dict[str, Any]:
        session = self.session(principal, origin)
        with self._mail.tracing.span("JMAP request", kind="server", session=origin.session):
            responses = await methods.answer(session, request)
        answer: dict[str, Any] = {
            "methodResponses": responses,
            "sessionState": self.session_state(principal, await self.shares.of(principal)),
        }
        if request.created_ids is not None:
            answer["createdIds"] = session.created_ids
        return answer

    def session_state(self, principal: Principal, shares: tuple[Share, ...]) -> str:
        """Return the state of the session object, computed once for the same shares."""
        known = self._states.get(principal.account_id)
        if known is None or known[0] is not shares:
            known = shares, session_state(principal, shares, self.limits)
            self._states[principal.account_id] = known
            if len(self._states) > STATES_KEPT:
                self._states.popitem(last=False)
        return known[1]

    async def _parsed(self, body: bytes) -> Request:
        most = self.limits.max_calls_in_request
        if len(body) > LARGE:
            return await asyncio.to_thread(parse_request, body, max_calls=most)
        return parse_request(body, max_calls=most)


def check_content_type(headers: dict[bytes, bytes]) -> None:
    """Raise `notJSON` unless the request says that it is JSON (RFC 8620 §3.6.1)."""
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise RequestError(Problem.NOT_JSON, "the content type is not application/json")
