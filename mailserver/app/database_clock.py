"""The time that all nodes share."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from mailserver.app.clock import now
from mailserver.storage import health
from mailserver.storage.database import Executor

log = logging.getLogger(__name__)

LOOK = 10.0  # seconds between two looks at the clock of the database
SMALL = 0.1  # seconds of difference that are left alone
STRANGE = 5.0  # seconds that the clock of this machine may differ without a warning


def since_boot() -> float:
    """Return seconds that nothing sets, and that count while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class DatabaseClock:
    """The time in UTC as the database has it, so that all nodes agree when a lease has ended.

    Between two looks at the database it goes on by the clock that nothing sets: one that jumps, or
    that is wrong on one machine, ends nobody's lease. Before the first look it is system time.
    """

    def __init__(
        self,
        system: Callable[[], datetime] = now,
        steady: Callable[[], float] = since_boot,
    ) -> None:
        """Take the clock of the machine, and one in seconds that is never set."""
        self._system = system
        self._steady = steady
        self._zero = system().timestamp() - steady()  # the time at which `steady` was 0
        self._strange = False

    def __call__(self) -> datetime:
        """Return the time in UTC."""
        return datetime.fromtimestamp(self._zero + self._steady(), UTC)

    async def look(self, database: Executor) -> None:
        """Take the time of the database over; Unavailable."""
        began = self._steady()
        told = (await health.time(database)).timestamp()
        ended = self._steady()
        zero = told - (began + ended) / 2
        if abs(zero - self._zero) > SMALL + (ended - began) / 2:  # more than the query leaves open
            self._zero = zero
        self._judge(self._system().timestamp() - told)

    def _judge(self, ahead: float) -> None:
        """Say once that the clock of the machine is strange, and once that it no longer is."""
        strange = abs(ahead) > STRANGE
        if strange and not self._strange:
            log.warning(
                "the clock of this machine differs from the database's, which counts",
                extra={"seconds": round(ahead, 1)},
            )
        elif self._strange and not strange:
            log.info("the clock of this machine is that of the database again")
        self._strange = strange
