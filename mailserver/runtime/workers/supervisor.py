"""Keeps the workers running, and replaces them one after the other without losing a connection.

A worker accepts on the sockets of its slot. While a slot has no worker that is ready, the others
accept on its sockets too, so no connection waits for a start.
"""

import asyncio
import itertools
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from mailserver.errors import WorkerFailed
from mailserver.runtime.workers import tally
from mailserver.runtime.workers.channel import Channel, Message
from mailserver.runtime.workers.process import Worker
from mailserver.runtime.workers.sockets import Sockets
from mailserver.runtime.workers.tally import Family

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 10.0  # seconds before a worker that ended is started again
STEADY = 10.0  # seconds of work after which an earlier failure is forgotten
SILENCE = 60.0  # seconds without a word after which a worker is taken for stuck
FIRST_WORD = 120.0  # the same, of one that has not said anything yet
LOOK = 5.0  # seconds between two looks for that
REPORT_TIME = 1.0  # seconds for a worker to tell its metrics; else those that it told last count
# Seconds to become ready, for a worker that replaces another or one that ended. The first ones may
# have to wait for PostgreSQL, so theirs begin when that was there and had its schema.
START_TIME = 120.0
LEAVE_TIME = 15.0  # seconds a worker has beyond what it gives its connections
CLOSE_TIME = 5.0  # seconds for a worker to say that it takes no more connections


@dataclass(frozen=True, slots=True)
class Plan:
    """What workers are started with."""

    command: Sequence[str]
    count: int
    sockets: Sockets
    assignment: Callable[[int], Message]  # by slot: the first thing a worker is told
    patience: float  # seconds a worker takes to end, once asked
    prefix: str  # of the names of metrics


@dataclass(slots=True)
class _Slot:
    number: int
    worker: Worker | None = None  # the one that serves
    coming: Worker | None = None  # the one that will
    restart: asyncio.Task[None] | None = None
    pause: float = FIRST_PAUSE


class Supervisor:
    """The workers of one server."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._slots = [_Slot(number) for number in range(plan.count)]
        self._workers: set[Worker] = set()  # every one that runs
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._gone: list[Family] = []  # what still counts of workers that are gone
        self._restarts = 0
        self._questions = itertools.count()
        self._stopping = False

    async def start(self) -> None:
        """Start all; return when they are ready. WorkerFailed when one cannot start."""
        self._keep(self._look())
        await self._begin(self._slots)
        self._assign()

    async def replace(self, plan: Plan) -> None:
        """Replace every worker, one after the other, each only when its successor is ready.

        No new connection comes to one that was replaced once this returns. WorkerFailed when a
        successor does not start; those that serve go on then.
        """
        async with self._turn:
            served = [slot.worker for slot in self._slots if slot.worker is not None]
            before, self._plan = self._plan, plan
            surplus, self._slots = self._slots[plan.count :], self._slots[: plan.count]
            self._slots += [_Slot(number) for number in range(len(self._slots), plan.count)]
            done: list[_Slot] = []
            try:
                for slot in self._slots:
                    if slot.restart is not None:
                        slot.restart.cancel()
                        await asyncio.wait({slot.restart})
                    async with asyncio.timeout(START_TIME):
                        await self._succeed(slot)
                    done.append(slot)
            except (WorkerFailed, OSError) as error:  # TimeoutError is an OSError
                text = str(error) or "a worker does not become ready"
                self._mend()
                if not done:  # nothing has changed yet
                    self._plan, self._slots = before, self._slots + surplus
                    raise WorkerFailed(text, 1) from None
                log.error("worker not replaced", extra={"error": text})
            for slot in surplus:
                self._retire(slot)
            self._assign()
            await _closed([worker for worker in served if worker.asked_to_leave])

    def tell(self, message: Message) -> None:
        """Say something to every worker."""
        for worker in self._workers:
            worker.tell(message)

    async def stop(self) -> None:
        """End every worker, and wait until all have ended."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.stop(self._patience) for worker in list(self._workers)))

    @property
    def _patience(self) -> float:
        return self._plan.patience + LEAVE_TIME

    # starting ------------------------------------------------------------------------------------

    async def _begin(self, slots: Sequence[_Slot]) -> None:
        """Start the workers of slots at the same time."""
        starts = [asyncio.ensure_future(self._start(slot)) for slot in slots]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            raise

    async def _start(self, slot: _Slot) -> None:
        """Start a worker in a slot and let it serve; WorkerFailed when it ends instead."""
        assignment = self._assignment(slot.number)
        descriptors = self._plan.sockets.descriptors
        inherited = [fd for rows in descriptors.values() for row in rows for fd in row]
        worker = slot.coming = Worker(slot.number, self._plan.command, inherited)
        self._workers.add(worker)
        attending = self._keep(self._attend(worker, assignment))
        try:
            if not await worker.until_ready():
                await asyncio.wait({attending})
                text, code = worker.failure or (f"worker {slot.number} ended at its start", 1)
                raise WorkerFailed(text, code)
        except asyncio.CancelledError:
            worker.asked_to_leave = True
            worker.send(signal.SIGTERM)
            if not self._stopping:  # stop() ends it itself
                self._keep(self._see_off(worker, LEAVE_TIME))  # it has no connections yet
            raise
        finally:
            slot.coming = None
        slot.worker = worker
        self._assign()

    def _assignment(self, number: int) -> Message:
        """Return what a worker is to be told first; WorkerFailed whatever is wrong with it."""
        try:
            return self._plan.assignment(number)
        except Exception as error:
            log.exception("worker not started: nothing to tell it", extra={"worker": number})
            raise WorkerFailed(f"worker {number}: nothing to tell it: {error}", 1) from error

    async def _succeed(self, slot: _Slot) -> None:
        """Start a successor, then let the one before it leave."""
        before = slot.worker
        await self._start(slot)
        if before is not None:
            self._leave(before)
        log.info("worker replaced", extra={"worker": slot.number})

    def _mend(self) -> None:
        """See to slots that lost their worker while a successor was to come."""
        for slot in self._slots:
            if slot.worker is None and (slot.restart is None or slot.restart.done()):
                slot.restart = self._keep(self._restart(slot))

    def _retire(self, slot: _Slot) -> None:
        if slot.restart is not None:
            slot.restart.cancel()
        if slot.worker is not None:
            self._leave(slot.worker)
            slot.worker = None

    def _leave(self, worker: Worker) -> None:
        """Let a worker end in its own time."""
        worker.asked_to_leave = True
        worker.tell({"do": "leave"})
        self._keep(self._see_off(worker, self._patience))

    async def _see_off(self, worker: Worker, seconds: float) -> None:
        """Make a worker end that does not within some seconds."""
        try:
            await asyncio.wait_for(worker.wait(), seconds)
        except TimeoutError:
            log.warning("worker does not end", extra={"worker": worker.slot, "pid": worker.pid})
            worker.send(signal.SIGKILL)

    async def _restart(self, slot: _Slot) -> None:
        """Start a worker again until it runs, with longer and longer pauses."""
        while True:
            await asyncio.sleep(slot.pause)
            slot.pause = min(2 * slot.pause, LONGEST_PAUSE)
            self._restarts += 1
            try:
                async with asyncio.timeout(START_TIME):
                    await self._start(slot)
            except (WorkerFailed, OSError) as error:  # TimeoutError is an OSError
                text = str(error) or "a worker does not become ready"
                extra = {"worker": slot.number, "error": text, "pause": slot.pause}
                log.error("worker does not start", extra=extra)
            else:
                return

    def _assign(self) -> None:
        """Tell every worker on whose sockets it accepts: its own, and those of nobody."""
        ready = [slot.worker for slot in self._slots if slot.worker is not None]
        if not ready:
            return
        duties: dict[Worker, list[int]] = {worker: [worker.slot] for worker in ready}
        vacant = set(range(self._plan.sockets.slots)) - {worker.slot for worker in ready}
        for number, worker in zip(sorted(vacant), itertools.cycle(ready), strict=False):
            duties[worker].append(number)
        for worker, slots in duties.items():
            worker.tell({"do": "serve", "slots": slots})

    # hearing -------------------------------------------------------------------------------------

    async def _attend(self, worker: Worker, assignment: Message) -> None:
        """Hear what a worker says until it has ended, and see to its slot then."""
        try:
            channel = await worker.open(assignment)
        except Exception as error:  # whatever it is: it would wait for its assignment for ever
            log.exception("worker not told what to do", extra=_about(worker))
            self._end(worker, f"not told what to do: {error}")
        else:
            await self._hear(worker, channel)
        code = await worker.wait()
        self._workers.discard(worker)
        self._gone = tally.merged([self._gone, tally.lasting(worker.families)])
        for future in worker.reports.values():
            future.cancel()
        self._after(worker, code)

    async def _hear(self, worker: Worker, channel: Channel) -> None:
        """Take what a worker says until it says no more; nonsense is the last it says."""
        try:
            while (message := await channel.receive()) is not None:
                worker.heard = asyncio.get_running_loop().time()
                self._take(worker, message)
        except (ValueError, TypeError, LookupError):
            log.exception("worker says nonsense", extra=_about(worker))
            worker.send(signal.SIGKILL)

    def _end(self, worker: Worker, why: str) -> None:
        """End a worker of which nothing is to be expected."""
        worker.failure = worker.failure or (f"worker {worker.slot}: {why}", 1)
        worker.send(signal.SIGKILL)

    def _after(self, worker: Worker, code: int) -> None:
        """Start another worker when one that served has ended unasked."""
        slot = next((slot for slot in self._slots if slot.worker is worker), None)
        if slot is None or self._stopping:
            return
        slot.worker = None
        self._assign()
        if slot.coming is not None:
            return
        seconds = asyncio.get_running_loop().time() - worker.born
        if seconds >= STEADY:
            slot.pause = FIRST_PAUSE
        log.error(
            "worker ended, starting another",
            extra={
                "worker": worker.slot,
                "pid": worker.pid,
                "code": code,
                "seconds": round(seconds, 1),
                "pause": slot.pause,
            },
        )
        slot.restart = self._keep(self._restart(slot))

    def _take(self, worker: Worker, message: Message) -> None:
        kind = message["is"]
        if "families" in message:
            worker.families = message["families"]
        if kind == "ready":
            worker.ready = True
            worker.changed.set()
        elif kind == "closed":
            worker.closed.set()
        elif kind == "prepared":
            worker.prepared = asyncio.get_running_loop().time()
        elif kind == "failed":
            worker.failure = (message["text"], message["code"])
        elif kind == "report":
            future = worker.reports.pop(message["question"], None)
            if future is not None and not future.done():
                future.set_result(None)
        elif kind == "question":
            self._keep(self._answer(worker, message["question"]))

    async def _answer(self, worker: Worker, question: int) -> None:
        """Tell a worker the metrics of all."""
        asked = [self._ask(each) for each in self._workers if each.ready]
        if asked:
            await asyncio.wait(asked, timeout=REPORT_TIME)
        tallies = [each.families for each in self._workers]
        families = tally.merged([self._gone, *tallies, self._own()])
        worker.tell({"do": "render", "question": question, "families": families})

    def _ask(self, worker: Worker) -> "asyncio.Future[None]":
        question = next(self._questions)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        worker.reports[question] = future
        worker.tell({"do": "report", "question": question})
        return future

    def _own(self) -> list[Family]:
        """Return what only the supervisor counts; `Metrics` has the names and what they mean."""
        prefix = self._plan.prefix
        ready = sum(slot.worker is not None for slot in self._slots)
        return [
            [f"{prefix}_workers", tally.SUM, "gauge", "", [[f"{prefix}_workers", {}, ready]]],
            [
                *(f"{prefix}_worker_restarts", tally.SUM, "counter", ""),
                [[f"{prefix}_worker_restarts_total", {}, self._restarts]],
            ],
        ]

    async def _look(self) -> None:
        """End workers of which nothing comes any more."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK)
            for worker in self._workers:
                why = _hopeless(worker, loop.time())
                if why is not None:
                    log.error("worker is stuck", extra={**_about(worker), "reason": why})
                    self._end(worker, why)

    def _keep(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _hopeless(worker: Worker, now: float) -> str | None:
    """Say why nothing is to be expected of a worker any more, None when that is not so."""
    if not worker.heard:
        late = now - worker.born > FIRST_WORD
        return f"said nothing within {FIRST_WORD:.0f} s of its start" if late else None
    if now - worker.heard > SILENCE:
        return f"has said nothing for {SILENCE:.0f} s: its event loop is stuck"
    if worker.prepared and not worker.ready and now - worker.prepared > START_TIME:
        return f"did not become ready within {START_TIME:.0f} s"
    return None


async def _closed(workers: Sequence[Worker]) -> None:
    """Wait until workers that were asked to leave take no more connections."""
    waits = [asyncio.ensure_future(worker.closed.wait()) for worker in workers]
    if waits:
        _, late = await asyncio.wait(waits, timeout=CLOSE_TIME)
        for wait in late:
            wait.cancel()


def _about(worker: Worker) -> dict[str, int]:
    return {"worker": worker.slot, "pid": worker.pid}
