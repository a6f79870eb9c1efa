"""STORE in groups: any mixture of flags, keywords, mailboxes and rights ends as one by one."""

import random

from mailserver.mail import delivery, flags, listings, mailboxes, messages
from mailserver.mail.context import Mail
from mailserver.mail.flags import Stored
from mailserver.mail.listings import Listing
from mailserver.model import (
    DELETED,
    FLAGGED,
    SEEN,
    Account,
    FlagChange,
    Flags,
    MailboxId,
)
from mailserver.storage.messages import combined

WORDS = (Flags(SEEN), Flags(FLAGGED), Flags(DELETED), Flags(0, ("one",)), Flags(SEEN, ("Two",)))
COUNT = 12


async def filled(mail: Mail, account: Account) -> tuple[MailboxId, MailboxId]:
    """Put messages in INBOX, and every other one also in Archive."""
    inbox = (await mailboxes.by_path(mail, account.id, "INBOX")).id
    archive = (await mailboxes.by_path(mail, account.id, "Archive")).id
    for number in range(COUNT):
        await delivery.accept(
            mail,
            b"Subject: %d\r\n\r\n" % number,
            [delivery.Target(account.id, inbox, WORDS[number % len(WORDS)])],
            received_at=mail.now(),
        )
    await messages.copy(mail, account.id, inbox, range(1, COUNT + 1, 2), archive)
    return inbox, archive


def shown(listing: Listing) -> list[tuple[int, int, int, tuple[str, ...]]]:
    return [
        (uid, bits, modseq, listing.keywords.get(uid, ()))
        for uid, bits, modseq in zip(listing.uids, listing.flags, listing.modseqs, strict=True)
    ]


async def fresh(mail: Mail, listing: Listing) -> Listing:
    """Return what another process would load now."""
    other = Listing(listing.account, listing.mailbox_id)
    await listings.refresh(mail, other)
    return other


async def test_groups_end_as_one_by_one(mail: Mail, alice: Account) -> None:
    chance = random.Random(5)
    boxes = await filled(mail, alice)
    opened = [await listings.open_listing(mail, alice.id, box) for box in boxes]
    for _ in range(60):
        which = chance.randrange(2)
        listing, other = opened[which], opened[1 - which]
        uids = chance.sample(list(listing.uids), chance.randrange(1, len(listing.uids)))
        mode, given = chance.choice(list(FlagChange)), chance.choice(WORDS)
        since = chance.choice((None, listing.modseqs[0]))
        before = {uid: listing.flags_of(index) for index, uid in enumerate(listing.uids)}
        late = {
            u for u, m in zip(listing.uids, listing.modseqs, strict=True) if since and m > since
        }
        stored = await flags.store(
            mail, alice.id, listing.mailbox_id, uids, mode, given, unchanged_since=since
        )
        await listings.follow(mail, listing, stored)
        await listings.refresh(mail, other)
        for each in opened:
            assert shown(each) == shown(await fresh(mail, each))
        new = {uid: combined(before[uid], mode, given) for uid in uids if uid not in late}
        assert stored.refused == sorted(set(uids) & late)
        assert stored.changed == sorted(uid for uid, word in new.items() if word != before[uid])
        for uid in stored.changed:
            index = listing.index(uid)
            assert index is not None
            assert listing.flags_of(index) == new[uid]


async def test_deleted_stays_with_the_membership(mail: Mail, alice: Account) -> None:
    inbox, archive = await filled(mail, alice)
    await flags.store(mail, alice.id, archive, range(1, 7), FlagChange.REPLACE, Flags())
    await flags.store(mail, alice.id, archive, [1, 2], FlagChange.ADD, Flags(DELETED))
    await flags.store(mail, alice.id, inbox, range(1, COUNT + 1), FlagChange.REPLACE, Flags(SEEN))
    there = await listings.open_listing(mail, alice.id, archive)
    assert list(there.flags) == [SEEN | DELETED] * 2 + [SEEN] * 4
    here = await listings.open_listing(mail, alice.id, inbox)
    assert list(here.flags) == [SEEN] * COUNT


async def test_what_happened_between_is_not_passed_over(mail: Mail, alice: Account) -> None:
    inbox, archive = await filled(mail, alice)
    listing = await listings.open_listing(mail, alice.id, inbox)
    await messages.move(mail, alice.id, inbox, [2], archive)
    stored = await flags.store(mail, alice.id, inbox, [3], FlagChange.ADD, Flags(FLAGGED))
    await listings.follow(mail, listing, stored)
    assert 2 not in listing.uids
    assert shown(listing) == shown(await fresh(mail, listing))
    await listings.follow(mail, listing, Stored())  # nothing was changed, but somebody looked
    assert shown(listing) == shown(await fresh(mail, listing))


async def test_who_told_is_not_told(mail: Mail, alice: Account) -> None:
    inbox, _ = await filled(mail, alice)
    listing = await listings.open_listing(mail, alice.id, inbox)
    before = listing.modseq
    first = await flags.store(mail, alice.id, inbox, [1, 2], FlagChange.ADD, Flags(FLAGGED))
    await listings.follow(mail, listing, first)
    second = await flags.store(mail, alice.id, inbox, [2, 3], FlagChange.ADD, Flags(0, ("x",)))
    await listings.follow(mail, listing, second)
    assert listing.changed_since(before) == [1, 2, 3]
    assert listing.changed_since(before, {first.modseq}) == [2, 3]
    assert listing.changed_since(before, {first.modseq, second.modseq}) == []
    loaded = await fresh(mail, listing)  # it knows no changes, only when each message changed
    assert loaded.changed_since(before, {second.modseq}) == [1]
