"""Messages to push services; what sending takes is loaded with the first one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from mailserver.config import Push

if TYPE_CHECKING:
    from mailserver.jmap.push.http import Sender


class Answer(NamedTuple):
    """What a push service said."""

    status: int  # 0: it could not be reached, or said nothing of HTTP in time
    retry_after: float | None = None  # seconds


class PushClient:
    """Sends messages; `close` it afterwards."""

    def __init__(self, config: Push) -> None:
        self._config = config
        self._sender: Sender | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a message; a redirection is not followed, and the answer's body not read."""
        if self._sender is None:
            # the library costs 7 MB of memory, and many servers tell no device
            from mailserver.jmap.push.http import Sender

            self._sender = Sender(self._config)
        return await self._sender.post(url, body, headers)

    async def close(self) -> None:
        """Close all connections."""
        if self._sender is not None:
            await self._sender.close()
