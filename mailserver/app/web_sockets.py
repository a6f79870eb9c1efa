"""uvicorn's WebSockets, with the bounds that they lack."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame

SEND_TIMEOUT = 60.0  # seconds in which a peer takes something of what it is sent
PING_INTERVAL, PING_TIMEOUT = 60.0, 30.0  # seconds
HANDSHAKE_TIMEOUT = 20.0  # seconds until somebody has said whether the peer may talk
MAX_FRAMES = 10_000  # of one message; its octets are bounded elsewhere


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that is read no faster than its answers are taken."""

    send_timeout, max_frames = SEND_TIMEOUT, MAX_FRAMES
    _sending: asyncio.TimerHandle | None = None
    _stalled = False  # reading waits until the peer takes what it was sent
    leave: Callable[[], None] | None = None  # the count of the connections of this peer

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # uvicorn would log the whole URL, which may have a ticket in it
        self.logger = logging.getLogger("mailserver.app.web_sockets.protocol")
        self.logger.setLevel(logging.WARNING)

    def handle_cont(self, event: Frame) -> None:
        """Refuse a message of frames without end, however small they are."""
        if len(self.frames) >= self.max_frames:
            self.frames = []
            self.transport.abort()
            return
        super().handle_cont(event)

    def pause_writing(self) -> None:
        """Stop reading too: a flood of pings is answered by as many pongs."""
        super().pause_writing()
        self._stalled = True
        self.transport.pause_reading()
        if self._sending is None:
            self._watch()

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._stop_watching()
        self._stalled = False
        if not self.read_paused:
            self.transport.resume_reading()

    async def receive(self) -> Any:
        """Hand over a message; reading goes on only when the peer takes its answers."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            if not self._stalled:
                self.transport.resume_reading()
        return message

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock for good."""
        self._stop_watching()
        if self.leave is not None:
            self.leave()
        super().connection_lost(exc)

    def _watch(self) -> None:
        held = self.transport.get_write_buffer_size()
        self._sending = self.loop.call_later(self.send_timeout, self._look, held)

    def _look(self, held: int) -> None:
        self._sending = None
        if self.transport.get_write_buffer_size() >= held:
            self.transport.abort()
        else:
            self._watch()

    def _stop_watching(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
