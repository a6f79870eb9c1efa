"""What the group commit promises when sessions, events and PostgreSQL fail around it."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from mailserver.errors import OverQuota, Unavailable
from mailserver.mail import accounts, committer, delivery, mailboxes
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Accepted, Target
from mailserver.model import Account, AccountId, MailboxId, Modseq

NOW = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)


def message(number: int) -> bytes:
    return f"Subject: {number}\r\nMessage-ID: <{number}@example.org>\r\n\r\nHello\r\n".encode()


async def take(mail: Mail, number: int, account: Account, mailbox: int | None = None) -> Accepted:
    box = None if mailbox is None else MailboxId(mailbox)
    targets = [Target(account.id, box)]
    return await delivery.accept(
        mail, message(number), targets, received_at=NOW, enforce_quota=True
    )


async def total(mail: Mail, account: Account) -> int:
    return (await mailboxes.by_path(mail, account.id, "INBOX")).total


async def test_what_arrives_as_a_writer_ends_is_written(mail: Mail, alice: Account) -> None:
    late: list[asyncio.Task[Accepted]] = []

    def told(account: AccountId, modseq: Modseq) -> None:
        # runs in the writer's last step: the task starts between that and any done callback
        if not late:
            late.append(asyncio.get_running_loop().create_task(take(mail, 2, alice)))

    mail.events.forward(told)
    await take(mail, 1, alice)
    await asyncio.wait_for(late[0], 60)
    await asyncio.wait_for(mail.committer.drain(), 60)
    assert await total(mail, alice) == 2


async def test_a_listener_that_fails_does_not_deliver_twice(
    mail: Mail, alice: Account, bob: Account, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(account: AccountId, modseq: Modseq) -> None:
        raise ValueError("a defect")

    mail.events.forward(broken)
    await asyncio.gather(*(take(mail, n, account) for n in range(5) for account in (alice, bob)))
    await asyncio.wait_for(mail.committer.drain(), 60)
    assert (await total(mail, alice), await total(mail, bob)) == (5, 5)
    assert "commit failed" in caplog.text


async def test_what_was_refused_is_not_written_when_the_group_is_tried_again(
    mail: Mail, bob: Account
) -> None:
    size = len(message(0))
    alice = await accounts.create(mail, "small@example.test", password="secret", quota=size)
    outcomes = await asyncio.gather(
        take(mail, 0, alice, 2**40),  # has room, but its mailbox does not exist: the group fails
        take(mail, 1, alice),  # no room behind the first
        take(mail, 2, bob),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], OverQuota)
    assert await total(mail, alice) == 0
    assert await total(mail, bob) == 1


async def test_a_session_that_is_cut_during_the_commit(
    mail: Mail, alice: Account, dsn: str
) -> None:
    blocker = await asyncpg.connect(dsn)
    async with blocker.transaction():
        await blocker.execute("SELECT 1 FROM account FOR UPDATE")
        taking = asyncio.create_task(take(mail, 1, alice))
        await _blocked(dsn)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
    await blocker.close()
    await asyncio.wait_for(mail.committer.drain(), 60)
    assert await total(mail, alice) == 1


async def test_a_backend_that_dies_in_the_transaction(
    mail: Mail, alice: Account, bob: Account, dsn: str
) -> None:
    blocker = await asyncpg.connect(dsn)
    async with blocker.transaction():
        await blocker.execute("SELECT 1 FROM account FOR UPDATE")
        group = [
            asyncio.create_task(take(mail, number, account))
            for number in range(4)
            for account in (alice, bob)
        ]
        pid = await _blocked(dsn)
        await blocker.execute("SELECT pg_terminate_backend($1)", pid)
        outcomes = await asyncio.wait_for(asyncio.gather(*group, return_exceptions=True), 60)
    await blocker.close()
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    assert (await total(mail, alice), await total(mail, bob)) == (0, 0)
    await asyncio.gather(*(take(mail, number, alice) for number in range(4)))
    assert await total(mail, alice) == 4


async def test_others_do_not_wait_for_an_account_that_is_locked(
    mail: Mail, alice: Account, bob: Account, dsn: str
) -> None:
    blocker = await asyncpg.connect(dsn)
    async with blocker.transaction():
        await blocker.execute("SELECT 1 FROM account WHERE id = $1 FOR UPDATE", alice.id)
        late = [asyncio.create_task(take(mail, 1, alice))]
        await _blocked(dsn)
        late += [asyncio.create_task(take(mail, number, alice)) for number in range(2, 5)]
        enough = (take(mail, number, bob) for number in range(committer.ENOUGH))
        await asyncio.wait_for(asyncio.gather(*enough), 60)
        for number in range(100, 103):  # nor does one alone
            await asyncio.wait_for(take(mail, number, bob), 60)
        assert not any(task.done() for task in late)
    await blocker.close()
    await asyncio.wait_for(asyncio.gather(*late), 60)
    uids = [task.result().delivered[0].uid for task in late]
    assert uids == [1, 2, 3, 4]
    assert (await total(mail, alice), await total(mail, bob)) == (4, committer.ENOUGH + 3)


async def test_the_writer_is_cancelled(mail: Mail, alice: Account, dsn: str) -> None:
    blocker = await asyncpg.connect(dsn)
    async with blocker.transaction():
        await blocker.execute("SELECT 1 FROM account FOR UPDATE")
        taking = asyncio.create_task(take(mail, 1, alice))
        await _blocked(dsn)
        (writer,) = [task for task in asyncio.all_tasks() if task.get_name() == "committer"]
        writer.cancel()
        with pytest.raises(Unavailable):
            await asyncio.wait_for(taking, 60)
    await blocker.close()
    assert await total(mail, alice) == 0


@pytest.mark.parametrize("tries", [1, 2])
async def test_an_account_that_another_process_changes_is_looked_at_again(
    mail: Mail, alice: Account, dsn: str, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    monkeypatch.setattr(committer, "TRIES", tries)
    await take(mail, 1, alice)
    blocker = await asyncpg.connect(dsn)
    async with blocker.transaction():
        await blocker.execute("UPDATE account SET modseq = modseq + 1 WHERE id = $1", alice.id)
        taking = asyncio.create_task(take(mail, 2, alice))
        await _blocked(dsn)  # it has looked, and waits to write
    await blocker.close()
    await asyncio.wait_for(taking, 60)
    assert await total(mail, alice) == 2
    # who may not look again locks, and so do the next ones
    assert mail.committer._cautious == (0 if tries == 2 else committer.CAUTIOUS)
    await take(mail, 3, alice)
    assert await total(mail, alice) == 3


async def test_inboxes_are_remembered_within_bounds(
    mail: Mail, alice: Account, bob: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "INBOXES", 1)
    for number in range(3):
        await take(mail, number, alice)
        await take(mail, number, bob)
    assert len(mail.committer._inboxes) <= 2
    assert (await total(mail, alice), await total(mail, bob)) == (3, 3)


async def _blocked(dsn: str) -> int:
    """Wait until a statement waits for a lock; return its backend."""
    watcher = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(60):
            while True:
                pid: int | None = await watcher.fetchval(
                    "SELECT pid FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
                if pid is not None:
                    return pid
    finally:
        await watcher.close()
