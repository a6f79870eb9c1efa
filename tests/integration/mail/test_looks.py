"""Looks at accounts share statements, and each is answered by what is so after it was asked."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mailserver.errors import Unavailable
from mailserver.mail import delivery, listings, mailboxes, optimistic, rights
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.mail.looks import Looks
from mailserver.model import (
    DELETED,
    Account,
    AccountId,
    FlagChange,
    Flags,
    Modseq,
    Right,
    RightsChange,
)
from mailserver.storage import accounts as account_table
from mailserver.storage import mailboxes as mailbox_table
from mailserver.storage.accounts import Sight
from mailserver.storage.database import Database
from tests.plans import whole_tables_read

MISSING = AccountId(1)
FILL = (
    "INSERT INTO account (id, login, name, created_at) SELECT n, n || '@x.test', '', now()"
    " FROM generate_series(1, 4000) n",
    "INSERT INTO mailbox (account_id, id, name, modseq) SELECT n % 4000 + 1, n, 'b' || n, 1"
    " FROM generate_series(1, 40000) n",
    "INSERT INTO acl (account_id, mailbox_id, grantee_id, negative, rights)"
    " SELECT n % 4000 + 1, n, n % 3999 + 1, false, 'lr' FROM generate_series(1, 40000) n",
    "ANALYZE",
)
SOME = [AccountId(number) for number in (5, 17, 900)]


class Counted(Database):
    """Counts statements, and lets something happen before one is sent."""

    def __init__(self, dsn: str) -> None:
        super().__init__(lambda: dsn, size=3)
        self.asked: list[list[AccountId]] = []
        self.before: Callable[[], Any] | None = None

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        self.asked.append(args[0])
        if self.before is not None:
            await self.before()
        return await super().fetch(query, *args)


async def deliver(mail: Mail, account: Account, number: int) -> Modseq:
    raw = f"Subject: {number}\r\nMessage-ID: <{number}@example.org>\r\n\r\n".encode()
    await delivery.accept(
        mail, raw, [Target(account.id)], received_at=mail.now(), enforce_quota=True
    )
    modseq = await mail.looks.modseq(account.id)
    assert modseq is not None
    return modseq


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everybody wait for the answer under way, however long it takes on a busy machine."""
    monkeypatch.setattr("mailserver.mail.looks.PATIENCE", 600.0)


@pytest.mark.usefixtures("patient")
async def test_who_asks_at_the_same_moment_shares_a_statement(
    dsn: str, mail: Mail, alice: Account, bob: Account
) -> None:
    modseq = await deliver(mail, alice, 1)
    database = Counted(dsn)
    looks = Looks(database)
    every = (alice.id, bob.id, alice.id, MISSING)
    for _ in range(2):
        found = await asyncio.gather(*map(looks.modseq, every))
        assert found == [modseq, await mail.looks.modseq(bob.id), modseq, None]
    # the first one does not wait for others who may come; when they have come before, it does
    assert database.asked == [[alice.id], [*every[1:]], [*every]]
    assert [await looks.modseq(alice.id) for _ in range(2)] == [modseq, modseq]
    assert database.asked[3:] == [[alice.id], [alice.id]]
    await database.close()


@pytest.mark.usefixtures("patient")
async def test_who_asks_during_a_statement_is_answered_by_the_next(
    dsn: str, mail: Mail, alice: Account
) -> None:
    database = Counted(dsn)
    looks = Looks(database)
    later: list[asyncio.Task[Modseq | None]] = []

    async def ask_again() -> None:
        database.before = None
        await deliver(mail, alice, 1)
        later.append(asyncio.create_task(looks.modseq(alice.id)))
        await asyncio.sleep(0)  # it has asked
        await deliver(mail, alice, 2)

    database.before = ask_again
    await looks.modseq(alice.id)
    assert await later[0] == await mail.looks.modseq(alice.id)
    assert database.asked == [[alice.id], [alice.id]]
    await database.close()


async def test_a_statement_that_takes_long_holds_up_nobody_else(
    dsn: str, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailserver.mail.looks.PATIENCE", 0)
    database = Counted(dsn)
    looks = Looks(database)
    stuck, go_on = asyncio.Event(), asyncio.Event()

    async def be_stuck() -> None:
        database.before = None
        stuck.set()
        await go_on.wait()

    database.before = be_stuck
    first = asyncio.create_task(looks.modseq(alice.id))
    await stuck.wait()
    second = await looks.modseq(alice.id)
    go_on.set()
    assert await first == second is not None
    assert await looks.modseq(alice.id) == second  # and the statements after that go on
    await database.close()


@pytest.mark.usefixtures("patient")
async def test_each_is_told_that_the_store_cannot_be_reached(dsn: str, alice: Account) -> None:
    database = Counted(dsn)
    looks = Looks(database)
    await asyncio.gather(looks.modseq(alice.id), looks.modseq(alice.id))

    async def fail() -> None:
        database.before = None
        raise Unavailable("PostgreSQL")

    database.before = fail
    found = await asyncio.gather(
        *(looks.modseq(alice.id) for _ in range(3)), return_exceptions=True
    )
    assert [str(each) for each in found] == ["PostgreSQL"] * 3
    assert len(set(map(id, found))) == 3
    assert await looks.modseq(alice.id) is not None
    database.before = fail
    with pytest.raises(Unavailable):  # alone
        await looks.modseq(alice.id)
    assert await looks.modseq(alice.id) is not None
    await database.close()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("alone", [True, False])
async def test_who_no_longer_waits_is_left_out(dsn: str, alice: Account, alone: bool) -> None:
    database = Counted(dsn)
    looks = Looks(database)
    if not alone:
        await asyncio.gather(looks.modseq(alice.id), looks.modseq(alice.id))

    async def cut() -> None:
        database.before = None
        impatient.cancel()

    database.before = cut
    impatient = asyncio.create_task(looks.modseq(alice.id))
    patient = asyncio.create_task(looks.modseq(alice.id))
    assert await patient is not None
    assert impatient.cancelled()
    await database.close()


async def test_nothing_marked_is_looked_for_again_when_the_account_has_changed(
    mail: Mail, alice: Account
) -> None:
    await deliver(mail, alice, 1)
    inbox = (await mailboxes.by_path(mail, alice.id, "INBOX")).id
    listing = await listings.open_listing(mail, alice.id, inbox)
    behind = listings.Listing(alice.id, inbox)
    await listings.refresh(mail, behind)
    deleted = Flags(DELETED, ())
    # what another process does while this one has not heard of it
    await optimistic.store(mail, listing, [1], FlagChange.ADD, deleted, heard=0)
    assert await optimistic.expunge(mail, behind, None, heard=0) == [1]
    await listings.look(mail, behind)
    assert list(behind.uids) == []
    assert await optimistic.expunge(mail, behind, None, heard=0) == []


async def test_no_look_reads_a_whole_table(database: Database) -> None:
    statements: dict[str, Callable[[Any], Awaitable[object]]] = {
        "modseqs": lambda db: account_table.newer(db, SOME),
        "sights": lambda db: account_table.sights(db, SOME),
        "root": lambda db: mailbox_table.at_root(db, SOME[0], "b4004"),
        "tree": lambda db: mailbox_table.of_account_now(db, SOME[0]),
    }
    assert await whole_tables_read(database, FILL, statements) == {}


async def test_sharing_is_seen_with_the_look(mail: Mail, alice: Account, bob: Account) -> None:
    inbox = await mailboxes.by_path(mail, alice.id, "INBOX")
    assert [(await looked(mail, who)).shares for who in (alice, bob)] == [False, False]
    whom = await rights.identify(mail, bob.login)
    await rights.modify(mail, alice.id, inbox.id, whom, RightsChange.REPLACE, Right.LOOKUP)
    assert [(await looked(mail, who)).shares for who in (alice, bob)] == [False, True]


async def looked(mail: Mail, account: Account) -> Sight:
    sight = await mail.looks.sight(account.id)
    assert sight is not None
    return sight
