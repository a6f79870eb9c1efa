"""The event source: state changes pushed as they happen (RFC 8620 §7.3)."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from mailserver.errors import Invalid
from mailserver.jmap.protocol.ids import account_text
from mailserver.jmap.server.replies import CORS, Receive, Send
from mailserver.mail import messages
from mailserver.mail.context import Mail
from mailserver.model import AccountId, Modseq

TYPES = ("Mailbox", "Email", "Thread")
MIN_PING, MAX_PING = 5, 900  # seconds
MAX_STREAMS = 20  # of one account
SEND_TIMEOUT = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Wish:
    """The variables of an event-source URL."""

    types: tuple[str, ...]
    close_after_state: bool
    ping: int  # seconds, 0 for never


def parse_wish(query: Mapping[str, str]) -> Wish:
    """Read the variables; raise Invalid when one is missing or wrong."""
    types, closeafter, ping = (query.get(name, "") for name in ("types", "closeafter", "ping"))
    if closeafter not in ("state", "no") or not ping.isascii() or not ping.isdigit() or not types:
        raise Invalid("types, closeafter and ping are needed")
    asked = set(types.split(","))
    seconds = int(ping[:9])
    return Wish(
        types=tuple(name for name in TYPES if types == "*" or name in asked),
        close_after_state=closeafter == "state",
        ping=min(max(seconds, MIN_PING), MAX_PING) if seconds else 0,
    )


def render_event(name: str, data: object, event_id: str | None = None) -> bytes:
    """Write one server-sent event; lines end with LF."""
    identified = b"" if event_id is None else b"id: " + event_id.encode("ascii") + b"\n"
    return b"event: %b\n%bdata: %b\n\n" % (name.encode("ascii"), identified, orjson.dumps(data))


class EventSource:
    """Streams the state changes of accounts."""

    def __init__(self, mail: Mail) -> None:
        self._mail = mail
        self._streams: dict[AccountId, int] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End every stream; clients come back and say what they saw last."""
        self._stopping.set()

    def has_room(self, account: AccountId) -> bool:
        """Tell whether the account may open one more stream."""
        return self._streams.get(account, 0) < MAX_STREAMS

    async def stream(
        self, account: AccountId, wish: Wish, last_id: bytes, receive: Receive, send: Send
    ) -> None:
        """Send events until the client leaves, or the server stops."""
        modseq = await messages.state(self._mail, account)
        seen = int(last_id[:19]) if last_id.isdigit() else modseq
        subscription = self._mail.events.subscribe(account, Modseq(min(seen, modseq)))
        self._streams[account] = self._streams.get(account, 0) + 1
        gone = asyncio.create_task(_disconnected(receive))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            subscription.tell(modseq)
            await _start(send)
            while True:
                changed = asyncio.create_task(subscription.wait())
                done, _ = await asyncio.wait(
                    {changed, gone, stopping},
                    timeout=wish.ping or None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if changed not in done:
                    changed.cancel()
                if gone in done or stopping in done:
                    break
                if changed not in done:
                    await _write(send, render_event("ping", {"interval": wish.ping}))
                elif wish.types:
                    await _write(send, self._state(account, wish, changed.result()))
                    if wish.close_after_state:
                        break
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            stopping.cancel()
            self._mail.events.unsubscribe(subscription)
            self._streams[account] -= 1
            if not self._streams[account]:
                del self._streams[account]

    @staticmethod
    def _state(account: AccountId, wish: Wish, modseq: int) -> bytes:
        """Write a StateChange (RFC 8620 §7.1); the id is the state of every type."""
        change = {
            "@type": "StateChange",
            "changed": {account_text(account): {name: str(modseq) for name in wish.types}},
        }
        return render_event("state", change, str(modseq))


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
