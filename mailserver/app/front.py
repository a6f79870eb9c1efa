"""What HTTP answers before the store can be used: alive, but not ready."""

from collections.abc import Awaitable, Callable

from mailserver.app.web import Application, Message

_TEXT = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"5")]


class Front:
    """An ASGI application whose real one comes later."""

    def __init__(self) -> None:
        self.application: Application = starting

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass the request on."""
        await self.application(scope, receive, send)


async def starting(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer /healthz with 200 and all else with 503."""
    alive = scope["path"] == "/healthz"
    status, body = (200, b"ok\n") if alive else (503, b"starting\n")
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*_TEXT, length]})
    await send({"type": "http.response.body", "body": body})
