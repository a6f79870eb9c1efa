"""Deliveries in one statement give way to who was first, and keep to quotas and names."""

import asyncio

import pytest

from mailserver.errors import NotFound
from mailserver.mail import accounts, delivery, flags, mailboxes
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import Account, FlagChange, Flags
from tests.conftest import Bucketed, make_mail
from tests.integration.mail.test_optimistic import deliver


async def test_processes_that_deliver_to_one_mailbox(
    mail: Mail, bucket: Bucketed, alice: Account, bob: Account
) -> None:
    others = [make_mail(mail.database, bucket.blobs, mail.config, node) for node in (2, 3)]
    stores = [mail, *others]

    async def send(store: Mail, first: int) -> list[int]:
        return [await deliver(store, alice, first + number) for number in range(15)]

    async def disturb() -> None:
        for _ in range(10):
            await deliver(others[0], bob, 1)
            await flags.store(
                mail, alice.id, inbox, [1], FlagChange.REPLACE, Flags(0, (f"k{mail.ids.next()}",))
            )

    inbox = (await mailboxes.by_path(mail, alice.id, "INBOX")).id
    await deliver(mail, alice, 0)
    numbers = [(store, 1000 * place) for place, store in enumerate(stores, 1)]
    sending = [asyncio.create_task(send(store, first)) for store, first in numbers]
    await disturb()
    taken = [await each for each in sending]
    for store in others:
        await store.committer.drain()
        store.passwords.close()
    # every UID once, and in the order in which one process delivered
    assert sorted(uid for uids in taken for uid in uids) == list(range(2, 47))
    assert all(uids == sorted(uids) for uids in taken)
    assert (await mailboxes.by_path(mail, bob.id, "INBOX")).total == 10


async def test_a_thread_that_begins_while_its_reply_is_looked_at(
    mail: Mail, bucket: Bucketed, alice: Account
) -> None:
    other = make_mail(mail.database, bucket.blobs, mail.config, 2)
    raw = b"Subject: x\r\nMessage-ID: <%d@example.org>\r\nReferences: <0@example.org>\r\n\r\n"

    async def send(store: Mail, number: int) -> int:
        taken = await delivery.accept(
            store, raw % number, [Target(alice.id)], received_at=store.now()
        )
        return taken.delivered[0].thread_id

    for turn in range(10):
        both = (send(mail, 2 * turn + 1), send(other, 2 * turn + 2))
        assert len(set(await asyncio.gather(*both))) == 1
    await other.committer.drain()
    other.passwords.close()


@pytest.mark.parametrize("room", [1, 3])
async def test_a_quota_holds_within_one_commit(mail: Mail, room: int) -> None:
    raw = b"Subject: x\r\n\r\n"
    account = await accounts.create(
        mail, "small@example.test", password="secret", quota=room * len(raw)
    )
    outcomes = await asyncio.gather(
        *(
            delivery.accept(
                mail, raw, [Target(account.id)], received_at=mail.now(), enforce_quota=True
            )
            for _ in range(5)
        ),
        return_exceptions=True,
    )
    assert sum(not isinstance(each, BaseException) for each in outcomes) == room
    assert (await mailboxes.by_path(mail, account.id, "INBOX")).total == room


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_mailbox_that_is_called_otherwise(
    mail: Mail, alice: Account, at_once: bool
) -> None:
    box = (await mailboxes.by_path(mail, alice.id, "Archive")).id
    also = () if at_once else ((await mailboxes.by_path(mail, alice.id, "Drafts")).id,)

    async def send(name: str | None) -> object:
        return await delivery.accept(
            mail,
            b"Subject: x\r\n\r\n",
            [Target(alice.id, box, name=name, also_in=also)],
            received_at=mail.now(),
        )

    async def outcomes() -> list[bool]:
        done = await asyncio.gather(
            *map(send, ("Archive", "archive", None)), return_exceptions=True
        )
        return [isinstance(each, NotFound) for each in done]

    assert await outcomes() == [False, True, False]
    await mailboxes.rename(mail, alice.id, box, "Old")
    assert await outcomes() == [True, True, False]
    inner = await mailboxes.create(mail, alice.id, "Old/Archive")
    assert (await mailboxes.by_path(mail, alice.id, "Old")).total == 3
    box = inner[-1].id
    assert await outcomes() == [True, True, False]
