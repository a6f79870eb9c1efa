"""Work that goes on beside the sessions; when it fails it is logged, counted and started again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mailserver.errors import Unavailable
from mailserver.metrics import Metrics

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.1  # seconds before the first restart; doubled up to the longest
LONGEST_PAUSE = 30.0
HEALTHY = 60.0  # seconds of work after which an earlier failure is forgotten

Work = Callable[[], Awaitable[None]]


class Background:
    """The background tasks of one process."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def run(self, name: str, work: Work) -> None:
        """Keep `work` going until `stop`; work that returns has ended by itself."""
        if name in self._tasks:
            raise ValueError(f"background task {name} runs already")
        self._tasks[name] = asyncio.create_task(self._keep(name, work), name=name)

    async def stop(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, name: str, work: Work) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while True:
            started = loop.time()
            try:
                await work()
            except Exception as error:
                self._metrics.background_failures.labels(name).inc()
                if loop.time() - started > HEALTHY:
                    pause = FIRST_PAUSE
                about = {"task": name, "pause": pause}
                if isinstance(error, Unavailable):  # the database is away: others say why
                    log.warning("background task waits", extra=about | {"error": str(error)})
                else:
                    log.exception("background task failed", extra=about)
            else:
                log.debug("background task ended", extra={"task": name})
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


def every(seconds: float, work: Work) -> Work:
    """Return work that does something again and again, with a pause after each time."""

    async def repeat() -> None:
        while True:
            await work()
            await asyncio.sleep(seconds)

    return repeat
