"""Changes in one statement are what they are in a transaction, and give way to who was first."""

import asyncio
from array import array

import pytest

from mailserver.errors import NotFound
from mailserver.mail import (
    access,
    accounts,
    changes,
    delivery,
    listings,
    mailboxes,
    messages,
    optimistic,
)
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.mail.flags import Stored
from mailserver.mail.listings import Listing
from mailserver.model import (
    DELETED,
    FLAGGED,
    HIDDEN,
    SEEN,
    Account,
    AccountId,
    ChangeKind,
    FlagChange,
    Flags,
    MailboxId,
    Modseq,
    Principal,
    Right,
)
from mailserver.storage import changes as change_table
from mailserver.storage.messages import pack

COUNT = 6


async def filled(mail: Mail, account: Account) -> Listing:
    """Put messages in INBOX and open it."""
    inbox = (await mailboxes.by_path(mail, account.id, "INBOX")).id
    for number in range(COUNT):
        await deliver(mail, account, number, inbox)
    return await listings.open_listing(mail, account.id, inbox)


def principal(account: Account) -> Principal:
    return Principal(account.id, account.login)


async def deliver(mail: Mail, account: Account, number: int, box: MailboxId | None = None) -> int:
    raw = f"Subject: {number}\r\nMessage-ID: <{number}@example.org>\r\n\r\n".encode()
    taken = await delivery.accept(
        mail, raw, [Target(account.id, box)], received_at=mail.now(), enforce_quota=True
    )
    return taken.delivered[0].uid


async def add(mail: Mail, listing: Listing, uids: list[int], given: Flags) -> Stored:
    return await optimistic.store(mail, listing, uids, FlagChange.ADD, given, heard=0)


async def demand_same(mail: Mail, listing: Listing) -> None:
    """Demand that a listing says what is stored, and as of the newest modseq."""
    fresh = await pack(mail.database, listing.account, listing.mailbox_id)
    assert (listing.uids, listing.flags, listing.modseqs) == (
        fresh.uids, fresh.flags, fresh.modseqs,
    )  # fmt: skip
    assert listing.keywords == fresh.keywords
    assert listing.modseq == await changes.state(mail, listing.account)


async def test_a_store_is_one_statement(mail: Mail, alice: Account) -> None:
    listing = await filled(mail, alice)
    told: list[tuple[AccountId, Modseq]] = []
    mail.events.forward(lambda account, modseq: told.append((account, modseq)))
    before = listing.modseq
    stored = await add(mail, listing, [1, 3], Flags(SEEN | DELETED, ("Blue",)))
    assert stored.modseq == listing.modseq == before + 1
    assert (stored.changed, stored.refused) == ([1, 3], [])
    assert told == [(alice.id, before + 1)]
    await demand_same(mail, listing)
    box = await mailboxes.by_path(mail, alice.id, "INBOX")
    assert (box.unseen, box.deleted, box.modseq) == (COUNT - 2, 2, before + 1)
    # another process learns of it from the change log
    other = Listing(listing.account, listing.mailbox_id)
    other.load(await pack(mail.database, alice.id, listing.mailbox_id), before)
    await listings.refresh(mail, other, before + 1)
    assert other.changed_since(before) == [1, 3]


async def test_a_store_of_one_message(mail: Mail, alice: Account) -> None:
    listing = await filled(mail, alice)
    before = listing.modseq
    stored = await add(mail, listing, [3], Flags(SEEN | DELETED, ("Blue", "Red")))
    assert (stored.modseq, stored.changed) == (before + 1, [3])
    await demand_same(mail, listing)
    box = await mailboxes.by_path(mail, alice.id, "INBOX")
    assert (box.unseen, box.deleted, box.modseq) == (COUNT - 1, 1, before + 1)
    await optimistic.store(mail, listing, [3], FlagChange.REPLACE, Flags(), heard=0)
    await demand_same(mail, listing)
    box = await mailboxes.by_path(mail, alice.id, "INBOX")
    assert (box.unseen, box.deleted) == (COUNT, 0)


async def test_what_is_so_already_changes_nothing(mail: Mail, alice: Account) -> None:
    listing = await filled(mail, alice)
    await add(mail, listing, [2], Flags(FLAGGED))
    modseq = listing.modseq
    stored = await add(mail, listing, [2], Flags(FLAGGED))
    assert (stored.modseq, stored.changed, listing.modseq) == (0, [], modseq)


async def test_a_listing_that_is_behind(mail: Mail, alice: Account) -> None:
    listing = await filled(mail, alice)
    box = listing.mailbox_id
    await messages.store(mail, alice.id, box, [2], FlagChange.ADD, Flags(FLAGGED))
    # as far as the listing knows there is nothing to take away
    stored = await optimistic.store(mail, listing, [2], FlagChange.REMOVE, Flags(FLAGGED), heard=0)
    assert stored.changed == [2]
    await demand_same(mail, listing)
    await messages.store(mail, alice.id, box, [3], FlagChange.ADD, Flags(0, ("Red",)))
    assert (await add(mail, listing, [3], Flags(0, ("Blue",)))).changed == [3]
    await demand_same(mail, listing)
    assert listing.keywords[3] == ("Blue", "Red")
    await add(mail, listing, [4], Flags(DELETED))
    await messages.expunge(mail, alice.id, box, None)
    assert (await add(mail, listing, [4, 5], Flags(SEEN))).changed == [5]
    await demand_same(mail, listing)


@pytest.mark.parametrize("uids", [[1, 2], [2]])
async def test_flags_follow_an_email_into_its_other_mailboxes(
    mail: Mail, alice: Account, uids: list[int]
) -> None:
    listing = await filled(mail, alice)
    archive = (await mailboxes.by_path(mail, alice.id, "Archive")).id
    await messages.copy(mail, alice.id, listing.mailbox_id, [2], archive)
    await listings.refresh(mail, listing)
    await add(mail, listing, uids, Flags(SEEN | DELETED))
    there = await pack(mail.database, alice.id, archive)
    assert there.flags == array("q", [SEEN])  # but for \\Deleted
    await demand_same(mail, listing)


async def logged(mail: Mail, account: Account, since: int) -> list[tuple[object, ...]]:
    """Return what the change log says, without the modseqs."""
    entries = await change_table.since(mail.database, account.id, since, None)
    return sorted(
        (e.kind, e.mailbox_id, *map(sorted, (e.uids, e.email_ids, e.thread_ids)), e.names)
        for e in entries
    )


@pytest.mark.parametrize("uids", [[1, 2, 4], [2]])
@pytest.mark.parametrize(
    ("before", "mode", "given"),
    [
        (Flags(), FlagChange.ADD, Flags(SEEN)),
        (Flags(), FlagChange.ADD, Flags(DELETED, ("Blue",))),
        (Flags(DELETED | SEEN), FlagChange.REMOVE, Flags(DELETED)),
        (Flags(DELETED), FlagChange.REPLACE, Flags(DELETED | FLAGGED)),
    ],
)
async def test_the_log_says_the_same(
    mail: Mail, alice: Account, before: Flags, mode: FlagChange, given: Flags, uids: list[int]
) -> None:
    listing = await filled(mail, alice)
    box = listing.mailbox_id
    logs = []
    for at_once in (True, False):
        await messages.store(mail, alice.id, box, [1, 2], FlagChange.REPLACE, before)
        await messages.store(mail, alice.id, box, [4], FlagChange.REPLACE, Flags(FLAGGED))
        await listings.refresh(mail, listing)
        since = listing.modseq
        if at_once:
            await optimistic.store(mail, listing, uids, mode, given, heard=0)
            await demand_same(mail, listing)
        else:
            await messages.store(mail, alice.id, box, uids, mode, given)
        logs.append(await logged(mail, alice, since))
    assert logs[0] == logs[1]


async def test_expunge_is_one_statement(mail: Mail, alice: Account) -> None:
    listing = await filled(mail, alice)
    archive = (await mailboxes.by_path(mail, alice.id, "Archive")).id
    await messages.copy(mail, alice.id, listing.mailbox_id, [2], archive)
    await listings.refresh(mail, listing)
    await messages.store(
        mail, alice.id, listing.mailbox_id, [1, 2, 3], FlagChange.ADD, Flags(DELETED)
    )
    await listings.refresh(mail, listing)
    before, first = listing.modseq, listing.email_ids[0]
    used = (await accounts.get(mail, alice.id)).quota_used
    size = listing.sizes[0]
    gone = await optimistic.expunge(mail, listing, [1, 2, 5], heard=0)
    assert gone == [1, 2]
    await demand_same(mail, listing)
    assert listing.removed_since(before) == [1, 2]
    removed, destroyed = [
        (kind, uids, names) for kind, _, uids, _, _, names in await logged(mail, alice, before)
    ]
    assert destroyed == (ChangeKind.EMAIL_DESTROYED, [1], (HIDDEN,))
    assert removed == (ChangeKind.EMAIL_REMOVED, [2], (HIDDEN,))
    assert await messages.emails(mail, alice.id, [first]) == {}
    assert (await accounts.get(mail, alice.id)).quota_used == used - size
    assert await optimistic.expunge(mail, listing, None, heard=0) == [3]
    assert await optimistic.expunge(mail, listing, None, heard=0) == []
    await demand_same(mail, listing)


async def test_expunge_by_a_listing_that_is_behind(mail: Mail, alice: Account) -> None:
    listing = await filled(mail, alice)
    box = listing.mailbox_id
    await messages.store(mail, alice.id, box, [1, 2], FlagChange.ADD, Flags(DELETED))
    assert await optimistic.expunge(mail, listing, [2], heard=0) == [2]  # it knew of none
    await listings.refresh(mail, listing)
    await messages.store(mail, alice.id, box, [1], FlagChange.REMOVE, Flags(DELETED))
    assert await optimistic.expunge(mail, listing, None, heard=0) == []  # it knew of one
    await listings.refresh(mail, listing)
    assert list(listing.uids) == [1, 3, 4, 5, 6]
    await demand_same(mail, listing)


@pytest.mark.parametrize("uids", [[1, 2, 3], [2, 5], [1, 3, 4], [6]])
async def test_a_move_is_what_it_is_in_a_transaction(
    mail: Mail, alice: Account, bob: Account, uids: list[int]
) -> None:
    outcomes = []
    for account, at_once in ((alice, True), (bob, False)):
        listing = await filled(mail, account)
        await add(mail, listing, [2, 3, 6], Flags(DELETED | FLAGGED, ("Blue",)))
        await add(mail, listing, [1, 6], Flags(SEEN))
        place = await access.find(mail, principal(account), "Archive")
        target = place.mailbox.id
        await deliver(mail, account, 100, target)
        await listings.refresh(mail, listing)
        known, since = await listings.open_listing(mail, account.id, target), listing.modseq
        if at_once:
            moved = await optimistic.move(mail, listing, uids, place, heard=0)
            assert listing.modseq == since + 1  # without being refreshed
        else:
            moved = await messages.move(mail, account.id, listing.mailbox_id, uids, target)
            await listings.refresh(mail, listing)
        await demand_same(mail, listing)
        await listings.refresh(mail, known)
        await demand_same(mail, known)
        entries = await logged(mail, account, since)
        emails = [sorted(known.email_ids).index(each) for each in known.email_ids]
        boxes = [
            (box.total, box.unseen, box.deleted, box.size, box.uidnext, box.modseq - since)
            for box in await mailboxes.list_all(mail, account.id)
        ]
        outcomes.append(
            (
                moved.sources, moved.targets, boxes, emails, known.flags, known.keywords,
                listing.uids, [(kind, uids, names) for kind, _, uids, _, _, names in entries],
            )
        )  # fmt: skip
        assert listing.removed_since(since) == uids
    assert outcomes[0] == outcomes[1]


async def test_a_move_by_a_listing_that_is_behind(mail: Mail, alice: Account) -> None:
    listing = await filled(mail, alice)
    place = await access.find(mail, principal(alice), "Archive")
    await messages.store(mail, alice.id, listing.mailbox_id, [2], FlagChange.ADD, Flags(DELETED))
    await messages.expunge(mail, alice.id, listing.mailbox_id, None)
    moved = await optimistic.move(mail, listing, [1, 2, 3], place, heard=0)
    assert (moved.sources, moved.targets) == ([1, 3], [1, 2])
    await listings.refresh(mail, listing)
    # one that is there already gets a twin
    await messages.copy(mail, alice.id, listing.mailbox_id, [4], place.mailbox.id)
    await listings.refresh(mail, listing)
    moved = await optimistic.move(mail, listing, [4, 5], place, heard=0)
    assert (moved.sources, moved.targets) == ([4, 5], [4, 5])
    await listings.refresh(mail, listing)
    await demand_same(mail, listing)
    there = await listings.open_listing(mail, alice.id, place.mailbox.id)
    assert list(there.originals) == [4]
    # within one mailbox
    here = await access.find(mail, principal(alice), "INBOX")
    moved = await optimistic.move(mail, listing, [6], here, heard=0)
    assert (moved.sources, moved.targets) == ([6], [7])
    await mailboxes.delete(mail, alice.id, place.mailbox.id)
    await listings.refresh(mail, listing)
    with pytest.raises(NotFound):
        await optimistic.move(mail, listing, [7], place, heard=0)
    await listings.refresh(mail, listing)
    assert list(listing.uids) == [7]


@pytest.mark.parametrize("uids", [[1, 2, 3], [2, 5], [1, 3, 4], [6]])
async def test_a_copy_is_what_it_is_in_a_transaction(
    mail: Mail, alice: Account, bob: Account, uids: list[int]
) -> None:
    outcomes = []
    for account, at_once in ((alice, True), (bob, False)):
        listing = await filled(mail, account)
        await add(mail, listing, [2, 3, 6], Flags(DELETED | FLAGGED, ("Blue",)))
        await add(mail, listing, [1, 6], Flags(SEEN))
        await optimistic.copy(
            mail, listing, [3], await access.find(mail, principal(account), "INBOX"), heard=0
        )  # a twin, which keeps its original's id when it is copied itself
        await listings.refresh(mail, listing)
        place = await access.find(mail, principal(account), "Archive")
        target = place.mailbox.id
        await deliver(mail, account, 100, target)
        await listings.refresh(mail, listing)
        known, since = await listings.open_listing(mail, account.id, target), listing.modseq
        wanted = [*uids, 7]
        if at_once:
            copied = await optimistic.copy(mail, listing, wanted, place, heard=0)
            assert listing.modseq == since + 1  # without being refreshed
        else:
            copied = await messages.copy(mail, account.id, listing.mailbox_id, wanted, target)
            await listings.refresh(mail, listing)
        assert listing.changed_since(since) == listing.removed_since(since) == []
        await demand_same(mail, listing)
        await listings.refresh(mail, known)
        await demand_same(mail, known)
        saved = await messages.saved(mail, account.id, target, copied.targets)
        assert set(saved) == set(copied.targets)
        for at, uid in enumerate(copied.sources, 1):
            for name in ("email_ids", "thread_ids", "received", "sizes", "flags"):
                assert getattr(known, name)[at] == getattr(listing, name)[listing.index(uid)]
        originals = {
            uid: listing.uids[listing.email_ids.index(of)] for uid, of in known.originals.items()
        }
        entries = await logged(mail, account, since)
        boxes = [
            (box.total, box.unseen, box.deleted, box.size, box.uidnext, box.modseq - since)
            for box in await mailboxes.list_all(mail, account.id)
        ]
        outcomes.append(
            (
                copied.sources, copied.targets, boxes, originals, known.flags, known.keywords,
                listing.uids, [(kind, uids, names) for kind, _, uids, _, _, names in entries],
            )
        )  # fmt: skip
    assert outcomes[0] == outcomes[1]


async def test_a_copy_by_a_listing_that_is_behind(mail: Mail, alice: Account) -> None:
    listing = await filled(mail, alice)
    place = await access.find(mail, principal(alice), "Archive")
    await messages.store(mail, alice.id, listing.mailbox_id, [2], FlagChange.ADD, Flags(DELETED))
    await messages.expunge(mail, alice.id, listing.mailbox_id, None)
    copied = await optimistic.copy(mail, listing, [1, 2, 3], place, heard=0)
    assert (copied.sources, copied.targets) == ([1, 3], [1, 2])
    await listings.refresh(mail, listing)
    # one that is there already gets a twin
    copied = await optimistic.copy(mail, listing, [3, 4], place, heard=0)
    assert (copied.sources, copied.targets) == ([3, 4], [3, 4])
    there = await listings.open_listing(mail, alice.id, place.mailbox.id)
    assert list(there.originals) == [3]
    await listings.refresh(mail, listing)
    await demand_same(mail, listing)
    await mailboxes.delete(mail, alice.id, place.mailbox.id)
    await listings.refresh(mail, listing)
    with pytest.raises(NotFound):
        await optimistic.copy(mail, listing, [5], place, heard=0)
    await listings.refresh(mail, listing)
    await demand_same(mail, listing)


async def test_flags_of_many_messages(mail: Mail, alice: Account) -> None:
    listing = await filled(mail, alice)
    count = 3 * optimistic.FEW
    await asyncio.gather(*(deliver(mail, alice, number) for number in range(COUNT, count)))
    await listings.refresh(mail, listing)
    every = list(listing.uids)
    blue, marked = every[3:20], every[10:60:2]
    await add(mail, listing, blue, Flags(SEEN, ("Blue",)))
    await add(mail, listing, marked, Flags(DELETED))
    since, some = listing.modseq, every[2:-1]
    stored = await optimistic.store(
        mail, listing, some, FlagChange.REPLACE, Flags(DELETED, ("Red",)), heard=0
    )
    assert (stored.modseq, stored.changed, listing.modseq) == (since + 1, some, since + 1)
    await demand_same(mail, listing)
    box = await mailboxes.by_path(mail, alice.id, "INBOX")
    assert (box.unseen, box.deleted) == (count, len(some))
    told = [(uids, names) for _, _, uids, _, _, names in await logged(mail, alice, since)]
    fresh = [uid for uid in some if uid not in marked]
    assert sorted(told) == sorted([(fresh, (HIDDEN,)), (marked, ())])
    # what UNCHANGEDSINCE keeps from being changed has the flags of what is changed
    await add(mail, listing, every[::2], Flags(FLAGGED))
    before = listing.modseq - 1
    stored = await optimistic.store(
        mail, listing, every, FlagChange.ADD, Flags(SEEN), heard=0, unchanged_since=before
    )
    assert (stored.changed, stored.refused) == (every[1::2], every[::2])
    await demand_same(mail, listing)
    # and what is in another mailbox is changed there too
    archive = (await mailboxes.by_path(mail, alice.id, "Archive")).id
    await messages.copy(mail, alice.id, listing.mailbox_id, [every[5]], archive)
    await listings.refresh(mail, listing)
    assert (await add(mail, listing, every, Flags(0, ("Green",)))).changed == every
    await demand_same(mail, listing)
    assert list((await pack(mail.database, alice.id, archive)).keywords.values()) == [
        ("Green", "Red")
    ]
    assert (await optimistic.expunge(mail, listing, None, heard=0)) == some
    await demand_same(mail, listing)


async def test_rights_and_unchangedsince(mail: Mail, alice: Account) -> None:
    listing = await filled(mail, alice)
    stored = await optimistic.store(
        mail, listing, [1], FlagChange.ADD, Flags(SEEN | FLAGGED), heard=0, rights=Right.SEEN
    )
    assert (stored.changed, listing.flags[0]) == ([1], SEEN)
    since = listing.modseq - 1
    stored = await optimistic.store(
        mail, listing, [1, 2], FlagChange.ADD, Flags(FLAGGED), heard=0, unchanged_since=since
    )
    assert (stored.changed, stored.refused) == ([2], [1])
    await demand_same(mail, listing)


async def test_many_at_once(mail: Mail, alice: Account) -> None:
    listing = await filled(mail, alice)
    archive = await listings.open_listing(
        mail, alice.id, (await mailboxes.by_path(mail, alice.id, "Archive")).id
    )
    for number in range(3):
        await deliver(mail, alice, 100 + number, archive.mailbox_id)
    await listings.refresh(mail, archive)
    work = [add(mail, listing, [1 + n % COUNT], Flags(0, (f"k{n}",))) for n in range(20)]
    work += [add(mail, archive, [1 + n % 3], Flags(0, (f"k{n}",))) for n in range(10)]
    stored = await asyncio.gather(*work, *(deliver(mail, alice, 200 + n) for n in range(10)))
    assert all(each.modseq for each in stored if isinstance(each, Stored))
    for each in (listing, archive):
        await listings.refresh(mail, each)
        await demand_same(mail, each)
    assert sum(map(len, listing.keywords.values())) == 20
