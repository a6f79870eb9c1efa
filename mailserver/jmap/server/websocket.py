"""JMAP over WebSocket (RFC 8887): API requests, and state changes as they happen."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import orjson

from mailserver.auth.credentials import Hold
from mailserver.errors import MailError
from mailserver.jmap.protocol.errors import Problem, RequestError
from mailserver.jmap.protocol.push import PushEnable, parse_push_enable, state_change
from mailserver.jmap.protocol.request import read_json, request_of
from mailserver.jmap.server.access import Lost
from mailserver.jmap.server.api import LARGE, Api
from mailserver.jmap.server.replies import Message, Receive, Send, problem_of
from mailserver.jmap.session import Origin
from mailserver.mail.context import Mail
from mailserver.mail.watching import Watch, place_now
from mailserver.model import AccountId, Principal

log = logging.getLogger(__name__)

SUBPROTOCOL = "jmap"
MAX_SOCKETS = 20  # of one account
SEND_TIMEOUT = 60.0  # seconds in which the peer takes a message
PUSH_GAP = 0.02  # seconds between two state changes
RETRY = 2.0  # seconds after the store could not be asked what changed
MAX_ID = 255  # characters of a request id

# RFC 6455 §7.4.1
GOING_AWAY, UNSUPPORTED_DATA, POLICY_VIOLATION = 1001, 1003, 1008

Json = dict[str, Any]


class WebSockets:
    """The open WebSockets of a process."""

    def __init__(self, mail: Mail, api: Api, lost: Lost) -> None:
        self._mail = mail
        self._api = api
        self._lost = lost
        self._open: dict[AccountId, int] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Close every socket; clients come back and say what they saw last."""
        self._stopping.set()

    def has_room(self, account: AccountId) -> bool:
        """Tell whether the account may open one more socket."""
        return self._open.get(account, 0) < MAX_SOCKETS

    async def serve(self, hold: Hold, origin: Origin, receive: Receive, send: Send) -> None:
        """Talk to a client until it leaves, may not stay, or the server stops."""
        account = hold.principal.account_id
        self._open[account] = self._open.get(account, 0) + 1
        try:
            place = await self._place(hold.principal)
            await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
            socket = _Socket(self._mail, self._api, hold.principal, origin, send, place)
            await socket.run(receive, self._stopping, self._lost(hold))
        except OSError:  # also TimeoutError: the peer left, or takes nothing more
            log.info("peer gone", extra={"session": origin.session})
        finally:
            self._open[account] -= 1
            if not self._open[account]:
                del self._open[account]

    async def _place(self, principal: Principal) -> str | None:
        """Return where a client is that opens a socket; None when the store does not answer."""
        try:
            return await place_now(self._mail, principal)
        except MailError:
            return None


@dataclass(slots=True)
class _Socket:
    """One connection."""

    mail: Mail
    api: Api
    principal: Principal
    origin: Origin
    send: Send
    # from which on changes are told: a client that asks for them and changes something by another
    # connection at once would miss that if they counted from when its wish is read
    place: str | None
    requests: set[asyncio.Task[None]] = field(default_factory=set)
    push: asyncio.Task[None] | None = None
    failed: asyncio.Event = field(default_factory=asyncio.Event)  # the peer takes nothing more
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(
        self, receive: Receive, stopping: asyncio.Event, lost: Coroutine[Any, Any, None]
    ) -> None:
        """Read messages; answer them at once, as many as may run, and then read on."""
        reading = asyncio.create_task(self._read(receive))
        shut_out = asyncio.create_task(lost)
        waits = (asyncio.create_task(each.wait()) for each in (stopping, self.failed))
        ends: list[asyncio.Task[Any]] = [reading, shut_out, *waits]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            elif not self.failed.is_set():
                await self._close(POLICY_VIOLATION if shut_out.done() else GOING_AWAY)
        finally:
            tasks = [*ends, *self.requests, *([self.push] if self.push else ())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, receive: Receive) -> None:
        most = self.api.limits.max_concurrent_requests
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            if message["type"] != "websocket.receive":
                continue
            text = message.get("text")
            if text is None:
                await self._close(UNSUPPORTED_DATA)
                return
            if len(self.requests) >= most:
                await asyncio.wait(self.requests, return_when=asyncio.FIRST_COMPLETED)
            await self._take(text.encode())

    async def _take(self, octets: bytes) -> None:
        """Act on one message; what is wrong with it is told, and the connection stays."""
        message_id: str | None = None
        try:
            if len(octets) > self.api.limits.max_size_request:
                raise RequestError(
                    Problem.LIMIT, "the request is too large", limit="maxSizeRequest"
                )
            large = len(octets) > LARGE
            value = await asyncio.to_thread(read_json, octets) if large else read_json(octets)
            message_id = _message_id(value)
            kind = value.get("@type") if isinstance(value, dict) else None
            if kind == "Request":
                self._start(value, message_id)
            elif kind == "WebSocketPushEnable":
                await self._enable(parse_push_enable(value))
            elif kind == "WebSocketPushDisable":
                await self._disable()
            else:
                raise RequestError(Problem.NOT_REQUEST, "@type is none that a client sends")
        except RequestError as error:
            await self._say(_request_error(error, message_id))

    def _start(self, value: Json, message_id: str | None) -> None:
        request = request_of(
            {name: each for name, each in value.items() if name not in ("@type", "id")},
            max_calls=self.api.limits.max_calls_in_request,
        )

        async def answer() -> None:
            try:
                answer = await self.api.run(self.principal, request, self.origin)
            except RequestError as error:
                await self._say(_request_error(error, message_id))
                return
            except MailError as error:
                await self._say(_request_error(problem_of(error), message_id))
                return
            named = {} if message_id is None else {"requestId": message_id}
            await self._say({"@type": "Response", **named, **answer})

        self._run(answer)

    def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        async def guarded() -> None:
            try:
                await work()
            except (TimeoutError, OSError):
                self.failed.set()
            except Exception:
                log.exception("request failed", extra={"session": self.origin.session})
                self.failed.set()

        task = asyncio.create_task(guarded())
        self.requests.add(task)
        task.add_done_callback(self.requests.discard)

    async def _say(self, message: Json) -> None:
        text = orjson.dumps(message).decode()
        await self._send({"type": "websocket.send", "text": text})

    async def _close(self, code: int) -> None:
        await self._send({"type": "websocket.close", "code": code})

    async def _send(self, message: Message) -> None:
        async with asyncio.timeout(SEND_TIMEOUT), self.sending:
            await self.send(message)

    # Push ----------------------------------------------------------------------------------------

    async def _enable(self, wish: PushEnable) -> None:
        """Begin to tell what changes, from where the client is (RFC 8887 §4.3.5.2)."""
        await self._disable()
        watch = Watch(self.mail, self.api.shares, self.principal, wish.types)
        place = self.place if wish.place is None else wish.place
        self.push = asyncio.create_task(self._tell(watch, place))

    async def _disable(self) -> None:
        if self.push is not None:
            self.push.cancel()
            await asyncio.gather(self.push, return_exceptions=True)
            self.push = None

    async def _tell(self, watch: Watch, place: str | None) -> None:
        try:
            await _persistently(lambda: watch.start(place))
            while True:
                await watch.wait()
                changed = await _persistently(watch.changes)
                if changed:
                    place = watch.place
                    await self._say(state_change(changed, place))
                    self.place = place  # not before: another wish may end this one meanwhile
                    await asyncio.sleep(PUSH_GAP)
        except (TimeoutError, OSError):
            self.failed.set()
        except Exception:
            log.exception("push failed", extra={"session": self.origin.session})
            self.failed.set()
        finally:
            watch.close()


async def _persistently(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask the store again and again while it cannot answer."""
    while True:
        try:
            return await ask()
        except MailError as error:
            log.warning("push: the store does not answer", extra={"error": str(error)})
        await asyncio.sleep(RETRY)


def _message_id(value: object) -> str | None:
    """Return the id that answers repeat."""
    found = value.get("id") if isinstance(value, dict) else None
    if found is not None and (not isinstance(found, str) or len(found) > MAX_ID):
        raise RequestError(Problem.NOT_REQUEST, "id is not a short string")
    return found


def _request_error(error: RequestError, message_id: str | None) -> Json:
    return {"@type": "RequestError", "requestId": message_id, **error.body()}
