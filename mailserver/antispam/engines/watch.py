"""Looks whether engines answer as what they should be: at the start, then every minute."""

import asyncio
import logging
from collections.abc import Sequence

from mailserver.antispam.engines.engine import Engine
from mailserver.metrics import Metrics

log = logging.getLogger(__name__)

LOOK = 60.0  # seconds between two looks


class EngineWatch:
    """Logs when an engine goes and when it comes back, and tells the metrics."""

    def __init__(self, engines: Sequence[Engine], metrics: Metrics) -> None:
        self._engines = engines
        self._metrics = metrics
        self._problems: dict[tuple[str, str], str] = {}  # by engine and address; "": none

    async def look(self) -> None:
        """Ask all of them, once."""
        await asyncio.gather(*(self._look_at(engine) for engine in self._engines))

    async def _look_at(self, engine: Engine) -> None:
        found = await engine.check()
        for address, problem in found:
            before = self._problems.get((engine.name, address))
            self._problems[engine.name, address] = problem
            extra = {"engine": engine.name, "address": address}
            if problem and problem != before:
                log.error("engine cannot be used", extra={**extra, "reason": problem})
            elif not problem and before != problem:
                log.info("engine answers", extra=extra)
        usable = sum(not problem for _, problem in found)
        self._metrics.engines_available.labels(engine.name).set(usable)
