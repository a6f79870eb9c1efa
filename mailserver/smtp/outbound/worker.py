"""A worker of the queue: takes what is due, and has it delivered, reported and forgotten.

Any number of workers, in any number of processes, share one queue. What a worker has taken is its
own until its outcome is committed or its lease ends.
"""

import asyncio
import contextlib
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from mailserver.dns import Resolver
from mailserver.errors import MailError, Unavailable
from mailserver.events import QUEUE, Subscription
from mailserver.feedback.tally import Tally
from mailserver.mail import bounces, outgoing
from mailserver.mail.context import Mail
from mailserver.mail.dkim import Signatures
from mailserver.mail.memory import Memory
from mailserver.mail.outgoing import Recorder
from mailserver.model import IdKind, Modseq, QueueId, id_text
from mailserver.queue import policies, routes
from mailserver.queue.routes import Route, TlsLevel
from mailserver.queue.rules import DeliverBy, Outcome, Result
from mailserver.queue.work import Claimed, Ended, LeaseLost, Ledger
from mailserver.sealing import Seal
from mailserver.smtp.outbound.connection import Timeouts
from mailserver.smtp.outbound.courier import Contexts, Courier, Job, Means, Unreachable
from mailserver.smtp.outbound.destination import Destination, connection_key
from mailserver.smtp.outbound.route import Kind, NoRoute, Own, Router
from mailserver.smtp.outbound.sts import Policies

log = logging.getLogger(__name__)

BATCH = 50  # recipients in one claim
HELD = 10  # recipients taken out of the queue for each connection that may be open
POLL = 5.0  # seconds until a wake-up that was lost is made up for
SWEEP = 60.0  # seconds between two looks for delays and for history that has had its time
DEAD = 10.0  # seconds after which a destination that was down is tried again
ROUTES = 10.0  # seconds that the route of a domain is remembered
PAUSE = 1.0  # seconds after a failure of PostgreSQL
MEMORY = 64 * 1024 * 1024  # octets of messages that are sent at the same time
SMALL = 64 * 1024  # octets of each message that are not counted
READERS = 4  # messages that are read from the store at a time
READS = 10  # attempts to read one while the store is away
LOCAL_LANES = 8  # deliveries to mailboxes here at a time
PURGED = 500  # recipients forgotten in one transaction


OVERDUE = Outcome(
    Result.FAILED, "550 5.4.7 The time in which it had to be delivered is over", "5.4.7"
)


class Worker:
    """Delivers what the queue holds until it is stopped."""

    def __init__(
        self,
        mail: Mail,
        resolver: Resolver,
        name: str,
        *,
        contexts: Contexts | None = None,
        timeouts: Timeouts | None = None,
        chance: random.Random | None = None,
        https_port: int = 443,
        tally: Tally | None = None,
    ) -> None:
        """Take a name that no other worker has."""
        contexts = contexts or Contexts()
        self._mail = mail
        self._settings = mail.config.outbound
        chance = chance or random.Random()  # noqa: S311  (spreads load, keeps no secret)
        lease = timedelta(seconds=self._settings.lease)
        self._ledger = Ledger(mail.database, name, mail.now, chance.random, lease)
        own = Own.of(mail.config.server.hostname, self._settings.own_names)
        self._means = Means(
            router=Router(resolver, own, self._settings.port, chance),
            contexts=contexts,
            timeouts=timeouts or Timeouts(),
            seal=Seal(mail.config.server.secret_key),
            sign=Signatures(mail).sign,
            policies=Policies(
                lambda domain: policies.find(mail.database, domain, mail.now()),
                lambda row: policies.store(mail.database, row),
                resolver,
                contexts.verified,
                mail.now,
                https_port,
            ),
            resolver=resolver,
            hostname=mail.config.server.hostname,
            max_messages=self._settings.connection_messages,
            now=mail.now,
            tally=tally or Tally(mail.database, mail.now),
            check=self._ledger.check,
        )
        self._recorder = Recorder(mail, self._ledger, lambda: self._reports_due.set())
        self._memory = Memory(MEMORY)
        self._readers = asyncio.Semaphore(READERS)
        self._destinations: dict[str, Destination] = {}
        self._routes: dict[str, tuple[float, Kind, Route]] = {}
        self._held: dict[tuple[QueueId, str], Claimed] = {}  # taken, and not recorded yet
        self._lanes = 0
        self._changed = asyncio.Event()
        self._reports_due = asyncio.Event()
        self._stopping = False
        self._certain = False  # that all we have taken is known here
        self._tasks: list[asyncio.Task[None]] = []
        self._clock = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Work until cancelled or stopped."""
        await self._until_it_works(self._ledger.beat)
        jobs = (
            ("queue heartbeat", self._beat),
            ("queue claims", self._claim),
            ("queue reports", self._report),
            ("queue sweep", self._sweep),
        )
        self._tasks = [asyncio.create_task(work(), name=name) for name, work in jobs]
        try:
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self, grace: float) -> None:
        """Take nothing more, let deliveries end within `grace` seconds, give back the rest."""
        self._stopping = True
        self._changed.set()
        for destination in self._destinations.values():
            destination.drain()
        lanes = [task for each in self._destinations.values() for task in each.lanes]
        if lanes:
            await asyncio.wait(lanes, timeout=grace)
        for task in lanes:
            task.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        await self._recorder.drain()
        await self._ledger.release(list(self._held.values()))
        self._held.clear()
        for task in self._tasks:
            task.cancel()

    # Taking -----------------------------------------------------------------------------------

    async def _claim(self) -> None:
        subscription = self._mail.events.subscribe(QUEUE)
        subscription.wake = self._changed.set
        try:
            while not self._stopping:
                self._changed.clear()
                room = HELD * self._settings.concurrency - len(self._held)
                if room < BATCH:
                    await self._news(subscription, None)
                    continue
                try:
                    if not self._certain:
                        # our lease would keep them from everybody else as long as we live
                        self._certain = True
                        await self._ledger.give_back_others(self._held)
                    await self._claim_once(subscription)
                except Unavailable as error:
                    self._certain = False  # a claim may be committed although its answer was lost
                    log.warning("queue: no claim", extra={"error": str(error)})
                    await asyncio.sleep(PAUSE)
        finally:
            self._mail.events.unsubscribe(subscription)

    async def _claim_once(self, subscription: Subscription) -> None:
        if not self._ledger.lives:  # it was frozen, and wakes up here
            await self._ledger.beat()
        full = [each for each in self._destinations.values() if each.full]
        busy = set().union(*(each.domains for each in full))
        taken_at = self._mail.now()
        claims = await self._ledger.claim(BATCH, busy)
        if claims:
            self._held.update({_key_of(each): each for each in claims})
            await self._dispatch(claims, taken_at)
            return
        await self._news(subscription, await self._ledger.next_due())

    async def _news(self, subscription: Subscription, due: datetime | None) -> None:
        """Wait for new mail, for a delivery that ended, or until something may be due."""
        seconds = POLL
        if due is not None:
            left = (due - self._mail.now()).total_seconds()
            # what is due already waits for room at its destination
            seconds = min(max(left, 0.05 if left > 0 else PAUSE), POLL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        subscription.modseq = Modseq(0)  # ids of other nodes are not in step with ours

    async def _dispatch(self, claims: Sequence[Claimed], taken_at: datetime) -> None:
        """Hand each message to the destination of its recipients."""
        grouped: dict[tuple[int, str], list[Claimed]] = defaultdict(list)
        for claimed in claims:
            grouped[claimed.message_id, claimed.domain].append(claimed)
        for (_, domain), group in grouped.items():
            try:
                kind, route = await self._route(domain, group[0])
            except MailError as error:
                log.warning("queue: no route read", extra={"domain": domain, "error": str(error)})
                await self._end(group, _trouble(error), routes.default(self._settings))
                continue
            self._destination(domain, kind, route).add(Job(tuple(group), taken_at))
            self._open_lanes(domain, kind, route)

    async def _route(self, domain: str, claimed: Claimed) -> tuple[Kind, Route]:
        """Find the way of a domain: those of this server come first, always."""
        known = self._routes.get(domain)
        if known is None or known[0] < self._clock():
            route = await routes.find(self._mail.database, domain, self._settings)
            kind = Kind.DNS if route.smarthost is None else Kind.SMARTHOST
            if await outgoing.is_here(self._mail, claimed.recipient):
                kind, route = Kind.HERE, replace(route, concurrency=LOCAL_LANES)
            elif self._mail.config.smtp.catch_outbound:
                kind = Kind.CAUGHT
            if len(self._routes) > 10_000:
                self._routes.clear()
            known = self._routes[domain] = (self._clock() + ROUTES, kind, route)
        _, kind, route = known
        if claimed.require_tls and kind in (Kind.DNS, Kind.SMARTHOST):
            # RFC 8689 §4.2.1: with a certificate that is of the host we mean to talk to
            return kind, replace(route, tls=TlsLevel.VERIFY)
        return kind, route

    def _destination(self, domain: str, kind: Kind, route: Route) -> Destination:
        key = connection_key(domain, kind, route)
        destination = self._destinations.get(key)
        if destination is None:
            destination = self._destinations[key] = Destination(key, domain, kind, route)
        else:
            destination.route = route
        return destination

    # Delivering -------------------------------------------------------------------------------

    def _open_lanes(self, domain: str, kind: Kind, route: Route) -> None:
        destination = self._destination(domain, kind, route)
        while destination.wants_lane and self._lanes < self._settings.concurrency:
            self._lanes += 1
            task = asyncio.create_task(self._lane(destination), name=f"delivery {destination.key}")
            destination.lanes.add(task)

    async def _lane(self, destination: Destination) -> None:
        """Deliver jobs one after the other until none comes."""
        courier = Courier(self._means, destination.domain, destination.route)
        task = asyncio.current_task()
        assert task is not None
        try:
            while job := await destination.next(self._patience(courier)):
                await self._job(destination, courier, job)
                if destination.hungry:
                    self._changed.set()
                if destination.crowded and not courier.connected:
                    break  # the other side is down or busy: one lane goes on to find out
            await courier.close()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("queue: a delivery crashed", extra={"destination": destination.key})
        finally:
            courier.abort()
            self._lanes -= 1
            destination.lanes.discard(task)
            if destination.over and destination.dead(self._clock()) is None:
                self._destinations.pop(destination.key, None)
            self._more_lanes(destination)
            self._changed.set()

    def _patience(self, courier: Courier) -> float:
        """Return how long a lane waits for a job: not at all when others wait for its place."""
        crowded = self._stopping or self._lanes >= self._settings.concurrency
        return self._means.timeouts.idle if courier.connected and not crowded else 0

    def _more_lanes(self, last: Destination) -> None:
        """Give the place of a lane that ended to whoever needs it most."""
        if self._stopping:
            return
        for each in sorted(self._destinations.values(), key=lambda each: len(each.lanes)):
            if each.wants_lane:
                self._open_lanes(each.domain, each.kind, each.route)
                return

    async def _job(self, destination: Destination, courier: Courier, job: Job) -> None:
        first = job.first
        with self._mail.tracing.span(
            "delivery",
            kind="consumer",
            parent=first.traceparent,
            queue_id=_shown(first),
            domain=first.domain,
            recipients=len(job.claims),
            attempt=first.attempts,
        ) as span:
            try:
                outcomes = await self._tried(destination, courier, job)
            except LeaseLost:
                courier.abort()
                await self._let_go(job.claims)
                return
            results = sorted({outcome.result.name.lower() for outcome in outcomes})
            span.note(outcome=" ".join(results))
        await self._record(job.claims, outcomes, destination.route)

    async def _tried(self, destination: Destination, courier: Courier, job: Job) -> list[Outcome]:
        """Return how the attempt ended for each recipient, whatever happens."""
        claims = job.claims
        try:
            self._ledger.check(job.taken_at)
            return await self._outcomes(destination, courier, job)
        except LeaseLost:
            raise
        except MailError as error:
            log.warning(
                "queue: message not read",
                extra={"queue_id": _shown(job.first), "error": repr(error)},
            )
            return [_trouble(error) for _ in claims]
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("queue: delivery failed", extra={"queue_id": _shown(job.first)})
            internal = Outcome(Result.DEFERRED, "451 4.3.0 Internal error of this server", "4.3.0")
            return [internal for _ in claims]

    async def _outcomes(
        self, destination: Destination, courier: Courier, job: Job
    ) -> list[Outcome]:
        if destination.kind is Kind.CAUGHT:
            caught = Outcome(Result.CAUGHT, "250 2.0.0 Caught: nothing leaves this server", "2.0.0")
            return [caught for _ in job.claims]
        by = DeliverBy.stored(job.first.deliver_by, job.first.by_mode)
        if by is not None and by.returns and by.at <= self._mail.now():
            return [OVERDUE for _ in job.claims]
        dead = destination.dead(self._clock())
        if dead is not None:
            return [dead for _ in job.claims]
        size = max(job.first.size - SMALL, 0)
        if not await self._memory.take(min(size, MEMORY), self._means.timeouts.final):
            busy = Outcome(Result.DEFERRED, "452 4.3.1 This server has no memory left", "4.3.1")
            return [busy for _ in job.claims]
        try:
            content = await self._message(job)
            if destination.kind is Kind.HERE:
                schedule = destination.route.schedule
                return await outgoing.deliver_here(
                    self._mail, self._recorder, job.claims, content, schedule
                )
            return await self._send(destination, courier, job, content)
        finally:
            self._memory.give(min(size, MEMORY))

    async def _message(self, job: Job) -> bytes:
        """Read a message; wait a little for a store that is away: nobody else has failed."""
        async with self._readers:  # they leave connections to the sessions of this process
            for left in reversed(range(READS)):
                try:
                    return await outgoing.message(self._mail, job.first)
                except Unavailable:
                    if not left or self._stopping:
                        raise
                await asyncio.sleep(PAUSE)
        raise AssertionError("unreachable")

    async def _send(
        self, destination: Destination, courier: Courier, job: Job, content: bytes
    ) -> list[Outcome]:
        try:
            outcomes = await courier.deliver(job, content)
        except NoRoute as none:
            return [none.outcome for _ in job.claims]
        except Unreachable as error:
            destination.down(error.outcome, self._clock() + DEAD)
            return [error.outcome for _ in job.claims]
        if courier.cut:
            destination.strained()
        else:
            destination.succeeded()
        return outcomes

    async def _record(
        self, claims: Sequence[Claimed], outcomes: Sequence[Outcome], route: Route
    ) -> None:
        for claimed, outcome in zip(claims, outcomes, strict=True):
            log.info(
                "delivery",
                extra={
                    "queue_id": _shown(claimed),
                    "recipient": claimed.recipient,
                    "outcome": outcome.result.name.lower(),
                    "reply": outcome.reply,
                    "remote": outcome.remote,
                    "attempts": claimed.attempts,
                },
            )
        ended = [
            Ended(claimed, outcome, route.schedule)
            for claimed, outcome in zip(claims, outcomes, strict=True)
            if self._has(claimed)
        ]
        await self._recorder.record(ended)
        for each in ended:
            self._held.pop(_key_of(each.claimed), None)

    def _has(self, claimed: Claimed) -> bool:
        """Tell whether this is the last claim of a recipient: one may be lost and taken anew."""
        return self._held.get(_key_of(claimed)) is claimed

    async def _let_go(self, claims: Sequence[Claimed]) -> None:
        """Give back without an attempt what others may have by now."""
        log.warning(
            "queue: not sent, this worker was stopped for too long",
            extra={"queue_id": _shown(claims[0]), "recipients": len(claims)},
        )
        own = [each for each in claims if self._has(each)]
        for each in own:
            self._held.pop(_key_of(each))
        try:
            await self._ledger.release(own)
        except Unavailable:
            self._certain = False

    async def _end(self, claims: Sequence[Claimed], outcome: Outcome, route: Route) -> None:
        await self._record(claims, [outcome for _ in claims], route)

    # Beside it --------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Show that this worker lives, and take back what dead ones had."""
        while True:
            try:
                await self._ledger.beat()
                taken, held = await self._ledger.reap()
                if taken:
                    log.warning("queue: a worker died", extra={"recipients": taken, "held": held})
                    self._changed.set()
            except Unavailable as error:
                log.warning("queue: no heartbeat", extra={"error": str(error)})
            await asyncio.sleep(self._ledger.beat_time)

    async def _report(self) -> None:
        """Tell senders what became of their mail."""
        while True:
            self._reports_due.clear()
            with contextlib.suppress(Unavailable):
                while await bounces.report_all(self._mail, self._ledger):
                    pass
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP):
                    await self._reports_due.wait()

    async def _sweep(self) -> None:
        while True:
            with contextlib.suppress(Unavailable):
                if await self._ledger.note_delays(BATCH):
                    self._reports_due.set()
                while await outgoing.purge(self._mail, PURGED) == PURGED:
                    pass
            for key, each in list(self._destinations.items()):
                if each.over and each.dead(self._clock()) is None:
                    del self._destinations[key]
            await asyncio.sleep(SWEEP)

    async def _until_it_works(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
                return
            except Unavailable as error:
                log.warning("queue: waits for PostgreSQL", extra={"error": str(error)})
            await asyncio.sleep(PAUSE)


def _trouble(error: MailError) -> Outcome:
    """Return the outcome of an attempt that this server could not make: always for later."""
    text = "The store is not available"
    if not isinstance(error, Unavailable):
        text = "The message cannot be read"
    return Outcome(Result.DEFERRED, f"451 4.3.0 {text}", "4.3.0")


def _key_of(claimed: Claimed) -> tuple[QueueId, str]:
    return claimed.message_id, claimed.recipient


def _shown(claimed: Claimed) -> str:
    return id_text(IdKind.QUEUE, claimed.message_id)
