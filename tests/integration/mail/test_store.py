"""The store on real PostgreSQL and SeaweedFS: delivery, counters, changes, listings."""

import asyncio
from datetime import UTC, datetime

import pytest

from mailserver.address import parse_address
from mailserver.errors import AlreadyExists, NotFound, OverQuota
from mailserver.mail import (
    accounts,
    changes,
    content,
    delivery,
    listings,
    mailboxes,
    messages,
    queueing,
    recipients,
)
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Accepted, Target
from mailserver.model import (
    DELETED,
    SEEN,
    Account,
    ChangeKind,
    EmailId,
    FlagChange,
    Flags,
    MailboxId,
    Role,
)
from mailserver.queue.enqueue import Outgoing, OutgoingRecipient
from mailserver.storage import accounts as account_table

NOW = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)


def message(number: int, *, subject: str = "Hello", references: str = "") -> bytes:
    """Return a small message with a Message-ID of its own."""
    return (
        f"From: Carol <carol@example.org>\r\nTo: alice@example.test\r\n"
        f"Subject: {subject}\r\nMessage-ID: <{number}@example.org>\r\n"
        f"{references}Date: Tue, 24 Nov 2026 10:00:00 +0000\r\n\r\nMessage {number}\r\n"
    ).encode()


async def take(mail: Mail, raw: bytes, *accounts: Account, flags: Flags | None = None) -> Accepted:
    targets = [Target(account.id, flags=flags or Flags()) for account in accounts]
    return await delivery.accept(mail, raw, targets, received_at=NOW)


async def inbox(mail: Mail, account: Account) -> MailboxId:
    return (await mailboxes.by_path(mail, account.id, "inbox")).id


async def test_a_message_is_stored_once_and_read_back(mail: Mail, alice: Account) -> None:
    accepted = await take(mail, message(1), alice)
    (delivered,) = accepted.delivered
    assert delivered.uid == 1
    assert await content.content(mail, alice.id, accepted.blob_id) == message(1)
    box = await mailboxes.by_path(mail, alice.id, "INBOX")
    assert (box.total, box.unseen, box.uidnext, box.size) == (1, 1, 2, len(message(1)))
    assert box.role is Role.INBOX
    email = (await messages.emails(mail, alice.id, [delivered.email_id], header=True))[
        delivered.email_id
    ]
    assert email.header == message(1).split(b"Message 1")[0]


async def test_concurrent_deliveries_get_uids_without_holes(
    mail: Mail, alice: Account, bob: Account
) -> None:
    taken = await asyncio.gather(
        *(take(mail, message(number), alice, *([bob] * (number % 2))) for number in range(200))
    )
    uids = sorted(
        d.uid for accepted in taken for d in accepted.delivered if d.account_id == alice.id
    )
    assert uids == list(range(1, 201))
    box = await mailboxes.by_path(mail, bob.id, "INBOX")
    assert box.total == 100
    # far fewer commits than messages
    assert await messages.state(mail, alice.id) < 100


async def test_the_same_bytes_are_one_body_per_account(mail: Mail, alice: Account) -> None:
    first = await take(mail, message(1), alice)
    second = await take(mail, message(1), alice)
    assert first.blob_id == second.blob_id
    count = await mail.database.fetchrow("SELECT count(*), max(refs) FROM blob")
    assert tuple(count or ()) == (1, 2)


async def test_replies_join_the_thread_and_other_subjects_do_not(
    mail: Mail, alice: Account
) -> None:
    root = (await take(mail, message(1), alice)).delivered[0]
    reply = (
        await take(
            mail,
            message(2, subject="Re: Hello", references="In-Reply-To: <1@example.org>\r\n"),
            alice,
        )
    ).delivered[0]
    other = (
        await take(
            mail, message(3, subject="Other", references="In-Reply-To: <1@example.org>\r\n"), alice
        )
    ).delivered[0]
    assert reply.thread_id == root.thread_id
    assert other.thread_id != root.thread_id
    threads = await messages.thread_emails(mail, alice.id, [root.thread_id])
    assert threads == {root.thread_id: [root.email_id, reply.email_id]}


async def test_a_parent_that_arrives_late_joins_its_replies(mail: Mail, alice: Account) -> None:
    reply = message(2, subject="Re: Hello", references="References: <1@example.org>\r\n")
    early = (await take(mail, reply, alice)).delivered[0]
    late = (await take(mail, message(1), alice)).delivered[0]
    assert late.thread_id == early.thread_id


async def test_quota_is_enforced_where_asked(mail: Mail, alice: Account) -> None:
    await account_table.set_quota(mail.database, alice.id, 100)
    with pytest.raises(OverQuota):
        await delivery.accept(
            mail, message(1), [Target(alice.id)], received_at=NOW, enforce_quota=True
        )
    await take(mail, message(1), alice)


async def test_one_bad_target_fails_alone(mail: Mail, alice: Account) -> None:
    bad = delivery.accept(mail, message(1), [Target(alice.id, MailboxId(7))], received_at=NOW)
    good = [take(mail, message(number), alice) for number in range(2, 12)]
    outcomes = await asyncio.gather(bad, *good, return_exceptions=True)
    assert isinstance(outcomes[0], NotFound)
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes[1:])


async def test_submission_delivers_and_queues_in_one_commit(
    mail: Mail, alice: Account, bob: Account
) -> None:
    outgoing = Outgoing(
        account_id=alice.id,
        sender="alice@example.test",
        recipients=(OutgoingRecipient("dave@example.org", "example.org"),),
        session="s1",
    )
    accepted = await delivery.accept(
        mail, message(1), [Target(bob.id)], received_at=NOW, outgoing=outgoing
    )
    assert accepted.queue_id is not None
    assert [d.account_id for d in accepted.delivered] == [bob.id]
    (queued,) = [entry async for entry in queueing.found(mail, queueing.Filter())]
    assert (queued.message_id, queued.recipient) == (accepted.queue_id, "dave@example.org")
    assert await content.content(mail, alice.id, accepted.blob_id) == message(1)


async def test_flags_change_counters_log_and_listing(mail: Mail, alice: Account) -> None:
    for number in range(3):
        await take(mail, message(number), alice)
    box = await inbox(mail, alice)
    listing = await listings.open_listing(mail, alice.id, box)
    before = listing.modseq
    stored = await messages.store(
        mail, alice.id, box, [1, 3, 99], FlagChange.ADD, Flags.of(["\\Seen", "Blue", "$Junk"])
    )
    assert stored.changed == [1, 3]
    await listings.refresh(mail, listing)
    assert listing.changed_since(before) == [1, 3]
    assert listing.flags_of(0) == Flags.of(["$junk", "\\seen", "Blue"])
    assert (await mailboxes.by_path(mail, alice.id, "INBOX")).unseen == 1
    entries = await changes.since(mail, alice.id, before, limit=None)
    assert [(entry.kind, entry.uids) for entry in entries] == [(ChangeKind.EMAIL_UPDATED, (1, 3))]
    again = await messages.store(
        mail, alice.id, box, [1], FlagChange.ADD, Flags.of(["\\Seen", "blue"])
    )
    assert (again.modseq, again.changed) == (0, [])
    refused = await messages.store(
        mail, alice.id, box, [1, 2], FlagChange.REPLACE, Flags(), unchanged_since=before
    )
    assert (refused.changed, refused.refused) == ([], [1])


async def test_expunge_takes_only_deleted_messages(mail: Mail, alice: Account) -> None:
    for number in range(4):
        await take(mail, message(number), alice, flags=Flags(DELETED if number % 2 else SEEN))
    box = await inbox(mail, alice)
    listing = await listings.open_listing(mail, alice.id, box)
    held, before = listing.uids, listing.modseq
    assert await messages.expunge(mail, alice.id, box, [1, 2]) == [2]
    assert await messages.expunge(mail, alice.id, box, None) == [4]
    assert await messages.expunge(mail, alice.id, box, None) == []
    await listings.refresh(mail, listing)
    assert list(held) == [1, 2, 3, 4]
    assert list(listing.uids) == [1, 3]
    assert listing.removed_since(before) == [2, 4]
    found = await mailboxes.by_path(mail, alice.id, "INBOX")
    assert (found.total, found.deleted, found.uidnext) == (2, 0, 5)


async def test_a_copied_email_shares_its_flags(mail: Mail, alice: Account) -> None:
    delivered = (await take(mail, message(1), alice)).delivered[0]
    box = await inbox(mail, alice)
    archive = (await mailboxes.by_path(mail, alice.id, "Archive")).id
    copied = await messages.copy(mail, alice.id, box, [1], archive)
    assert (copied.sources, copied.targets) == ([1], [1])
    await messages.store(
        mail, alice.id, box, [1], FlagChange.ADD, Flags.of(["\\Seen", "\\Deleted"])
    )
    both = (await messages.memberships(mail, alice.id, [delivered.email_id]))[delivered.email_id]
    flags = {row.mailbox_id: row.flags.bits for row in both}
    assert flags == {box: SEEN | DELETED, archive: SEEN}
    await messages.expunge(mail, alice.id, box, None)
    assert await content.content(mail, alice.id, delivered.blob_id) == message(1)
    before = await messages.state(mail, alice.id)
    moved = await messages.move(mail, alice.id, archive, [1], box)
    assert moved.targets == [2]
    kinds = [entry.kind for entry in await changes.since(mail, alice.id, before, limit=None)]
    assert kinds == [ChangeKind.EMAIL_ADDED, ChangeKind.EMAIL_REMOVED]


async def test_mailboxes_are_made_renamed_and_deleted(mail: Mail, alice: Account) -> None:
    made = await mailboxes.create(mail, alice.id, "work/2026/q4")
    assert [box.path for box in made] == ["work", "work/2026", "work/2026/q4"]
    await mailboxes.rename(mail, alice.id, made[1].id, "old/2026")
    paths = [box.path for box in await mailboxes.list_all(mail, alice.id)]
    assert paths[0] == "INBOX"
    assert {"work", "old", "old/2026", "old/2026/q4"} <= set(paths)
    await take(mail, message(1), alice)
    inbox = await mailboxes.by_path(mail, alice.id, "INBOX")
    kept = await mailboxes.rename(mail, alice.id, inbox.id, "kept")
    assert (await mailboxes.by_path(mail, alice.id, "kept")).total == 1
    assert (await mailboxes.by_path(mail, alice.id, "INBOX")).total == 0
    await mailboxes.delete(mail, alice.id, kept.id)
    with pytest.raises(NotFound):
        await mailboxes.by_path(mail, alice.id, "kept")


async def test_recent_is_given_to_one_session(mail: Mail, alice: Account) -> None:
    await take(mail, message(1), alice)
    box = await inbox(mail, alice)
    assert await mailboxes.peek_recent(mail, alice.id, box) == 1
    assert await mailboxes.take_recent(mail, alice.id, box) == range(1, 2)
    assert await mailboxes.take_recent(mail, alice.id, box) == range(2, 2)
    assert await mailboxes.peek_recent(mail, alice.id, box) == 2


async def test_a_copy_onto_its_own_mailbox_is_another_email(mail: Mail, alice: Account) -> None:
    delivered = (await take(mail, message(1), alice)).delivered[0]
    box = await inbox(mail, alice)
    copied = await messages.copy(mail, alice.id, box, [1], box)
    assert copied.targets == [2]
    listing = await listings.open_listing(mail, alice.id, box)
    first, twin = listing.email_ids
    assert first == delivered.email_id != twin
    await messages.store(mail, alice.id, box, [1], FlagChange.ADD, Flags(DELETED))
    await messages.expunge(mail, alice.id, box, None)
    found = await messages.emails(mail, alice.id, [first, twin])
    assert list(found) == [twin]
    assert await content.content(mail, alice.id, found[EmailId(twin)].blob_id) == message(1)


async def test_a_login_cannot_take_an_address_that_leads_elsewhere(
    mail: Mail, alice: Account
) -> None:
    await accounts.add_alias(mail, "sales@example.test", "alice@example.test")
    with pytest.raises(AlreadyExists):
        await accounts.create(mail, "sales@example.test", password=None)
    with pytest.raises(AlreadyExists):
        await accounts.create(mail, "ALICE@example.test", password=None)


async def test_addresses_resolve(mail: Mail, alice: Account, bob: Account) -> None:
    await accounts.add_alias(mail, "sales@example.test", "alice@example.test")
    await accounts.add_alias(mail, "@example.test", "bob@example.test")

    async def logins(text: str) -> list[str]:
        resolution = await recipients.resolve(mail, parse_address(text))
        assert resolution.local
        return [account.login for account in resolution.accounts]

    assert await logins("Alice@Example.Test") == ["alice@example.test"]
    assert await logins("alice+lists@example.test") == ["alice@example.test"]
    assert await logins("sales+x@example.test") == ["alice@example.test"]
    assert await logins("anyone@example.test") == ["bob@example.test"]
    assert not (await recipients.resolve(mail, parse_address("x@example.org"))).local


async def test_a_mailbox_with_a_very_long_name_can_be_removed(mail: Mail, alice: Account) -> None:
    # text that does not compress: a row of an index has less than 2704 octets
    parts = [
        "".join(chr(0x4E00 + (7919 * (80 * part + place)) % 20000) for place in range(80))
        for part in range(20)
    ]
    made = await mailboxes.create(mail, alice.id, "/".join(parts), subscribed=True)
    for each in reversed(made):
        await mailboxes.delete(mail, alice.id, each.id)
    left = await mailboxes.subscribed_names(mail, alice.id)
    assert "/".join(parts[:5]) in left
