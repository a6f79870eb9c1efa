"""The event source: state changes pushed as they happen (RFC 8620 §7.3)."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mailserver.auth.credentials import Hold
from mailserver.errors import Invalid, MailError
from mailserver.jmap.protocol.push import known_types, state_change
from mailserver.jmap.server.access import Lost
from mailserver.jmap.server.replies import CORS, Receive, Send
from mailserver.mail.context import Mail
from mailserver.mail.sharing import Shares
from mailserver.mail.watching import Watch
from mailserver.model import AccountId

log = logging.getLogger(__name__)

MIN_PING, MAX_PING = 5, 900  # seconds
MAX_STREAMS = 20  # of one account
SEND_TIMEOUT = 60.0  # seconds
GAP = 0.02  # seconds between two state changes
RETRY = 2.0  # seconds after the store could not be asked what changed


@dataclass(frozen=True, slots=True)
class Wish:
    """The variables of an event-source URL."""

    types: frozenset[str]
    close_after_state: bool
    ping: int  # seconds, 0 for never


def parse_wish(query: Mapping[str, str]) -> Wish:
    """Read the variables; raise Invalid when one is missing or wrong."""
    types, closeafter, ping = (query.get(name, "") for name in ("types", "closeafter", "ping"))
    if closeafter not in ("state", "no") or not ping.isascii() or not ping.isdigit() or not types:
        raise Invalid("types, closeafter and ping are needed")
    seconds = int(ping[:9])
    return Wish(
        types=known_types(None if types == "*" else types.split(",")),
        close_after_state=closeafter == "state",
        ping=min(max(seconds, MIN_PING), MAX_PING) if seconds else 0,
    )


def render_event(name: str, data: object, event_id: str | None = None) -> bytes:
    """Write one server-sent event; lines end with LF."""
    identified = b"" if event_id is None else b"id: " + event_id.encode("ascii") + b"\n"
    return b"event: %b\n%bdata: %b\n\n" % (name.encode("ascii"), identified, orjson.dumps(data))


class EventSource:
    """Streams the state changes of what principals see."""

    def __init__(self, mail: Mail, shares: Shares, lost: Lost) -> None:
        self._mail = mail
        self._shares = shares
        self._lost = lost
        self._streams: dict[AccountId, int] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End every stream; clients come back and say what they saw last."""
        self._stopping.set()

    def has_room(self, account: AccountId) -> bool:
        """Tell whether the account may open one more stream."""
        return self._streams.get(account, 0) < MAX_STREAMS

    async def stream(
        self, hold: Hold, wish: Wish, last_id: str | None, receive: Receive, send: Send
    ) -> None:
        """Send events until the client leaves, may not stay, or the server stops."""
        principal = hold.principal
        account = principal.account_id
        self._streams[account] = self._streams.get(account, 0) + 1
        watch = Watch(self._mail, self._shares, principal, wish.types)
        ends: set[asyncio.Task[Any]] = {
            asyncio.create_task(_disconnected(receive)),
            asyncio.create_task(self._stopping.wait()),
            asyncio.create_task(self._lost(hold)),
        }
        try:
            await watch.start(last_id)
            await _start(send)
            await self._tell(watch, wish, ends, send)
            await send({"type": "http.response.body", "body": b""})
        finally:
            for each in ends:
                each.cancel()
            watch.close()
            self._streams[account] -= 1
            if not self._streams[account]:
                del self._streams[account]

    async def _tell(
        self, watch: Watch, wish: Wish, ends: set[asyncio.Task[Any]], send: Send
    ) -> None:
        """Write what changes, and pings in between, until one of the ends comes."""
        clock = asyncio.get_running_loop().time
        written = clock()
        while True:
            left = max(0.0, written + wish.ping - clock()) if wish.ping else None
            woken = asyncio.create_task(watch.wait())
            try:
                done, _ = await asyncio.wait(
                    {woken, *ends}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                woken.cancel()
            if done & ends:
                return
            if woken not in done:
                await _write(send, render_event("ping", {"interval": wish.ping}))
                written = clock()
                continue
            try:
                changed = await watch.changes()
            except MailError as error:  # the client stays, and is told when it is over
                log.warning("push: the store does not answer", extra={"error": str(error)})
                await asyncio.wait(ends, timeout=RETRY, return_when=asyncio.FIRST_COMPLETED)
                continue
            if changed:
                await _write(send, render_event("state", state_change(changed), watch.place))
                written = clock()
                if wish.close_after_state:
                    return
                await asyncio.wait(ends, timeout=GAP, return_when=asyncio.FIRST_COMPLETED)


async def _start(send: Send) -> None:
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),  # QUIRK(nginx): it buffers responses otherwise
        *CORS,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await _write(send, b": \n\n")  # lets proxies and clients see that the stream is open


async def _write(send: Send, data: bytes) -> None:
    message = {"type": "http.response.body", "body": data, "more_body": True}
    await asyncio.wait_for(send(message), SEND_TIMEOUT)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
