"""Whatever happens to a mailbox, a listing that follows it equals one that is loaded anew."""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from mailserver.mail import access, delivery, deltas, listings, mailboxes, messages, optimistic
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.mail.listings import Listing
from mailserver.model import (
    Account,
    AccountId,
    FlagChange,
    Flags,
    MailboxId,
    Modseq,
    Place,
    Principal,
)
from mailserver.storage.messages import pack
from tests.conftest import Bucketed, make_mail

STEPS = 150
FLAGS = ("\\Seen", "\\Deleted", "\\Flagged", "$Junk", "Blue", "red")


class Client:
    """Someone who keeps a copy of a mailbox by applying only what changed since its modseq."""

    def __init__(self) -> None:
        self.modseq = -1
        self.flags: dict[int, Flags] = {}

    def follow(self, listing: Listing) -> None:
        gone = listing.removed_since(self.modseq)
        if gone is None:
            self.flags = {}
            changed = list(listing.uids)
        else:
            for uid in gone:
                self.flags.pop(uid, None)
            changed = listing.changed_since(self.modseq)
        for uid in changed:
            index = listing.index(uid)
            assert index is not None
            self.flags[uid] = listing.flags_of(index)
        self.modseq = listing.modseq


class World:
    """Random changes to two mailboxes of one account; their listings are followed."""

    def __init__(
        self,
        mail: Mail,
        account: Account,
        followed: dict[MailboxId, Listing],
        places: Sequence[Place],
        seed: int,
    ) -> None:
        self.mail = mail
        self.account = account
        self.followed = followed
        self.boxes = list(followed)
        self.places = places
        self.chance = random.Random(seed)
        self.count = 0

    async def step(self) -> None:
        doing: list[tuple[Callable[[], Awaitable[object]], int]] = [
            (self.deliver, 4),
            (self.store, 3),
            (self.store_as_known, 4),
            (self.expunge, 1),
            (self.expunge_as_known, 1),
            (self.copy, 1),
            (self.move, 1),
            (self.move_as_known, 1),
        ]
        actions, weights = zip(*doing, strict=True)
        await self.chance.choices(actions, weights)[0]()

    def some_uids(self) -> list[int]:
        return sorted(self.chance.sample(range(1, 60), self.chance.randint(1, 8)))

    def some_flags(self) -> Flags:
        return Flags.of(self.chance.sample(FLAGS, self.chance.randint(0, 3)))

    async def deliver(self) -> None:
        self.count += 1
        target = Target(self.account.id, self.chance.choice(self.boxes), self.some_flags())
        raw = f"Subject: {self.count}\r\n\r\n".encode()
        await delivery.accept(self.mail, raw, [target], received_at=self.mail.now())

    async def store(self) -> None:
        await messages.store(
            self.mail,
            self.account.id,
            self.chance.choice(self.boxes),
            self.some_uids(),
            self.chance.choice(list(FlagChange)),
            self.some_flags(),
        )

    async def store_as_known(self) -> None:
        """Change flags by what a listing says, which may be behind."""
        listing = self.followed[self.chance.choice(self.boxes)]
        await optimistic.store(
            self.mail,
            listing,
            self.some_uids()[:1] if self.chance.random() < 0.5 else list(listing.uids[:3]),
            self.chance.choice(list(FlagChange)),
            self.some_flags(),
            heard=self.chance.choice((0, listing.modseq, listing.modseq + 1)),
        )

    async def expunge(self) -> None:
        uids = self.chance.choice([None, self.some_uids()])
        await messages.expunge(self.mail, self.account.id, self.chance.choice(self.boxes), uids)

    async def expunge_as_known(self) -> None:
        listing = self.followed[self.chance.choice(self.boxes)]
        uids = self.chance.choice([None, self.some_uids()])
        await optimistic.expunge(self.mail, listing, uids, heard=0)

    async def copy(self) -> None:
        source, target = self.chance.choices(self.boxes, k=2)
        await messages.copy(self.mail, self.account.id, source, self.some_uids()[:2], target)

    async def move(self) -> None:
        source, target = self.chance.choices(self.boxes, k=2)
        await messages.move(self.mail, self.account.id, source, self.some_uids()[:2], target)

    async def move_as_known(self) -> None:
        source, target = self.chance.choices(self.boxes, k=2)
        listing = self.followed[source]
        place = next(each for each in self.places if each.mailbox.id == target)
        await optimistic.move(self.mail, listing, list(listing.uids[1:3]), place, heard=0)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
async def test_following_equals_loading(mail: Mail, alice: Account, seed: int) -> None:
    boxes = [box.id for box in (await mailboxes.list_all(mail, alice.id))[:2]]
    followed = {box: await listings.open_listing(mail, alice.id, box) for box in boxes}
    places = await access.visible(mail, Principal(alice.id, alice.login))
    world = World(mail, alice, followed, places, seed)
    clients = {box: [Client(), Client()] for box in boxes}
    for _ in range(STEPS):
        await world.step()
        box = world.chance.choice(boxes)
        listing = followed[box]
        known = world.chance.choice((0, listing.modseq + 1))
        await listings.refresh(mail, listing, known)
        fresh = await pack(mail.database, alice.id, box)
        assert (listing.uids, listing.email_ids, listing.flags, listing.modseqs) == (
            fresh.uids, fresh.email_ids, fresh.flags, fresh.modseqs,
        )  # fmt: skip
        assert listing.keywords == fresh.keywords
        assert (listing.sizes, listing.received, listing.thread_ids) == (
            fresh.sizes, fresh.received, fresh.thread_ids,
        )  # fmt: skip
        client = world.chance.choice(clients[box])
        client.follow(listing)
        expected = {uid: listing.flags_of(index) for index, uid in enumerate(listing.uids)}
        assert client.flags == expected


async def make_world(mail: Mail, account: Account, seed: int) -> World:
    places = await access.visible(mail, Principal(account.id, account.login))
    boxes = [place.mailbox.id for place in places[:2]]
    followed = {box: await listings.open_listing(mail, account.id, box) for box in boxes}
    return World(mail, account, followed, places, seed)


async def alter_mailboxes(mail: Mail, account: Account, chance: random.Random) -> None:
    """Do something to mailboxes that no message has a part in."""
    number = chance.randrange(1000)
    below = next(box for box in await mailboxes.list_all(mail, account.id) if "/" in box.path)
    if chance.random() < 0.5:
        await mailboxes.rename(mail, account.id, below.id, f"Above/{number}")
    else:
        await mailboxes.subscribe(mail, account.id, below.path, not below.subscribed)


async def enter_one(mail: Mail, account: Account, chance: random.Random) -> None:
    """Open a mailbox: whatever nobody has seen is recent, and then it is not."""
    roots = [box for box in await mailboxes.list_all(mail, account.id) if "/" not in box.path]
    before = chance.choice(roots)
    mailbox, recent, modseq = await mailboxes.enter(mail, account.id, before.path)
    if before.recent_uid < before.uidnext:
        assert recent == range(before.recent_uid, before.uidnext)
    else:
        assert recent is None
    assert replace(mailbox, recent_uid=before.recent_uid) == before
    assert modseq == await mail.looks.modseq(account.id)
    after = await mailboxes.by_path(mail, account.id, before.path)
    assert after == replace(before, recent_uid=before.uidnext)


class Gossip:
    """What one process is told of the changes of another: in whatever order, often, or never."""

    def __init__(self, speaker: Mail, hearer: World, chance: random.Random) -> None:
        self.hearer = hearer
        self.chance = chance
        self.told: list[tuple[AccountId, Modseq, str]] = []
        speaker.events.forward_details(lambda *detail: self.told.append(detail))

    async def spread(self) -> None:
        kept = [detail for detail in self.told if self.chance.random() < 0.2]
        lost = [detail for detail in self.told if self.chance.random() < 0.1]
        heard = [detail for detail in self.told if detail not in lost]
        if self.chance.random() < 0.2:
            self.chance.shuffle(heard)
        self.told = kept  # to be heard once more, much later
        listing = self.chance.choice(list(self.hearer.followed.values()))
        if self.chance.random() < 0.3:
            async with listing.lock:  # it is in use
                self.hear(heard)
        else:
            self.hear(heard)

    def hear(self, details: Sequence[tuple[AccountId, Modseq, str]]) -> None:
        for detail in details:
            deltas.hear(self.hearer.mail, *detail)


async def test_what_is_told_needs_not_be_read(mail: Mail, alice: Account, bucket: Bucketed) -> None:
    other = make_mail(mail.database, bucket.blobs, mail.config, node=2)
    here, there = [await make_world(each, alice, 1) for each in (mail, other)]
    told: list[tuple[AccountId, Modseq, str]] = []
    mail.events.forward_details(lambda *detail: told.append(detail))
    await here.deliver()  # anywhere
    box = here.boxes[0]
    raw = b"Subject: x\r\n\r\n"
    flags = Flags.of(("\\Seen", "Blue"))
    for given in (flags, Flags(), flags):
        await delivery.accept(mail, raw, [Target(alice.id, box, given)], received_at=mail.now())
    listing = here.followed[box]
    await optimistic.store(
        mail, listing, list(listing.uids[-2:]), FlagChange.REPLACE, Flags.of(["\\Deleted"]), heard=0
    )
    await messages.expunge(mail, alice.id, box, list(listing.uids[-1:]))
    for detail in told:
        deltas.hear(other, *detail)
    same, fresh = there.followed[box], await pack(mail.database, alice.id, box)
    assert same.modseq == await mail.looks.modseq(alice.id)
    assert (same.uids, same.email_ids, same.thread_ids, same.flags, same.modseqs) == (
        fresh.uids, fresh.email_ids, fresh.thread_ids, fresh.flags, fresh.modseqs,
    )  # fmt: skip
    assert (same.sizes, same.received, same.keywords) == (
        fresh.sizes, fresh.received, fresh.keywords,
    )  # fmt: skip
    now = Modseq(same.modseq)
    assert other.looks.is_same(alice.id, here.boxes[1], Modseq(now - 3), now)
    await other.committer.drain()
    other.passwords.close()


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
async def test_what_is_remembered_equals_what_is_read(
    mail: Mail, alice: Account, bucket: Bucketed, seed: int
) -> None:
    """Two processes change an account; each knows at once what both did, told of it or not."""
    other = make_mail(mail.database, bucket.blobs, mail.config, node=2)
    await mailboxes.create(mail, alice.id, "Above/Below")
    worlds = [await make_world(each, alice, seed) for each in (mail, other)]
    talk = random.Random(-seed)
    gossips = [Gossip(mail, worlds[1], talk), Gossip(other, worlds[0], talk)]
    who, chance = Principal(alice.id, alice.login), random.Random(seed)
    trees = {id(world): await access.tree(world.mail, who, None) for world in worlds}
    for _ in range(STEPS):
        world = chance.choice(worlds)
        for _ in range(chance.randrange(4)):
            await world.step()
        if chance.random() < 0.1:
            await alter_mailboxes(world.mail, alice, chance)
        for gossip in gossips:
            await gossip.spread()
        await enter_one(world.mail, alice, chance)
        for world in worlds:
            for box in await mailboxes.list_all(mail, alice.id):
                seen = await mailboxes.numbered(world.mail, alice.id, box.path)
                assert replace(seen, recent_uid=box.recent_uid) == box
            known = trees[id(world)]
            tree = trees[id(world)] = await access.tree(world.mail, who, known)
            assert tree == await access.tree(mail, who, None)
            for listing in world.followed.values():
                await listings.look(world.mail, listing)
                fresh = await pack(mail.database, alice.id, listing.mailbox_id)
                assert (listing.uids, listing.email_ids, listing.thread_ids, listing.flags) == (
                    fresh.uids, fresh.email_ids, fresh.thread_ids, fresh.flags,
                )  # fmt: skip
                assert (listing.received, listing.sizes, listing.modseqs) == (
                    fresh.received, fresh.sizes, fresh.modseqs,
                )  # fmt: skip
                assert (listing.keywords, listing.originals) == (fresh.keywords, fresh.originals)
    await other.committer.drain()
    other.passwords.close()
