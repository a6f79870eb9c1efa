"""What waits for one destination, and how many connections it bears."""

import asyncio
from collections import deque

from mailserver.queue.routes import Route
from mailserver.queue.rules import Outcome, rank
from mailserver.smtp.outbound.courier import Job
from mailserver.smtp.outbound.route import Kind

START = 5.0  # connections at the beginning; the limit adapts from there
BACKLOG = 4  # jobs for each connection that are taken out of the queue ahead


class Destination:
    """The jobs of one destination and the limit of its connections.

    The limit grows by one for each round of successes and halves when the other side cannot follow,
    as TCP does: a host that is slow or down keeps nobody but itself busy.
    """

    def __init__(self, key: str, domain: str, kind: Kind, route: Route) -> None:
        self.key = key
        self.domain = domain
        self.kind = kind
        self.route = route
        self.lanes: set[asyncio.Task[None]] = set()
        self.idle = 0  # lanes that wait for a job with a connection in hand
        self._jobs: deque[Job] = deque()
        self._limit = min(START, route.concurrency)
        self._dead: tuple[float, Outcome] | None = None
        self._news = asyncio.Event()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Jobs that no lane has."""
        return len(self._jobs)

    @property
    def full(self) -> bool:
        """Whether nothing more should be taken out of the queue for it."""
        return len(self._jobs) >= BACKLOG * max(int(self._limit), 1)

    @property
    def hungry(self) -> bool:
        """Whether it is time to take more out of the queue for it."""
        return 2 * len(self._jobs) <= BACKLOG * max(int(self._limit), 1)

    @property
    def domains(self) -> set[str]:
        """Return the domains of what waits."""
        return {job.first.domain for job in self._jobs}

    @property
    def wants_lane(self) -> bool:
        """Whether another connection would help and may be opened."""
        return len(self._jobs) > self.idle and len(self.lanes) < int(self._limit)

    @property
    def crowded(self) -> bool:
        """Whether more lanes are open than there should be now."""
        return len(self.lanes) > max(int(self._limit), 1)

    @property
    def over(self) -> bool:
        """Whether nobody is at work and nothing waits."""
        return not self._jobs and not self.lanes

    def add(self, job: Job) -> None:
        """Put a job behind those of its rank (RFC 6710 §5)."""
        own = rank(job.first.priority)
        place = len(self._jobs)
        while place and rank(self._jobs[place - 1].first.priority) > own:
            place -= 1
        self._jobs.insert(place, job)
        self._news.set()

    def take(self) -> Job | None:
        """Take the next job."""
        return self._jobs.popleft() if self._jobs else None

    async def next(self, seconds: float) -> Job | None:
        """Take the next job; wait for one a while."""
        job = self.take()
        if job is not None or seconds <= 0:
            return job
        self.idle += 1
        try:
            async with asyncio.timeout(seconds):
                while not self._jobs and not self._closed:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return None
        finally:
            self.idle -= 1
        return self.take()

    def drain(self) -> list[Job]:
        """Take everything out, and let nobody wait for more."""
        self._closed = True
        self._news.set()
        jobs, self._jobs = list(self._jobs), deque()
        return jobs

    def succeeded(self) -> None:
        """Take note of a job that came through."""
        self._dead = None
        self._limit = min(self._limit + 1 / max(self._limit, 1), self.route.concurrency)

    def strained(self) -> None:
        """Take note that the other side ended a conversation: it gets fewer at a time."""
        self._limit = max(self._limit / 2, 1.0)

    def down(self, outcome: Outcome, until: float) -> None:
        """Take note that no host could be used: others need not find that out for a while."""
        self.strained()
        if len(self.lanes) <= 1:
            self._dead = (until, outcome)

    def dead(self, now: float) -> Outcome | None:
        """Return why it is no use to try now."""
        if self._dead is not None and self._dead[0] <= now:
            self._dead = None
        return self._dead[1] if self._dead is not None else None


def connection_key(domain: str, kind: Kind, route: Route) -> str:
    """Return what shares connections: a smarthost has them for all its domains."""
    if kind in (Kind.HERE, Kind.CAUGHT):
        return kind.name.lower()
    host = route.smarthost
    name = f"{host.host}:{host.port}" if host is not None else domain
    return f"{name} {route.tls}"
