"""Changes travel between processes, and lost notifications are healed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import asyncpg
import pytest
import pytest_asyncio

from mailserver.errors import Unavailable
from mailserver.events import Hub
from mailserver.mail import delivery, deltas, listings, mailboxes
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.metrics import Metrics
from mailserver.model import Account, AccountId, Modseq
from mailserver.storage import lines, notify
from mailserver.storage.database import Database
from mailserver.storage.lines import LATE, Notifications, Rows
from mailserver.storage.notify import Notifier
from tests.conftest import Bucketed, make_mail

Way = Literal["listen", "poll"]

RAW = b"Subject: news\r\n\r\nHello\r\n"


@pytest.fixture(params=["listen", "poll"])
def way(request: pytest.FixtureRequest) -> Way:
    """How the processes reach each other."""
    found: Way = request.param
    return found


@pytest_asyncio.fixture
async def here(mail: Mail, database: Database, way: Way) -> AsyncIterator[Notifier]:
    """The notifier of the process that delivers."""
    notifier = Notifier(database, mail.events, Metrics("here"), "here", way)
    deltas.share(mail, notifier)
    task = asyncio.create_task(notifier.run())
    await notifier.listening.wait()
    yield notifier
    task.cancel()
    await asyncio.wait([task])


@pytest_asyncio.fixture
async def there(database: Database, way: Way) -> AsyncIterator[tuple[Notifier, Hub]]:
    """The notifier and the hub of another process."""
    hub = Hub()
    notifier = Notifier(database, hub, Metrics("there"), "there", way)
    task = asyncio.create_task(notifier.run())
    await notifier.listening.wait()
    yield notifier, hub
    task.cancel()
    await asyncio.wait([task])


async def test_a_delivery_is_told_to_the_other_process(
    mail: Mail, alice: Account, here: Notifier, there: tuple[Notifier, Hub]
) -> None:
    subscription = there[1].subscribe(alice.id)
    (delivered,) = (
        await delivery.accept(mail, RAW, [Target(alice.id)], received_at=mail.now())
    ).delivered
    async with asyncio.timeout(60):
        assert await subscription.wait() == delivered.modseq


async def test_a_listing_of_the_other_process_follows(
    mail: Mail, alice: Account, here: Notifier, there: tuple[Notifier, Hub]
) -> None:
    box = await mailboxes.by_path(mail, alice.id, "INBOX")
    listing = await listings.open_listing(mail, alice.id, box.id)
    subscription = there[1].subscribe(alice.id, Modseq(listing.modseq))
    await delivery.accept(mail, RAW, [Target(alice.id)], received_at=mail.now())
    async with asyncio.timeout(60):
        await subscription.wait()
    await listings.refresh(mail, listing)
    assert list(listing.uids) == [1]


async def test_a_change_is_told_with_what_it_did(
    mail: Mail, database: Database, bucket: Bucketed, alice: Account, here: Notifier, way: Way
) -> None:
    other = make_mail(database, bucket.blobs, mail.config, node=2)
    notifier = Notifier(database, other.events, Metrics("there"), "there", way)
    deltas.share(other, notifier)
    task = asyncio.create_task(notifier.run())
    await notifier.listening.wait()
    box = await mailboxes.by_path(other, alice.id, "INBOX")
    listing = await listings.open_listing(other, alice.id, box.id)
    subscription = other.events.subscribe(alice.id, Modseq(listing.modseq))
    await delivery.accept(mail, RAW, [Target(alice.id)], received_at=mail.now())
    async with asyncio.timeout(60):
        modseq = await subscription.wait()
    # who looks for rows has looked at the account long before
    assert (list(listing.uids), listing.modseq == modseq) == (
        ([1], True) if way == "listen" else ([], False)
    )
    await listings.refresh(other, listing, heard=modseq)
    assert (list(listing.uids), listing.modseq) == ([1], modseq)
    task.cancel()
    await asyncio.wait([task])
    await other.committer.drain()
    other.passwords.close()


async def test_what_changes_did_comes_whole_and_before_the_hint(
    mail: Mail, here: Notifier, there: tuple[Notifier, Hub], way: Way
) -> None:
    notifier, hub = there
    seen: list[object] = []
    notifier.learn = lambda *detail: seen.append(detail)
    subscription = hub.subscribe(AccountId(7))
    subscription.wake = lambda: seen.append("hint")
    texts = [letter * deltas.ROOM for letter in "abc"]
    for number, text in enumerate(texts, 1):
        here.tell_details(AccountId(7), Modseq(number), text)
        here.tell_details(AccountId(8), Modseq(number), text)  # to whom nobody listens there
    here.tell(AccountId(7), Modseq(3))
    async with asyncio.timeout(60):
        await subscription.wait()
    told = [(7, number, text) for number, text in enumerate(texts, 1)]
    assert seen == [*(told if way == "listen" else ()), "hint"]


@pytest.fixture
def soon(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait half a minute: where rows are polled, only the next re-check can heal."""
    if way == "poll":
        monkeypatch.setattr(notify, "RECHECK_TIME", 3.0)


@pytest.mark.usefixtures("soon")
async def test_what_was_lost_while_the_connection_was_down_is_healed(
    mail: Mail, alice: Account, there: tuple[Notifier, Hub], dsn: str
) -> None:
    notifier, hub = there
    subscription = hub.subscribe(alice.id, alice.modseq)
    # nobody notifies: the event can come only from a re-check, after the reconnection or later
    (delivered,) = (
        await delivery.accept(mail, RAW, [Target(alice.id)], received_at=mail.now())
    ).delivered
    admin = await asyncpg.connect(dsn)
    await admin.execute(
        # and wait until they are gone: later nobody shall meet one that is about to go
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await admin.close()
    async with asyncio.timeout(60):
        assert await subscription.wait() == delivered.modseq
    assert notifier.listening.is_set()


async def test_what_could_not_be_sent_is_sent_over_the_next_connection(
    mail: Mail, alice: Account, database: Database, there: tuple[Notifier, Hub], way: Way
) -> None:
    notifier = Notifier(database, mail.events, Metrics("here"), "here", way)
    subscription = there[1].subscribe(alice.id)
    notifier.tell(alice.id, Modseq(77))
    lost = await database.connect()
    lost.terminate()
    with pytest.raises(Unavailable):
        await notifier._send(Notifications(lost, (), lambda channel, text: None))
    task = asyncio.create_task(notifier.run())
    async with asyncio.timeout(60):
        assert await subscription.wait() == 77
    task.cancel()
    await asyncio.wait([task])


async def test_what_tells_the_others_is_prepared_once(database: Database) -> None:
    connection = await database.connect()
    line = Notifications(connection, ("mail_1",), lambda channel, text: None)
    await line.open(lambda: None)
    times = []
    for number in range(2):
        await line.send(["mail_1"], [f"here 1:{number}"])
        times += await connection.fetch("SELECT prepare_time FROM pg_prepared_statements")
    line.close()
    assert len(times) == 2  # the one statement, prepared at the same time
    assert times[0] == times[1]


async def test_notices_reach_the_other_process_and_not_their_maker(
    here: Notifier, there: tuple[Notifier, Hub]
) -> None:
    heard: asyncio.Queue[list[object]] = asyncio.Queue()
    own: list[list[object]] = []
    here.hear, there[0].hear = own.append, heard.put_nowait
    logins = ["alice@example.test", "\U0001f600\ud800 " * 100, *map(str, range(500))]
    for login in logins:
        here.notice("login", login, "192.0.2.1", False)
    async with asyncio.timeout(60):
        got = [await heard.get() for _ in logins]
    assert got == [["login", login, "192.0.2.1", False] for login in logins]
    assert own == []


async def test_rows_that_are_seen_out_of_their_order_are_heard_once(database: Database) -> None:
    heard: list[str] = []
    rows = Rows(database, lambda channel, text: heard.append(text), "there")
    await rows.open(lambda: None)
    async with database.transaction() as slow:
        await lines.put(slow, "here", ["c"], ["began first"])
        await lines.put(database, "here", ["c", "c"], ["second", "third"])
        await rows.look()
        assert heard == ["second", "third"]
    await rows.look()
    await rows.look()
    assert heard == ["second", "third", "began first"]


async def test_rows_are_forgotten_when_everybody_has_seen_them(database: Database) -> None:
    rows = Rows(database, lambda channel, text: None, "here")
    await rows.send(["c"], ["new"])
    await database.execute(
        "INSERT INTO hint (origin, channel, text, told_at) VALUES ('x', 'c', 'old', $1)",
        datetime.now(UTC) - timedelta(seconds=lines.KEEP + 1),
    )
    await rows.tidy()
    assert await database.fetchval("SELECT array_agg(text) FROM hint") == ["new"]
    assert lines.KEEP > LATE + lines.POLL_TIME
