"""Memory for messages that are being received: a budget that connections of a process share."""

import asyncio
from collections import deque


class Memory:
    """Octets of messages being received: who needs more than there is waits, in order."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """Return the octets that nobody holds."""
        return self._free

    def take_now(self, size: int) -> bool:
        """Take `size` octets without waiting; False when they are not free, or others wait."""
        if size > self._free or self._waiting:
            return False
        self._free -= size
        return True

    async def take(self, size: int, timeout: float) -> bool:
        """Take `size` octets; False when they did not become free in `timeout` seconds."""
        if self.take_now(size):
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, future)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(future)
        except TimeoutError:
            return future.done()
        except asyncio.CancelledError:
            if future.done():  # served and cut in the same moment
                self.give(size)
            raise
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._serve()
        return True

    def give(self, size: int) -> None:
        """Return octets."""
        self._free += size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, future = self._waiting.popleft()
            self._free -= size
            future.set_result(None)
