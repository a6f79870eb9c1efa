"""Where requests go: the API by the shortest way, all the rest through Starlette's router."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from html import escape

import orjson
from starlette.requests import Request
from starlette.routing import Match, Route

from mailserver.antispam.trace import Journal
from mailserver.auth.credentials import Authenticator
from mailserver.auth.tickets import Tickets
from mailserver.errors import Forbidden, Invalid, MailError, NotFound, Unavailable
from mailserver.jmap.protocol.dates import render_utc
from mailserver.jmap.protocol.errors import RequestError
from mailserver.jmap.server import resource
from mailserver.jmap.server.access import Access, header_map, peer_of
from mailserver.jmap.server.api import Api
from mailserver.jmap.server.blobs import Downloads, Uploads, Wish
from mailserver.jmap.server.conditions import is_known
from mailserver.jmap.server.discovery import Asked, Discovery, Handler
from mailserver.jmap.server.events import EventSource, parse_wish
from mailserver.jmap.server.replies import (
    JSON,
    NO_STORE,
    PREFLIGHT,
    Message,
    Receive,
    Scope,
    Send,
    problem_of,
    reply,
    reply_json,
    reply_problem,
    simple_problem,
)
from mailserver.jmap.server.websocket import SUBPROTOCOL, WebSockets
from mailserver.jmap.session import AccountView, Origin
from mailserver.mail.context import Mail
from mailserver.model import Principal

log = logging.getLogger(__name__)

Ready = Callable[[], Awaitable[Sequence[str]]]
Exposition = Callable[[], Awaitable[bytes]]  # the metrics of the server as text

_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_METRICS = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_HTML = (b"content-type", b"text/html; charset=utf-8")
_PAGE_POLICY = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{host}</title>
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}}
</style>
<h1>{host}</h1>
<p>This is a mail server. A JMAP client needs this address, and a login and password:</p>
<p><code>{session}</code></p>
<p>Also here: <a href="/healthz">/healthz</a>, <a href="/readyz">/readyz</a>,
<a href="/metrics">/metrics</a>.</p>
</html>
"""


@dataclass(slots=True)
class Exchange:
    """One HTTP request and the way back."""

    scope: Scope
    receive: Receive
    send: Send
    headers: dict[bytes, bytes]
    session_id: str
    started: bool = False

    @property
    def origin(self) -> Origin:
        """Return where it comes from."""
        secure = self.scope["scheme"] in ("https", "wss")
        return Origin(self.session_id, peer_of(self.scope), "HTTPS" if secure else "")


def application(
    *,
    mail: Mail,
    authenticator: Authenticator,
    ready: Ready,
    exposition: Exposition | None = None,
    journal: Journal | None = None,
) -> "Application":
    """Return the ASGI application; `ready` returns what is wrong, nothing when all is well.

    Without `exposition` the metrics are those of this process alone. What becomes of submissions is
    written into the journal.
    """
    return Application(mail, authenticator, ready, exposition, journal)


class Application:
    """JMAP, blobs, events, health, metrics, and how mail programs find all of this."""

    def __init__(
        self,
        mail: Mail,
        authenticator: Authenticator,
        ready: Ready,
        exposition: Exposition | None,
        journal: Journal | None,
    ) -> None:
        self._mail = mail
        self._ready = ready
        self._exposition = exposition
        self._access = Access(authenticator, mail.metrics, mail.events)
        self._api = Api(mail, journal)
        self._downloads = Downloads(mail, self._api.limits)
        self._uploads = Uploads(mail, self._api.limits)
        self._events = EventSource(mail, self._api.shares, self._access.lost)
        self._sockets = WebSockets(mail, self._api, self._access.lost)
        self._tickets = Tickets(mail.database, mail.now)
        self._routes = tuple(
            Route(path, handler, methods=[method])
            for path, method, handler in (
                (resource.WELL_KNOWN, "GET", self._session),
                (resource.API, "GET", self._session),
                (resource.DOWNLOAD + "/{account}/{blob}/{name:path}", "GET", self._download),
                (resource.UPLOAD + "/{account}", "POST", self._upload),
                (resource.UPLOAD + "/{account}/", "POST", self._upload),
                (resource.EVENTS, "GET", self._event_source),
                (resource.TICKET, "POST", self._make_ticket),
                (resource.TICKET + "/{ticket}", "DELETE", self._revoke_ticket),
                ("/healthz", "GET", self._health),
                ("/readyz", "GET", self._readiness),
                ("/metrics", "GET", self._metrics),
                ("/", "GET", self._page),
                *(
                    (path, method, _before_login(handler))
                    for path, method, handler in Discovery(mail).routes()
                ),
            )
        )

    def drain(self) -> None:
        """End what never ends by itself: event streams and WebSockets."""
        self._events.stop()
        self._sockets.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            raise RuntimeError(f"this application does not speak {scope['type']}")
        exchange = Exchange(scope, receive, send, header_map(scope), secrets.token_hex(6))
        exchange.send = _noting(exchange, send)
        try:
            if scope["type"] == "websocket":
                await self._web_socket(exchange)
            elif scope["path"] == resource.API and scope["method"] == "POST":
                await self._call_api(exchange)
            else:
                await self._route(exchange)
        except RequestError as error:
            await self._refuse(exchange, error)
        except MailError as error:
            problem = problem_of(error)
            if problem.status >= 500:
                # PostgreSQL or S3 is away: every client tries, and where it failed tells nothing
                trace = None if isinstance(error, Unavailable) else error
                about = {**_about(exchange), "error": str(error)}
                log.warning("request failed", exc_info=trace, extra=about)
            await self._refuse(exchange, problem)
        except asyncio.CancelledError:
            # at a stop, after the time that running requests have; uvicorn would say 500
            log.warning("request ended by a stop", extra=_about(exchange))
            await self._refuse(exchange, simple_problem(503, "the server stops"))
        except TimeoutError:
            # an answer that has begun and is not complete makes the server close the connection
            log.info("peer stalled", extra=_about(exchange))
        except Exception:
            log.exception("request failed", extra=_about(exchange))
            await self._refuse(exchange, simple_problem(500, "internal error"))

    async def _refuse(self, exchange: Exchange, error: RequestError) -> None:
        if exchange.started:
            return
        send = exchange.send
        if exchange.scope["type"] == "websocket":
            send = _answering_handshake(send)
        await reply_problem(send, error, self._access.challenges)

    async def _call_api(self, exchange: Exchange) -> None:
        principal = await self._access.principal(exchange.scope, exchange.headers)
        answer = await self._api.answer(
            principal, exchange.headers, exchange.receive, exchange.origin
        )
        await reply_json(exchange.send, answer)

    async def _route(self, exchange: Exchange) -> None:
        method = exchange.scope["method"]
        allowed: set[str] = set()
        for route in self._routes:
            match, found = route.matches(exchange.scope)
            if match is Match.NONE:
                continue
            if match is Match.FULL:
                exchange.scope.update(found)
                await route.endpoint(exchange)
                return
            allowed |= route.methods or set()
        if method == "OPTIONS":  # without credentials: browsers send none (Fetch §3.2.2)
            await reply(exchange.send, 204, b"", PREFLIGHT)
        elif allowed:
            raise simple_problem(405, "not a method of this resource")
        else:
            raise simple_problem(404, "not found")

    # JMAP ----------------------------------------------------------------------------------------

    async def _principal(self, exchange: Exchange) -> Principal:
        return await self._access.principal(exchange.scope, exchange.headers)

    async def _account(self, exchange: Exchange) -> tuple[Principal, AccountView]:
        """Return who asks, and the account that the URL names as they see it; NotFound."""
        principal = await self._principal(exchange)
        view = await self._api.view(principal, exchange.scope["path_params"]["account"])
        if view is None:
            raise NotFound("account")
        return principal, view

    async def _session(self, exchange: Exchange) -> None:
        principal = await self._principal(exchange)
        limits = self._api.limits
        base = resource.base_url(self._mail.config.http, exchange.scope, exchange.headers)
        shares = await self._api.shares.of(principal)
        key = await self._api.server_key()
        shown = resource.session_object(principal, shares, limits, base, key)
        etag = (b"etag", f'"{shown["state"]}"'.encode())
        if is_known(exchange.headers, etag[1]):
            await reply(exchange.send, 304, b"", (NO_STORE, etag))
        else:
            await reply_json(exchange.send, shown, (NO_STORE, etag))

    async def _download(self, exchange: Exchange) -> None:
        principal, view = await self._account(exchange)
        found = exchange.scope["path_params"]
        accept = Request(exchange.scope).query_params.get("accept", "")
        wish = Wish(found["blob"], found["name"], accept, exchange.scope["method"] == "HEAD")
        await self._downloads.send(
            view, principal.account_id, wish, exchange.headers, exchange.send
        )

    async def _upload(self, exchange: Exchange) -> None:
        principal, view = await self._account(exchange)
        if view.share is not None and view.share.is_read_only:
            raise Forbidden("the account is read-only")
        await self._uploads.take(
            view.id, principal.account_id, exchange.headers, exchange.receive, exchange.send
        )

    async def _event_source(self, exchange: Exchange) -> None:
        principal = await self._principal(exchange)
        try:
            wish = parse_wish(Request(exchange.scope).query_params)
        except Invalid as error:
            raise simple_problem(400, str(error)) from None
        hold = await self._access.hold(principal, exchange.headers)
        if not self._events.has_room(principal.account_id):
            raise simple_problem(429, "too many event streams")
        last_id = exchange.headers.get(b"last-event-id")
        place = None if last_id is None else last_id.decode("latin-1")
        await self._events.stream(hold, wish, place, exchange.receive, exchange.send)

    async def _make_ticket(self, exchange: Exchange) -> None:
        principal = await self._principal(exchange)
        ticket = await self._tickets.make(principal)
        shown = {
            "value": ticket.value,
            "clientAddress": peer_of(exchange.scope),
            "generatedOn": render_utc(ticket.made_at),
            "validUntil": render_utc(ticket.until),
        }
        await reply_json(exchange.send, shown)

    async def _revoke_ticket(self, exchange: Exchange) -> None:
        principal = await self._principal(exchange)
        await self._tickets.revoke(principal, exchange.scope["path_params"]["ticket"])
        await reply(exchange.send, 204, b"", ())

    async def _web_socket(self, exchange: Exchange) -> None:
        """Open a WebSocket for whoever has credentials or a ticket (RFC 8887 §4.2)."""
        if exchange.scope["path"] != resource.WEBSOCKET:
            raise simple_problem(404, "not found")
        ticket = Request({**exchange.scope, "type": "http"}).query_params.get("ticket")
        if ticket is not None:
            principal = await self._tickets.redeem(ticket)
            hold = await self._access.hold_by_ticket(principal)
        else:
            principal = await self._principal(exchange)
            hold = await self._access.hold(principal, exchange.headers)
        if SUBPROTOCOL not in exchange.scope["subprotocols"]:
            raise simple_problem(400, "the WebSocket subprotocol jmap is needed")
        if not self._sockets.has_room(principal.account_id):
            raise simple_problem(429, "too many WebSockets")
        await self._sockets.serve(hold, exchange.origin, exchange.receive, exchange.send)

    # The web face --------------------------------------------------------------------------------

    async def _health(self, exchange: Exchange) -> None:
        await reply(exchange.send, 200, b"ok\n", (_TEXT, NO_STORE))

    async def _readiness(self, exchange: Exchange) -> None:
        problems = list(await self._ready())
        body = orjson.dumps({"ready": not problems, "problems": problems})
        await reply(exchange.send, 503 if problems else 200, body, (JSON, NO_STORE))

    async def _metrics(self, exchange: Exchange) -> None:
        if self._exposition is None:
            text = self._mail.metrics.render()
        else:
            text = await self._exposition()
        await reply(exchange.send, 200, text, (_METRICS, NO_STORE))

    async def _page(self, exchange: Exchange) -> None:
        base = resource.base_url(self._mail.config.http, exchange.scope, exchange.headers)
        page = _PAGE.format(
            host=escape(self._mail.config.server.hostname),
            session=escape(base + resource.WELL_KNOWN),
        )
        await reply(exchange.send, 200, page.encode(), (_HTML, _PAGE_POLICY))


def _before_login(handler: Handler) -> Callable[[Exchange], Awaitable[None]]:
    """Return what answers with a document for anybody."""

    async def answered(exchange: Exchange) -> None:
        body, headers = await handler(Asked(exchange.scope, exchange.headers, exchange.receive))
        await reply(exchange.send, 200, body, headers)

    return answered


def _noting(exchange: Exchange, send: Send) -> Send:
    async def noted(message: Message) -> None:
        exchange.started = True
        await send(message)

    return noted


def _answering_handshake(send: Send) -> Send:
    """Refuse a WebSocket by an answer of HTTP, in the words of ASGI for that."""

    async def answered(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return answered


def _about(exchange: Exchange) -> dict[str, object]:
    return {
        "session": exchange.session_id,
        "peer": peer_of(exchange.scope),
        "path": exchange.scope["path"][:200],
    }
