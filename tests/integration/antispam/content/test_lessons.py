"""Users teach the filter by moves and keywords; every opinion counts once, whatever happens."""

import asyncio
from datetime import UTC, datetime

import pytest

from mailserver.antispam.content.learning import tidy
from mailserver.antispam.content.model import SERVER_BITS, Counts, Lesson, delta_of
from mailserver.antispam.content.models import Models
from mailserver.antispam.content.stored import as_inquiry
from mailserver.antispam.content.teacher import Teacher
from mailserver.antispam.content.tokens import Features, features
from mailserver.antispam.content.views import Views
from mailserver.mail import (
    delivery,
    email_edits,
    flags,
    listings,
    mailboxes,
    messages,
    optimistic,
    sending,
)
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.mail.email_edits import Edit
from mailserver.mail.originals import Original
from mailserver.model import (
    ALL_RIGHTS,
    Account,
    EmailId,
    FlagChange,
    Flags,
    Mailbox,
    Place,
    Role,
)
from mailserver.storage import correspondents, spam_models
from mailserver.storage import lessons as lesson_table
from mailserver.storage.spam_models import SERVER

RAW = (
    b"Return-Path: <seller@example.org>\r\nReceived: from mx.example.org (mx.example.org "
    b"[8.8.4.4]) by mx.example.test; Sun, 1 Nov 2026 12:00:00 +0000\r\n"
    b"From: Seller <seller@example.org>\r\nSubject: cheap watches\r\n\r\nBuy our watches now %d\r\n"
)


def teacher(mail: Mail, models: Models, owner: str = "node-1") -> Teacher:
    return Teacher(mail.database, mail.blobs, models, mail.metrics, mail.now, owner)


def features_of(raw: bytes) -> Features:
    return features(Views(as_inquiry(raw, datetime(2026, 11, 1, tzinfo=UTC))))


async def boxes(mail: Mail, account: Account) -> dict[Role | None, Mailbox]:
    return {each.role: each for each in await mailboxes.list_all(mail, account.id)}


async def deliver(mail: Mail, account: Account, raw: bytes) -> tuple[EmailId, int]:
    accepted = await delivery.accept(
        mail, raw, [Target(account.id)], received_at=mail.now(), sender="seller@example.org"
    )
    placed = accepted.delivered[0]
    return placed.email_id, placed.uid


async def learned(mail: Mail, account: Account) -> tuple[int, int, int, int]:
    """Return the lessons of spam and ham of the server, and of the account."""
    models = Models(mail.database)
    await models.refresh()
    own = await models.of_account(account.id)
    return (
        models.server.spam_lessons,
        models.server.ham_lessons,
        own.spam_lessons if own else 0,
        own.ham_lessons if own else 0,
    )


async def test_a_move_into_junk_teaches_and_one_back_takes_it_back(
    mail: Mail, alice: Account
) -> None:
    place = await boxes(mail, alice)
    inbox, junk = place[Role.INBOX].id, place[Role.JUNK].id
    _, uid = await deliver(mail, alice, RAW % 1)
    moved = await messages.move(mail, alice.id, inbox, [uid], junk)
    assert await teacher(mail, Models(mail.database)).once() == 1
    assert await learned(mail, alice) == (1, 0, 1, 0)
    await messages.move(mail, alice.id, junk, moved.targets, inbox)
    assert await teacher(mail, Models(mail.database)).once() == 1
    assert await learned(mail, alice) == (0, 1, 0, 1)
    models = Models(mail.database)
    await models.refresh()
    expected = Counts(SERVER_BITS)
    expected.add(delta_of([Lesson(features_of(RAW % 1), spam=False)], SERVER_BITS))
    assert models.server.pack() == expected.pack()


async def test_where_a_message_goes_to_trash_nothing_is_said(mail: Mail, alice: Account) -> None:
    place = await boxes(mail, alice)
    _, uid = await deliver(mail, alice, RAW % 1)
    into = await messages.move(mail, alice.id, place[Role.INBOX].id, [uid], place[Role.JUNK].id)
    await lesson_table.take(mail.database, [each.id for each in await _waiting(mail)])
    await messages.move(mail, alice.id, place[Role.JUNK].id, into.targets, place[Role.TRASH].id)
    assert await _waiting(mail) == []


async def _waiting(mail: Mail) -> list[lesson_table.Lesson]:
    return await lesson_table.oldest(mail.database, 0, 100)


async def test_keywords_of_imap_teach(mail: Mail, alice: Account) -> None:
    inbox = (await boxes(mail, alice))[Role.INBOX].id
    _, uid = await deliver(mail, alice, RAW % 1)
    await flags.store(mail, alice.id, inbox, [uid], FlagChange.ADD, Flags.of(["$Junk"]))
    await flags.store(mail, alice.id, inbox, [uid], FlagChange.ADD, Flags.of(["\\Seen"]))
    assert [each.spam for each in await _waiting(mail)] == [True]
    await flags.store(mail, alice.id, inbox, [uid], FlagChange.REMOVE, Flags.of(["$Junk"]))
    assert [each.spam for each in await _waiting(mail)] == [True, None]
    await teacher(mail, Models(mail.database)).once()
    assert await learned(mail, alice) == (0, 0, 0, 0)


async def test_email_set_of_jmap_teaches(mail: Mail, alice: Account) -> None:
    place = await boxes(mail, alice)
    email, _ = await deliver(mail, alice, RAW % 1)
    junk, inbox = place[Role.JUNK].id, place[Role.INBOX].id

    async def edit(wanted: Edit) -> None:
        result = await email_edits.edit(mail, alice.id, {email: wanted}, lambda box: ALL_RIGHTS)
        assert not result.failed

    await edit(Edit(mailboxes=frozenset([junk])))
    assert [each.spam for each in await _waiting(mail)] == [True]
    await edit(Edit(into=frozenset([inbox]), out_of=frozenset([junk])))
    await edit(Edit(add=Flags.of_keywords(["$notjunk"])))
    await edit(Edit(add=Flags.of_keywords(["$seen"])))
    assert [each.spam for each in await _waiting(mail)] == [True, False, False]
    await teacher(mail, Models(mail.database)).once()
    assert await learned(mail, alice) == (0, 1, 0, 1)


async def test_a_lesson_is_learned_by_one_of_two_nodes_and_both_know_it(
    mail: Mail, alice: Account
) -> None:
    place = await boxes(mail, alice)
    inbox, junk = place[Role.INBOX].id, place[Role.JUNK].id
    for number in range(5):
        _, uid = await deliver(mail, alice, RAW % number)
        await messages.move(mail, alice.id, inbox, [uid], junk)
    one, two = Models(mail.database), Models(mail.database)
    await asyncio.gather(teacher(mail, one).once(), teacher(mail, two, "node-2").once())
    await one.refresh()
    await two.refresh()
    assert one.server.spam_lessons == 5
    assert one.server.pack() == two.server.pack()
    assert one.version == two.version
    assert await learned(mail, alice) == (5, 0, 5, 0)


async def test_counts_of_accounts_keep_to_their_room(
    mail: Mail, alice: Account, bob: Account
) -> None:
    for number, account in enumerate((alice, bob)):
        place = await boxes(mail, account)
        _, uid = await deliver(mail, account, RAW % number)
        await messages.move(mail, account.id, place[Role.INBOX].id, [uid], place[Role.JUNK].id)
    models = Models(mail.database, room=1)  # the last one is kept whatever it takes
    await teacher(mail, models).once()
    for account in (alice, bob, bob):
        asked = [models.of_account(account.id) for _ in range(3)]
        assert [each.lessons for each in await asyncio.gather(*asked) if each] == [1, 1, 1]
        (kept,) = models._accounts.values()
        assert kept.counts is not None
        assert models._used == kept.counts.size


async def test_what_was_learned_in_changes_is_the_same_as_a_base(
    mail: Mail, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailserver.antispam.content.learning.DELTAS", 3)
    place = await boxes(mail, alice)
    inbox, junk = place[Role.INBOX].id, place[Role.JUNK].id
    models, slow = Models(mail.database), Models(mail.database)
    for number in range(7):
        _, uid = await deliver(mail, alice, RAW % number)
        await messages.move(mail, alice.id, inbox, [uid], junk)
        await teacher(mail, models).once()
        await models.refresh()
        if number == 1:
            await slow.refresh()
    await slow.refresh()
    fresh = Models(mail.database)
    await fresh.refresh()
    assert models.server.spam_lessons == 7
    assert models.server.pack() == slow.server.pack() == fresh.server.pack()
    assert not await tidy(mail.database, SERVER)


async def test_what_is_new_counts_once_though_two_look_at_the_same_time(
    mail: Mail, alice: Account
) -> None:
    place = await boxes(mail, alice)
    models, fresh = Models(mail.database), Models(mail.database)
    for number in range(2):
        _, uid = await deliver(mail, alice, RAW % number)
        await messages.move(mail, alice.id, place[Role.INBOX].id, [uid], place[Role.JUNK].id)
        await teacher(mail, Models(mail.database)).once()
        await asyncio.gather(models.refresh(), models.refresh())
    await fresh.refresh()
    assert models.server.spam_lessons == 2
    assert models.server.pack() == fresh.server.pack()


async def test_to_forget_is_noticed_by_every_process(mail: Mail, alice: Account) -> None:
    place = await boxes(mail, alice)
    _, uid = await deliver(mail, alice, RAW % 1)
    await messages.move(mail, alice.id, place[Role.INBOX].id, [uid], place[Role.JUNK].id)
    models = Models(mail.database)
    await teacher(mail, models).once()
    await models.refresh()
    assert models.server.lessons == 1
    async with mail.database.transaction() as tx:
        await spam_models.forget(tx, SERVER)
    await models.refresh()
    assert models.server.lessons == 0


async def test_whoever_is_taken_out_of_junk_is_known(mail: Mail, alice: Account) -> None:
    place = await boxes(mail, alice)
    inbox, junk = place[Role.INBOX].id, place[Role.JUNK].id
    _, uid = await deliver(mail, alice, RAW % 1)
    moved = await messages.move(mail, alice.id, inbox, [uid], junk)
    back = await messages.move(mail, alice.id, junk, moved.targets, inbox)
    await teacher(mail, Models(mail.database)).once()
    assert await correspondents.knows(mail.database, alice.id, "seller@example.org")
    await messages.move(mail, alice.id, inbox, back.targets, junk)
    await teacher(mail, Models(mail.database)).once()
    assert not await correspondents.knows(mail.database, alice.id, "seller@example.org")


async def test_the_same_lesson_again_changes_nothing(mail: Mail, alice: Account) -> None:
    inbox = (await boxes(mail, alice))[Role.INBOX].id
    email, _ = await deliver(mail, alice, RAW % 1)
    for _ in range(3):
        await lesson_table.note(mail.database, alice.id, [email], True, mail.now())
        await teacher(mail, Models(mail.database)).once()
    assert inbox is not None
    assert await learned(mail, alice) == (1, 0, 1, 0)


async def test_to_whom_somebody_writes_is_known(mail: Mail, alice: Account) -> None:
    recipients = (sending.Recipient("Bob@Example.ORG", "example.org", ()),)
    envelope = sending.Envelope(alice.id, "alice@example.test", recipients, "s1")
    original = Original(b"From: alice@example.test\r\nTo: bob@example.org\r\n\r\nhi\r\n")
    await sending.send(mail, original, envelope, b"", message_id="<1@example.test>")
    assert await correspondents.knows(mail.database, alice.id, "bob@example.org")


async def test_move_of_imap_teaches(mail: Mail, alice: Account) -> None:
    """MOVE of an opened mailbox is one statement, which notes the lesson itself."""
    place = await boxes(mail, alice)
    _, uid = await deliver(mail, alice, RAW % 1)

    async def move(source: Role, uid: int, target: Role) -> int:
        listing = await listings.open_listing(mail, alice.id, place[source].id)
        box = place[target]
        where = Place(alice.id, box, box.path, ALL_RIGHTS, True, box.role)
        moved = await optimistic.move(mail, listing, [uid], where, heard=listing.modseq)
        return moved.targets[0]

    uid = await move(Role.INBOX, uid, Role.ARCHIVE) if Role.ARCHIVE in place else uid
    source = Role.ARCHIVE if Role.ARCHIVE in place else Role.INBOX
    assert await _waiting(mail) == []
    uid = await move(source, uid, Role.JUNK)
    assert [each.spam for each in await _waiting(mail)] == [True]
    uid = await move(Role.JUNK, uid, Role.INBOX)
    assert [each.spam for each in await _waiting(mail)] == [True, False]
    uid = await move(Role.INBOX, uid, Role.TRASH)
    await move(Role.TRASH, uid, Role.INBOX)
    assert [each.spam for each in await _waiting(mail)] == [True, False]


async def test_copy_of_imap_teaches(mail: Mail, alice: Account) -> None:
    place = await boxes(mail, alice)
    _, uid = await deliver(mail, alice, RAW % 1)

    async def copy(source: Role, uid: int, target: Role) -> int:
        listing = await listings.open_listing(mail, alice.id, place[source].id)
        box, before = place[target], listing.modseq
        where = Place(alice.id, box, box.path, ALL_RIGHTS, True, box.role)
        copied = await optimistic.copy(mail, listing, [uid], where, heard=listing.modseq)
        assert listing.modseq == before + 1  # in one statement
        return copied.targets[0]

    await copy(Role.INBOX, uid, Role.DRAFTS)
    assert await _waiting(mail) == []
    uid = await copy(Role.INBOX, uid, Role.JUNK)
    assert [each.spam for each in await _waiting(mail)] == [True]
    await copy(Role.JUNK, uid, Role.SENT)
    assert [each.spam for each in await _waiting(mail)] == [True, False]
    await copy(Role.JUNK, uid, Role.TRASH)
    assert [each.spam for each in await _waiting(mail)] == [True, False]


async def test_store_of_imap_teaches(mail: Mail, alice: Account) -> None:
    inbox = (await boxes(mail, alice))[Role.INBOX].id
    _, uid = await deliver(mail, alice, RAW % 1)
    for names in (["$Junk"], ["\\Seen"], ["$NotJunk"]):
        listing = await listings.open_listing(mail, alice.id, inbox)
        await optimistic.store(
            mail, listing, [uid], FlagChange.ADD, Flags.of(names), heard=listing.modseq
        )
    assert [each.spam for each in await _waiting(mail)] == [True, None]
