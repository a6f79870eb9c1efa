"""What a worker of the queue does with the rows it has: claim, record, give back."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mailserver.errors import MailError, Unavailable
from mailserver.model import QueueId
from mailserver.queue import rules
from mailserver.queue.rules import Attempted, DeliverBy, Outcome, Schedule
from mailserver.storage import leases, queue_work
from mailserver.storage.database import Connection, Database
from mailserver.storage.queue_work import Claimed as Claimed
from mailserver.storage.queue_work import Recorded

LEASE_TIME = timedelta(seconds=90)  # unless the configuration says something else
BEATS = 6  # heartbeats in the time of a lease
MARGIN = 1 / 9  # of the lease, in which nothing more is begun
SPREAD = timedelta(seconds=60)  # over which comes back what a dead worker had
DOMAINS = 60  # looked at in one round through the domains
EACH = 10  # of one domain taken in such a round


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that has ended."""

    claimed: Claimed
    outcome: Outcome
    schedule: Schedule


class LeaseLost(MailError):
    """This worker was stopped for so long that others may have what it had."""


class Ledger:
    """One worker's hand on the queue; any number of them work on it at a time."""

    def __init__(
        self,
        database: Database,
        owner: str,
        now: Callable[[], datetime],
        chance: Callable[[], float],
        lease: timedelta = LEASE_TIME,
    ) -> None:
        """Take a name that no other worker has, and chance in [0, 1) for the retry times.

        A worker that shows no life for the time of the `lease` is taken for dead by the others.
        """
        self.beat_time = lease.total_seconds() / BEATS  # seconds between two heartbeats
        self._lease = lease
        self._database = database
        self._owner = owner
        self._now = now
        self._chance = chance
        self._cursor = ""  # the domain that was looked at last
        self._beaten: datetime | None = None  # when this worker showed last that it lives
        self._in_time = True  # the last two times were close enough together
        self._since: datetime | None = None  # since when its lease has never ended

    async def beat(self) -> None:
        """Say that this worker lives."""
        name = queue_work.LEASE_PREFIX + self._owner
        now = self._now()
        if not await leases.take(self._database, name, self._owner, now, self._lease):
            raise Unavailable("another worker has the same name")
        self._in_time = self._beaten is None or now - self._beaten < self._lease
        if not self._lives(now):
            self._since = now
        self._beaten = now

    @property
    def lives(self) -> bool:
        """Tell whether others count on this worker still."""
        return self._lives(self._now())

    def check(self, moment: datetime) -> None:
        """Raise LeaseLost unless what was claimed at a moment is still this worker's for sure.

        A worker that was frozen, or without PostgreSQL, goes on in the middle of what it did.
        """
        if self._since is None or moment < self._since or not self._lives(self._now()):
            raise LeaseLost("this worker was stopped for too long")

    def _lives(self, now: datetime) -> bool:
        return self._beaten is not None and now - self._beaten < self._lease * (1 - MARGIN)

    async def reap(self) -> tuple[int, int]:
        """Take back what dead workers had; return how many, and how many were set aside.

        Nothing when this one could not say that it lives either: PostgreSQL was away for all, and
        the others get until the next time to write down what they have sent meanwhile.
        """
        if not self._in_time:
            return 0, 0
        return await queue_work.reap(self._database, self._now(), rules.MAX_CRASHES, SPREAD)

    async def claim(self, limit: int, busy: Collection[str]) -> list[Claimed]:
        """Take recipients that are due, none of the domains that are busy already.

        With busy domains the others are gone through in turns: their backlog is never read.
        """
        if not busy:
            return await queue_work.claim(self._database, self._owner, self._now(), limit)
        domains = await queue_work.domains_after(self._database, self._cursor, DOMAINS)
        self._cursor = domains[-1] if len(domains) == DOMAINS else ""
        wanted = [domain for domain in domains if domain not in busy]
        if not wanted:
            return []
        return await queue_work.claim_of(
            self._database, self._owner, self._now(), limit, wanted, EACH
        )

    async def next_due(self) -> datetime | None:
        """Return when the next recipient is due; None when nothing waits."""
        return await queue_work.next_due(self._database)

    async def record(
        self, ended: Iterable[Ended], tx: Connection | None = None
    ) -> list[tuple[Ended, Recorded]]:
        """Write how attempts ended; return those that still were this worker's."""
        now = self._now()
        rows = {
            (each.claimed.message_id, each.claimed.recipient): (each, self._row(each, now))
            for each in ended
        }
        written = await queue_work.record(
            tx or self._database, self._owner, [rows[key][1] for key in sorted(rows)]
        )
        return [rows[key] for key in sorted(written)]

    def _row(self, ended: Ended, now: datetime) -> Recorded:
        claimed = ended.claimed
        attempted = Attempted(
            claimed.attempts,
            claimed.received_at,
            claimed.expires_at,
            claimed.notify,
            not claimed.sender,
            DeliverBy.stored(claimed.deliver_by, claimed.by_mode),
        )
        then = rules.after(attempted, ended.outcome, ended.schedule, now, self._chance())
        return Recorded(
            claimed.message_id,
            claimed.recipient,
            then.state,
            then.next_attempt,
            then.expires_at,
            then.finished_at,
            then.report,
            then.reply,
            then.status,
            then.remote,
        )

    async def release(self, claims: Sequence[Claimed]) -> None:
        """Give back recipients whose attempt was not made."""
        keys: list[tuple[QueueId, str, int]] = sorted(
            (each.message_id, each.recipient, each.attempts) for each in claims
        )
        if keys:
            await queue_work.release(self._database, self._owner, keys, self._now())

    async def give_back_others(self, held: Collection[tuple[QueueId, str]]) -> int:
        """Give back what this worker has without knowing: a claim of which no answer came."""
        return await queue_work.give_back_others(
            self._database, self._owner, sorted(held), self._now()
        )

    async def note_delays(self, limit: int) -> int:
        """Note a report for recipients that have waited for too long."""
        return await queue_work.note_delays(self._database, self._now(), limit)

    async def with_reports(self, limit: int) -> list[QueueId]:
        """Return messages about whose recipients something is to be reported."""
        return await queue_work.with_reports(self._database, limit)
