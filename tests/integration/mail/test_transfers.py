"""Messages go from one account to another: whole, with their bodies, in one commit."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest
import pytest_asyncio

from mailserver.errors import NotFound, OverQuota
from mailserver.mail import (
    access,
    content,
    delivery,
    listings,
    mailboxes,
    messages,
    rights,
    transfers,
)
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.mail.transfers import CHUNK_ROWS, Source
from mailserver.model import (
    ALL_RIGHTS,
    Account,
    Flags,
    MailboxId,
    Place,
    Principal,
    Right,
    RightsChange,
)
from mailserver.storage import accounts
from mailserver.storage.mover import Mover


@dataclass
class Shared:
    """The INBOX of each of two people, with all rights for the other."""

    mail: Mail
    alice: Account
    bob: Account
    from_alice: Source
    from_bob: Source
    to_alice: Place
    to_bob: Place

    async def deliver(self, *raws: bytes, flags: Flags = delivery.NO_FLAGS) -> None:
        for raw in raws:
            await delivery.accept(
                self.mail, raw, [Target(self.alice.id, flags=flags)], received_at=self.mail.now()
            )

    async def uids(self, source: Source) -> list[int]:
        return list((await messages_of(self.mail, source)).values())


async def messages_of(mail: Mail, source: Source) -> dict[int, int]:
    """Return the UIDs of a mailbox by email id."""
    listing = await listings.open_listing(mail, *source)
    return dict(zip(listing.email_ids, listing.uids, strict=True))


async def threads_of(mail: Mail, source: Source) -> list[int]:
    """Return the threads of the messages of a mailbox by UID."""
    listing = await listings.open_listing(mail, *source)
    return list(listing.thread_ids)


async def share(mail: Mail, owner: Account, other: Account) -> tuple[Source, Place]:
    inbox = await mailboxes.by_path(mail, owner.id, "INBOX")
    identifier = rights.Identifier(other.id, False)
    await rights.modify(mail, owner.id, inbox.id, identifier, RightsChange.REPLACE, ALL_RIGHTS)
    principal = Principal(other.id, other.login)
    place = await access.find(mail, principal, f"Other Users/{owner.login}/INBOX")
    return Source(owner.id, inbox.id), place


@pytest_asyncio.fixture
async def shared(mail: Mail, alice: Account, bob: Account) -> Shared:
    from_alice, to_alice = await share(mail, alice, bob)
    from_bob, to_bob = await share(mail, bob, alice)
    return Shared(mail, alice, bob, from_alice, from_bob, to_alice, to_bob)


async def bodies_of(mail: Mail, account: Account, source: Source) -> list[bytes]:
    found = await messages.emails(mail, account.id, list(await messages_of(mail, source)))
    octets = await content.contents(mail, account.id, [each.blob_id for each in found.values()])
    return sorted(octets[each.blob_id] for each in found.values())


async def test_more_than_are_read_at_once(mail: Mail, shared: Shared) -> None:
    count = CHUNK_ROWS + 5
    raws = [b"Subject: %d\r\n\r\n%d\r\n" % (number, number) for number in range(count)]
    incoming = [delivery.Incoming(raw, delivery.NO_FLAGS, mail.now()) for raw in raws]
    await delivery.accept_together(mail, *shared.from_alice, incoming)
    uids = list(range(1, count + 1))
    moved = await transfers.move(mail, shared.from_alice, uids, shared.to_bob)
    assert (moved.sources, moved.targets) == (uids, uids)
    assert await shared.uids(shared.from_alice) == []
    assert await shared.uids(shared.from_bob) == uids
    assert await bodies_of(mail, shared.bob, shared.from_bob) == sorted(raws)


async def test_bodies_that_are_in_s3_only(mail: Mail, shared: Shared) -> None:
    raws = [b"Subject: %d\r\n\r\n" % number + b"x" * 5000 for number in range(4)]
    await shared.deliver(*raws)
    begun = mail.now()
    later = begun
    mover = Mover(
        mail.database, mail.blobs, mail.ids, mail.config.mover, mail.metrics,
        lambda: later, "test", None,
    )  # fmt: skip
    for days in (1, 8):
        later = begun + timedelta(days=days)
        await mover.round()
    assert await mail.database.fetchval("SELECT count(*) FROM blob_hot") == 0
    # what the other account has no room for is not even read
    await accounts.set_quota(mail.database, shared.bob.id, 1)
    with pytest.raises(OverQuota):
        await transfers.copy(mail, shared.from_alice, [1, 2], shared.to_bob)
    assert await mail.database.fetchval("SELECT count(*) FROM upload") == 0
    await accounts.set_quota(mail.database, shared.bob.id, None)
    # one that is there already, hot, with the same bytes
    await delivery.accept(mail, raws[1], [Target(shared.bob.id)], received_at=begun)
    copied = await transfers.copy(mail, shared.from_alice, [1, 2, 3, 4], shared.to_bob)
    assert copied.targets == [2, 3, 4, 5]
    assert await bodies_of(mail, shared.bob, shared.from_bob) == sorted([*raws, raws[1]])
    assert await mail.database.fetchval("SELECT count(*) FROM upload") == 0


async def test_a_body_that_becomes_cold_in_between(mail: Mail, shared: Shared) -> None:
    await shared.deliver(b"Subject: cold\r\n\r\nbody\r\n")
    transfer = transfers._Transfer(mail, shared.from_alice, shared.to_bob, leave=True)
    await mail.database.execute(
        "WITH cold AS (DELETE FROM blob_hot) UPDATE blob SET hot = false, object = 'elsewhere'"
    )
    with pytest.raises(transfers._BecameCold):
        await transfer.run([1], [])
    assert await shared.uids(shared.from_bob) == []
    assert await shared.uids(shared.from_alice) == [1]
    # the store as it was, for the check after the test
    await mail.database.execute("DELETE FROM msg")
    await mail.database.execute("DELETE FROM email")
    await mail.database.execute("DELETE FROM blob")
    await mail.database.execute("UPDATE mailbox SET total = 0, unseen = 0, size = 0")
    await mail.database.execute("UPDATE account SET quota_used = 0")


async def test_copies_keep_their_thread_and_answers_join_it(mail: Mail, shared: Shared) -> None:
    first = b"Message-Id: <1@x>\r\nSubject: s\r\n\r\nfirst\r\n"
    reply = b"Message-Id: <2@x>\r\nIn-Reply-To: <1@x>\r\nSubject: Re: s\r\n\r\nreply\r\n"
    await shared.deliver(first, reply, b"Message-Id: <3@x>\r\nSubject: other\r\n\r\n")
    await transfers.copy(mail, shared.from_alice, [1, 2, 3], shared.to_bob)
    answer = b"Message-Id: <4@x>\r\nIn-Reply-To: <2@x>\r\nSubject: Re: s\r\n\r\nanswer\r\n"
    await delivery.accept(mail, answer, [Target(shared.bob.id)], received_at=mail.now())
    there = await threads_of(mail, shared.from_alice)
    here = await threads_of(mail, shared.from_bob)
    assert here[:3] == there
    assert here[0] == here[1] == here[3] != here[2]


async def test_the_quota_is_that_of_the_target(mail: Mail, shared: Shared) -> None:
    raw = b"Subject: s\r\n\r\n0123456789\r\n"
    await shared.deliver(raw, raw)
    await accounts.set_quota(mail.database, shared.bob.id, 2 * len(raw) - 1)
    with pytest.raises(OverQuota):
        await transfers.move(mail, shared.from_alice, [1, 2], shared.to_bob)
    assert await shared.uids(shared.from_alice) == [1, 2]
    assert await shared.uids(shared.from_bob) == []
    await transfers.move(mail, shared.from_alice, [1], shared.to_bob)
    assert await shared.uids(shared.from_alice) == [2]


async def test_a_target_that_is_gone(mail: Mail, shared: Shared) -> None:
    await shared.deliver(b"Subject: s\r\n\r\n")
    (made,) = await mailboxes.create(mail, shared.bob.id, "Gone")
    place = Place(shared.bob.id, made, "Other Users/bob/Gone", ALL_RIGHTS, False, None)
    await mailboxes.delete(mail, shared.bob.id, made.id)
    with pytest.raises(NotFound):
        await transfers.move(mail, shared.from_alice, [1], place)
    assert await shared.uids(shared.from_alice) == [1]
    assert await transfers.move(mail, shared.from_alice, [7], shared.to_bob) == messages.Copied(
        0, [], []
    )


async def test_both_ways_at_once(mail: Mail, shared: Shared) -> None:
    raws = [b"Subject: %d\r\n\r\n" % number for number in range(20)]
    await shared.deliver(*raws, flags=Flags(1))
    await transfers.copy(mail, shared.from_alice, list(range(1, 21)), shared.to_bob)
    async with asyncio.timeout(60):
        await asyncio.gather(
            *(
                transfers.move(mail, shared.from_alice, [uid], shared.to_bob)
                for uid in range(1, 21)
            ),
            *(
                transfers.move(mail, shared.from_bob, [uid], shared.to_alice)
                for uid in range(1, 21)
            ),
        )
    assert len(await shared.uids(shared.from_alice)) == 20
    assert len(await shared.uids(shared.from_bob)) == 20


async def test_flags_that_may_not_be_set(mail: Mail, shared: Shared) -> None:
    await shared.deliver(b"Subject: s\r\n\r\n", flags=Flags.of(["\\Seen", "\\Deleted", "a"]))
    place = Place(
        shared.bob.id, shared.to_bob.mailbox, "x", Right.INSERT | Right.DELETE, False, None
    )
    await transfers.copy(mail, shared.from_alice, [1], place)
    (row,) = (await messages.memberships(
        mail, shared.bob.id, list(await messages_of(mail, shared.from_bob))
    )).popitem()[1]  # fmt: skip
    assert row.flags == Flags.of(["\\Deleted"])
    assert row.mailbox_id == MailboxId(shared.from_bob.mailbox_id)
