"""Keep an embedded service running."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from mailserver.errors import MailError

log = logging.getLogger(__name__)


class Service(Protocol):
    """What can be kept running."""

    @property
    def name(self) -> str:
        """Return the word for it in logs."""

    @property
    def wanted(self) -> bool:
        """Whether it should run: true from start() to stop()."""

    async def start(self) -> None:
        """Start it, or raise MailError."""

    async def wait_exit(self) -> int:
        """Return the exit code once it has ended."""


async def keep_running(
    service: Service,
    on_restart: Callable[[], Awaitable[None]],
    *,
    first: float = 0.1,
    longest: float = 5.0,
    steady: float = 10.0,
) -> None:
    """Start the service again each time it ends unasked; return once it is stopped on purpose.

    The pause before a start doubles from `first` to `longest` seconds, and is `first` again after
    the service has run for `steady` seconds. `on_restart` is awaited after each new start.
    """
    loop = asyncio.get_running_loop()
    pause = first
    while True:
        started = loop.time()
        code = await service.wait_exit()
        if not service.wanted:
            return
        log.error("service ended", extra={"service": service.name, "code": code})
        if loop.time() - started >= steady:
            pause = first
        running = False
        while not running:
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
            if not service.wanted:
                return
            running = await _start(service)
        log.info("service restarted", extra={"service": service.name})
        await on_restart()


async def _start(service: Service) -> bool:
    try:
        await service.start()
    except (MailError, OSError) as error:
        extra = {"service": service.name, "error": str(error)}
        log.error("service does not start", extra=extra)
        return False
    return True
