"""Bodies move from PostgreSQL to S3, stay readable, and go when nobody needs them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from itertools import repeat

import pytest
import pytest_asyncio

from mailserver.config import Config
from mailserver.errors import Corrupt, NotFound, Unavailable
from mailserver.mail import content, delivery, fsck, mailboxes, messages
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import DELETED, Account, Flags
from mailserver.storage import bodies
from mailserver.storage.blobs import Blobs
from mailserver.storage.mover import PROBE, Mover

RAW = b"Subject: moved\r\n\r\n" + b"x" * 5000 + b"\r\n"


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 24, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def barriers() -> list[datetime]:
    return []


@pytest_asyncio.fixture
async def mover(
    mail: Mail, config: Config, clock: Clock, barriers: list[datetime]
) -> AsyncIterator[Mover]:
    mail.now = clock

    async def barrier() -> None:
        barriers.append(clock())

    yield Mover(
        mail.database,
        mail.blobs,
        mail.ids,
        config.mover,
        mail.metrics,
        clock,
        "test",
        barrier,
    )


async def hot(mail: Mail) -> int:
    return int(await mail.database.fetchval("SELECT count(*) FROM blob_hot"))


async def test_a_body_is_copied_then_dropped_then_collected(
    mail: Mail, alice: Account, mover: Mover, clock: Clock, barriers: list[datetime]
) -> None:
    accepted = await delivery.accept(
        mail, RAW, [Target(alice.id, flags=Flags(DELETED))], received_at=clock()
    )
    await mover.round()
    assert [page async for page in mail.blobs.names()] == []

    clock.time += timedelta(minutes=2)
    await mover.round()
    (objects,) = [page async for page in mail.blobs.names()]
    assert len(objects) == 1
    assert await hot(mail) == 1
    assert barriers == []

    clock.time += timedelta(days=8)
    await mover.round()
    assert await hot(mail) == 0
    assert barriers == [clock()]
    assert await content.content(mail, alice.id, accepted.blob_id) == RAW

    box = await mailboxes.by_path(mail, alice.id, "INBOX")
    await messages.expunge(mail, alice.id, box.id, None)
    clock.time += timedelta(days=34)
    await mover.round()
    assert await content.content(mail, alice.id, accepted.blob_id) == RAW
    clock.time += timedelta(days=2)
    await mover.round()
    with pytest.raises(NotFound):
        await content.content(mail, alice.id, accepted.blob_id)
    assert [page async for page in mail.blobs.names()] == []


async def test_a_body_that_comes_again_is_kept(
    mail: Mail, alice: Account, mover: Mover, clock: Clock
) -> None:
    target = Target(alice.id, flags=Flags(DELETED))
    await delivery.accept(mail, RAW, [target], received_at=clock())
    clock.time += timedelta(days=8)
    await mover.round()
    clock.time += timedelta(seconds=1)
    await mover.round()
    assert await hot(mail) == 0
    box = await mailboxes.by_path(mail, alice.id, "INBOX")
    await messages.expunge(mail, alice.id, box.id, None)
    again = await delivery.accept(mail, RAW, [Target(alice.id)], received_at=clock())
    clock.time += timedelta(days=40)
    await mover.round()
    assert await content.content(mail, alice.id, again.blob_id) == RAW


async def copied(
    mail: Mail, alice: Account, mover: Mover, clock: Clock
) -> tuple[delivery.Accepted, str, int]:
    """Have a message whose body was copied; return it, and name and size of the object."""
    accepted = await delivery.accept(mail, RAW, [Target(alice.id)], received_at=clock())
    clock.time += timedelta(minutes=2)
    await mover.round()
    ((name, size),) = [entry async for page in mail.blobs.names() for entry in page]
    return accepted, name, size


async def moved_again(
    mail: Mail, alice: Account, mover: Mover, clock: Clock, accepted: delivery.Accepted
) -> None:
    """See that the body is copied anew, and whole, and that its hot copy goes then."""
    for _ in range(2):
        clock.time += timedelta(seconds=1)
        await mover.round()
    assert await hot(mail) == 0
    assert await content.content(mail, alice.id, accepted.blob_id) == RAW


async def test_an_object_that_vanished_is_written_again(
    mail: Mail, alice: Account, mover: Mover, clock: Clock
) -> None:
    accepted, name, _ = await copied(mail, alice, mover, clock)
    await mail.blobs.delete(name)
    assert [d.rule async for d in fsck.check(mail)] == ["every object that a blob names is there"]

    clock.time += timedelta(days=8)
    await mover.round()
    assert await hot(mail) == 1
    await moved_again(mail, alice, mover, clock, accepted)


async def test_an_object_that_lost_its_content_is_written_again(
    mail: Mail, alice: Account, mover: Mover, clock: Clock
) -> None:
    """As after a power cut: the size of the object is known, and something else is in it."""
    accepted, name, size = await copied(mail, alice, mover, clock)
    await mail.blobs.put(name, bytes(size))

    clock.time += timedelta(days=8)
    assert await mover.drop() == 0
    assert await hot(mail) == 1
    assert [page async for page in mail.blobs.names()] == []
    await moved_again(mail, alice, mover, clock, accepted)


async def test_an_object_that_cannot_be_read_is_written_again(
    mail: Mail, alice: Account, mover: Mover, clock: Clock
) -> None:
    accepted, name, _ = await copied(mail, alice, mover, clock)
    mover._blobs = Unreadable(mail.blobs, name)

    clock.time += timedelta(days=8)
    assert await mover.drop() == 0
    assert [page async for page in mail.blobs.names()] == []
    assert await mover.copy() == 1
    clock.time += timedelta(seconds=1)
    assert await mover.drop() == 1
    assert await hot(mail) == 0
    assert await content.content(mail, alice.id, accepted.blob_id) == RAW


async def test_an_object_that_can_be_read_again_stays(
    mail: Mail, alice: Account, mover: Mover, clock: Clock
) -> None:
    await delivery.accept(mail, RAW, [Target(alice.id)], received_at=clock())
    clock.time += timedelta(minutes=2)
    await mover.round()
    before = [entry async for page in mail.blobs.names() for entry in page]
    mover._blobs = Unreadable(mail.blobs, "", [True])

    clock.time += timedelta(days=8)
    assert await mover.drop() == 0
    assert await mover.drop() == 1
    assert before == [entry async for page in mail.blobs.names() for entry in page]


@pytest.mark.parametrize(
    "fails",
    [repeat(True), [True, False, True, True]],  # S3 works for a moment, and is away again
)
async def test_objects_are_not_given_up_while_nothing_can_be_read(
    mail: Mail, alice: Account, mover: Mover, clock: Clock, fails: Iterable[bool]
) -> None:
    await delivery.accept(mail, RAW, [Target(alice.id)], received_at=clock())
    clock.time += timedelta(minutes=2)
    await mover.round()
    before = [entry async for page in mail.blobs.names() for entry in page]
    mover._blobs = Unreadable(mail.blobs, "", fails)

    clock.time += timedelta(days=8)
    with pytest.raises(Unavailable):
        await mover.drop()
    mover._blobs = mail.blobs
    await mail.blobs.delete(PROBE)
    assert before == [entry async for page in mail.blobs.names() for entry in page]
    assert await mover.drop() == 1


async def test_a_damaged_object_is_noticed(
    mail: Mail, alice: Account, mover: Mover, clock: Clock
) -> None:
    accepted = await delivery.accept(mail, RAW, [Target(alice.id)], received_at=clock())
    clock.time += timedelta(days=8)
    await mover.round()
    clock.time += timedelta(seconds=1)
    await mover.round()
    ((name, size),) = [entry async for page in mail.blobs.names() for entry in page]
    whole = await mail.blobs.get(name, 0, size)
    await mail.blobs.put(name, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Corrupt):
        await content.content(mail, alice.id, accepted.blob_id)
    rules = [d.rule async for d in fsck.check(mail, contents=True)]
    assert rules == ["every body has the hash it was stored under"]
    await mail.blobs.put(name, whole)


async def test_one_process_moves_at_a_time(
    mail: Mail, alice: Account, mover: Mover, config: Config, clock: Clock
) -> None:
    other = Mover(
        mail.database, mail.blobs, mail.ids, config.mover, mail.metrics, clock, "other", None
    )
    await delivery.accept(mail, RAW, [Target(alice.id)], received_at=clock())
    await mover.round()
    clock.time += timedelta(seconds=61)
    await other.round()
    assert [page async for page in mail.blobs.names()] == []
    clock.time += timedelta(seconds=120)
    await other.round()
    assert len([page async for page in mail.blobs.names()]) == 1


class Refusing:
    """A bucket that does not take one body."""

    def __init__(self, blobs: Blobs, refused: str) -> None:
        self._blobs = blobs
        self._refused = refused
        self.get, self.size, self.delete, self.names = (
            blobs.get,
            blobs.size,
            blobs.delete,
            blobs.names,
        )

    async def put(self, name: str, data: bytes) -> None:
        if self._refused in name:
            raise Unavailable("refused")
        await self._blobs.put(name, data)


class Unreadable:
    """A bucket that takes all, and cannot read some of it; `fails` are reads in their order."""

    def __init__(self, blobs: Blobs, lost: str, fails: Iterable[bool] = repeat(True)) -> None:
        self._blobs = blobs
        self._lost = lost
        self._fails = iter(fails)
        self.put, self.size, self.delete, self.names = (
            blobs.put,
            blobs.size,
            blobs.delete,
            blobs.names,
        )

    async def get(self, name: str, offset: int, length: int) -> bytes:
        if self._lost in name and next(self._fails, False):
            raise Unavailable("lost")
        return await self._blobs.get(name, offset, length)


class Slow:
    """A bucket that takes a body, and says so when it may."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.taken, self.may_say = asyncio.Event(), asyncio.Event()
        self.get, self.size, self.delete, self.names = (
            blobs.get,
            blobs.size,
            blobs.delete,
            blobs.names,
        )

    async def put(self, name: str, data: bytes) -> None:
        await self._blobs.put(name, data)
        self.taken.set()
        await self.may_say.wait()


async def test_who_copies_for_longer_than_its_lease_leaves_no_object(
    mail: Mail, alice: Account, mover: Mover, config: Config, clock: Clock
) -> None:
    """It was frozen, or S3 was slow, and another has copied and even dropped the body."""
    accepted = await delivery.accept(mail, RAW, [Target(alice.id)], received_at=clock())
    other = Mover(
        mail.database, mail.blobs, mail.ids, config.mover, mail.metrics, clock, "other", None
    )
    mover._blobs = slow = Slow(mail.blobs)
    clock.time += timedelta(minutes=2)
    late = asyncio.create_task(mover.round())
    await slow.taken.wait()
    for days in (8, 1):
        clock.time += timedelta(days=days)
        await other.round()
    assert await hot(mail) == 0
    slow.may_say.set()
    await late
    assert len([name async for page in mail.blobs.names() for name in page]) == 1
    assert await content.content(mail, alice.id, accepted.blob_id) == RAW


async def test_a_body_that_cannot_be_copied_holds_up_no_other(
    mail: Mail, alice: Account, mover: Mover, clock: Clock
) -> None:
    bad = await delivery.accept(mail, RAW + b"bad", [Target(alice.id)], received_at=clock())
    for number in range(5):
        raw = RAW + str(number).encode()
        await delivery.accept(mail, raw, [Target(alice.id)], received_at=clock())
    mover._blobs = Refusing(mail.blobs, bad.blob_id.hex())
    clock.time += timedelta(minutes=2)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await mover.copy()
    assert sum([len(page) async for page in mail.blobs.names()]) == 5
    mover._blobs = mail.blobs
    assert await mover.copy() == 1


async def test_a_hot_copy_stays_when_its_object_was_replaced(
    mail: Mail, alice: Account, mover: Mover, clock: Clock
) -> None:
    accepted = await delivery.accept(mail, RAW, [Target(alice.id)], received_at=clock())
    clock.time += timedelta(minutes=2)
    await mover.copy()
    seen = (await bodies.locations(mail.database, alice.id, [accepted.blob_id]))[accepted.blob_id]
    # another process finds the object gone and copies the body again
    await bodies.forget_object(mail.database, seen)
    await mail.blobs.delete(str(seen.object))
    await mover.copy()
    await bodies.drop(mail.database, alice.id, [seen])
    await bodies.forget_object(mail.database, seen)
    assert await hot(mail) == 1
    now = (await bodies.locations(mail.database, alice.id, [accepted.blob_id]))[accepted.blob_id]
    assert now.object not in (None, seen.object)
