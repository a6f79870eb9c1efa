"""The move of message bodies from PostgreSQL to S3, and the collection of those nobody needs.

An S3 "200" is no promise: SeaweedFS was measured to lose acknowledged objects in a power cut, and
to tell the size of objects whose content it lost. So a body is copied and read back, and its hot
copy in PostgreSQL goes only after a durability barrier that began after the copy, when the object
was read once more and still is the body.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeVar

from mailserver.config import Mover as Settings
from mailserver.errors import MailError, NotFound, Unavailable
from mailserver.metrics import Metrics
from mailserver.model import AccountId, BlobId, IdKind, id_text, id_value
from mailserver.storage import bodies, leases
from mailserver.storage.blobs import Blobs
from mailserver.storage.bodies import Location
from mailserver.storage.database import Database
from mailserver.storage.ids import Ids

log = logging.getLogger(__name__)
T = TypeVar("T")

BATCH = 200  # bodies in one round of work
PARALLEL = 8  # S3 requests at once: enough for SeaweedFS, and the event loop stays free
PROBE = "mover-probe"  # the name of an object that is written to see whether S3 works
LEASE = "mover"
LEASE_TIME = timedelta(seconds=120)


class _Object(Enum):
    """What became of the object of a body."""

    WHOLE = "whole"
    UNNEEDED = "unneeded"  # the body was dropped or removed meanwhile
    DAMAGED = "damaged"
    MISSING = "missing"
    UNREADABLE = "unreadable"


LOST = (_Object.DAMAGED, _Object.MISSING, _Object.UNREADABLE)


class Mover:
    """Copies, drops and collects; any number of processes may run one, a lease picks who works."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        ids: Ids,
        settings: Settings,
        metrics: Metrics,
        now: Callable[[], datetime],
        owner: str,
        barrier: Callable[[], Awaitable[None]] | None,
    ) -> None:
        """Take a barrier that makes what S3 has durable; None: `barrier_age` must do."""
        self._database = database
        self._blobs = blobs
        self._ids = ids
        self._settings = settings
        self._metrics = metrics
        self._now = now
        self._owner = owner
        self._barrier = barrier

    async def run(self) -> None:
        """Work until cancelled; a round that fails is logged and tried again."""
        while True:
            try:
                busy = await self.round()
            except MailError as error:
                self._metrics.background_failures.labels("mover").inc()
                log.warning("mover: round failed", extra={"error": str(error)})
                busy = False
            await asyncio.sleep(0 if busy else self._settings.interval)

    async def round(self) -> bool:
        """Do one batch of each kind of work; return whether there was a full batch of any."""
        if not await leases.take(self._database, LEASE, self._owner, self._now(), LEASE_TIME):
            return False
        copied = await self.copy()
        dropped = await self.drop()
        collected = await self.collect()
        return max(copied, dropped, collected) >= BATCH

    async def copy(self) -> int:
        """Write bodies to S3 and read them back; return how many were."""
        before = self._now() - timedelta(seconds=self._settings.copy_after)
        waiting = await bodies.to_copy(self._database, before, BATCH)
        moves, failure = await self._each(waiting, self._copy_one)
        done = [move for move in moves if move is not None]
        if done:
            noted = await bodies.copied(self._database, done, self._now())
            self._metrics.blobs_moved.inc(len(noted))
            # this process was frozen, and another was first: nothing would ever remove ours
            for _, _, name in done:
                if name not in noted:
                    await self._blobs.delete(name)
        if failure is not None:
            raise failure
        return len(done)

    async def _copy_one(self, location: Location) -> tuple[AccountId, BlobId, str] | None:
        data = await self._hot(location)
        if data is None:
            log.error("mover: body without a hot copy", extra=_named(location))
            return None
        name = object_name(location.account_id, location.id, self._ids.next())
        await self._blobs.put(name, data)
        if await self._blobs.get(name, 0, len(data)) != data:
            log.error("mover: object differs from what was written", extra=_named(location))
            return None
        return location.account_id, location.id, name

    async def drop(self) -> int:
        """Drop hot copies whose object is durable; return how many were."""
        now = self._now()
        created_before = now - timedelta(seconds=self._settings.drop_after)
        copied_before = now
        if self._barrier is None:
            copied_before = now - timedelta(seconds=self._settings.barrier_age)
        waiting = await bodies.to_drop(self._database, created_before, copied_before, BATCH)
        if waiting and self._barrier is not None:
            await self._barrier()
        seen, failure = await self._each(waiting, self._look)
        by_account: dict[AccountId, list[Location]] = {}
        for location, seen_as in seen:
            if seen_as is _Object.WHOLE:
                by_account.setdefault(location.account_id, []).append(location)
        for account, places in by_account.items():
            await bodies.drop(self._database, account, places)
            self._metrics.blobs_dropped.inc(len(places))
        await self._copy_again([each for each in seen if each[1] in LOST])
        if failure is not None:
            raise failure
        return sum(map(len, by_account.values()))

    async def _look(self, location: Location) -> tuple[Location, "_Object"]:
        """Return what became of the object of a hot body."""
        data = await self._hot(location)
        if location.object is None or data is None:
            return location, _Object.UNNEEDED
        try:
            found = await self._blobs.get(location.object, location.offset, location.length)
        except NotFound:
            return location, _Object.MISSING
        except Unavailable:
            return location, _Object.UNREADABLE
        return location, _Object.WHOLE if found == data else _Object.DAMAGED

    async def _copy_again(self, lost: Sequence[tuple[Location, "_Object"]]) -> None:
        """Let objects that do not hold their bodies be written anew.

        A cut between copy and barrier leaves what was known of an object without its content, and
        S3 cannot read that. It looks like a failure of all of S3, in which no object is given up;
        so another object shows whether it is one: then this raises Unavailable.
        """
        if not lost:
            return
        await self._probe()
        # S3 works now, and perhaps did not when they were read
        lost = [await self._look(location) for location, _ in lost]
        if any(seen_as is _Object.UNREADABLE for _, seen_as in lost):
            await self._probe()  # nor perhaps when they were read again
        for location, seen_as in lost:
            if seen_as not in LOST:
                continue
            # this process was frozen, and another has removed the body together with its object
            if not await bodies.forget_object(self._database, location):
                continue
            extra = _named(location) | {"object": seen_as.value}
            log.error("mover: object is lost, copying again", extra=extra)
            if location.object:
                await self._blobs.delete(location.object)

    async def _probe(self) -> None:
        """Raise Unavailable unless S3 takes an object and gives it back."""
        await self._blobs.put(PROBE, PROBE.encode())
        await self._blobs.get(PROBE, 0, len(PROBE))
        await self._blobs.delete(PROBE)

    async def _hot(self, location: Location) -> bytes | None:
        account, blob = location.account_id, location.id
        return (await bodies.hot(self._database, account, [blob])).get(blob)

    async def collect(self) -> int:
        """Delete bodies that were unreferenced for the whole grace time; return how many."""
        before = self._now() - timedelta(seconds=self._settings.grace)
        async with self._database.transaction() as tx:
            gone = await bodies.collect(tx, before, BATCH)
        # the rows are gone first: a crash here leaves objects, which `fsck` finds and removes
        for _, _, name in gone:
            if name is not None:
                try:
                    await self._blobs.delete(name)
                except NotFound:
                    continue
        self._metrics.blobs_collected.inc(len(gone))
        return len(gone)

    async def _each(
        self, locations: Sequence[Location], work: Callable[[Location], Awaitable[T]]
    ) -> tuple[list[T], BaseException | None]:
        """Do the same to all, a few at a time; return what was done and the first failure.

        One body that cannot be moved must not undo the work on the others.
        """
        gate = asyncio.Semaphore(PARALLEL)

        async def one(location: Location) -> T:
            async with gate:
                return await work(location)

        outcomes = await asyncio.gather(*map(one, locations), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        done = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        return done, failures[0] if failures else None


def object_name(account: AccountId, blob: BlobId, unique: int) -> str:
    """Return a name that is never used twice: a late delete cannot hit a later object."""
    return f"{id_text(IdKind.ACCOUNT, account)}/{blob.hex()}-{id_text(IdKind.BLOB, unique)}"


def object_made(name: str) -> int | None:
    """Return the id in an object's name, which tells when it was made; None for a strange name."""
    return id_value(IdKind.BLOB, name.rpartition("-")[2])


def _named(location: Location) -> dict[str, str]:
    return {"account": id_text(IdKind.ACCOUNT, location.account_id), "blob": location.id.hex()}
