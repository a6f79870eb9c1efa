"""Emails changed by id: many at once, in one change, beside what IMAP does."""

from datetime import UTC, datetime

import pytest

from mailserver.errors import Forbidden, NotFound
from mailserver.mail import changes, delivery, email_edits, mailboxes, messages, uploads
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Delivered, Target
from mailserver.mail.email_edits import Edit, NoMailbox, Overtaken, TooManyKeywords
from mailserver.model import (
    ALL_RIGHTS,
    Account,
    ChangeKind,
    EmailId,
    FlagChange,
    Flags,
    Mailbox,
    MailboxId,
    Membership,
    Right,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def deliver(mail: Mail, account: Account, *places: MailboxId, number: int = 0) -> Delivered:
    raw = f"Subject: {number}\r\nMessage-ID: <{number}@x>\r\n\r\nbody\r\n".encode()
    first, *others = places
    target = Target(account.id, first, Flags(), tuple(others))
    accepted = await delivery.accept(mail, raw, [target], received_at=NOW)
    return accepted.delivered[0]


async def places(mail: Mail, account: Account) -> dict[str, MailboxId]:
    return {each.path: each.id for each in await mailboxes.list_all(mail, account.id)}


async def rows_of(mail: Mail, account: Account, email: EmailId) -> list[Membership]:
    found = await messages.memberships(mail, account.id, [email])
    return sorted(found.get(email, []), key=lambda row: row.mailbox_id)


def everything(mailbox: Mailbox) -> Right:
    return ALL_RIGHTS


def flag(name: str) -> Edit:
    return Edit(add=Flags.of_keywords([name]))


async def test_a_keyword_on_many_emails_is_one_change(mail: Mail, alice: Account) -> None:
    inbox = (await places(mail, alice))["INBOX"]
    made = [await deliver(mail, alice, inbox, number=number) for number in range(120)]
    before = await changes.state(mail, alice.id)
    edits = {each.email_id: flag("$flagged") for each in made}
    done = await email_edits.edit(mail, alice.id, edits, everything)
    assert (done.modseq, done.failed) == (before + 1, {})
    (entry,) = await changes.since(mail, alice.id, before, limit=10)
    assert (entry.kind, len(entry.uids)) == (ChangeKind.EMAIL_UPDATED, 120)
    # what is as asked for already is no change
    again = await email_edits.edit(mail, alice.id, edits, everything)
    assert again.modseq is None
    assert await changes.state(mail, alice.id) == before + 1
    gone = await email_edits.destroy(mail, alice.id, list(edits), everything)
    assert gone.modseq == before + 2
    assert (await mailboxes.by_id(mail, alice.id, inbox)).total == 0


async def test_an_email_arrives_in_several_mailboxes_in_one_commit(
    mail: Mail, alice: Account
) -> None:
    known = await places(mail, alice)
    before = await changes.state(mail, alice.id)
    made = await deliver(mail, alice, known["Archive"], known["INBOX"], known["Sent"])
    assert made.modseq == before + 1
    rows = await rows_of(mail, alice, made.email_id)
    assert {row.mailbox_id for row in rows} == {
        known[each] for each in ("Archive", "INBOX", "Sent")
    }
    kinds = [entry.kind for entry in await changes.since(mail, alice.id, before, limit=10)]
    assert sorted(kinds) == [
        ChangeKind.EMAIL_CREATED, ChangeKind.EMAIL_ADDED, ChangeKind.EMAIL_ADDED,
    ]  # fmt: skip
    with pytest.raises(NotFound):
        await deliver(mail, alice, known["INBOX"], MailboxId(7), number=1)


async def test_moves_keep_flags_and_come_back_from_deleted(mail: Mail, alice: Account) -> None:
    known = await places(mail, alice)
    made = await deliver(mail, alice, known["INBOX"], known["Archive"])
    # IMAP marks one of the two; for JMAP it is in the other one only
    await messages.store(
        mail, alice.id, known["INBOX"], [made.uid], FlagChange.ADD, Flags.of(["\\Deleted", "Work"])
    )
    seen = Edit(add=Flags.of_keywords(["$seen"]), out_of=frozenset({known["INBOX"]}))
    await email_edits.edit(mail, alice.id, {made.email_id: seen}, everything)
    flags = {row.mailbox_id: row.flags.names() for row in await rows_of(mail, alice, made.email_id)}
    assert flags == {
        known["INBOX"]: ("\\Seen", "\\Deleted", "Work"),
        known["Archive"]: ("\\Seen", "Work"),
    }
    move = Edit(mailboxes=frozenset({known["INBOX"], known["Trash"]}))
    await email_edits.edit(mail, alice.id, {made.email_id: move}, everything)
    rows = await rows_of(mail, alice, made.email_id)
    assert {row.mailbox_id: row.flags.names() for row in rows} == {
        known["INBOX"]: ("\\Seen", "Work"),
        known["Trash"]: ("\\Seen", "Work"),
    }
    # a keyword in another case is the same one
    replaced = Edit(flags=Flags.of_keywords(["work"]))
    await email_edits.edit(mail, alice.id, {made.email_id: replaced}, everything)
    assert {row.flags.names() for row in await rows_of(mail, alice, made.email_id)} == {("Work",)}


async def test_each_email_fails_alone(mail: Mail, alice: Account) -> None:
    known = await places(mail, alice)
    made = [await deliver(mail, alice, known["INBOX"], number=number) for number in range(4)]
    ids = [each.email_id for each in made]
    many = Flags.of_keywords(f"k{number}" for number in range(201))
    done = await email_edits.edit(
        mail,
        alice.id,
        {
            ids[0]: Edit(out_of=frozenset({known["INBOX"]})),
            ids[1]: Edit(into=frozenset({MailboxId(7)})),
            ids[2]: Edit(add=many),
            ids[3]: flag("a"),
            EmailId(7): flag("a"),
        },
        everything,
    )
    assert {email: type(error) for email, error in done.failed.items()} == {
        ids[0]: NoMailbox, ids[1]: NoMailbox, ids[2]: TooManyKeywords, EmailId(7): NotFound,
    }  # fmt: skip
    (row,) = await rows_of(mail, alice, ids[3])
    assert row.flags.keywords == ("a",)


@pytest.mark.parametrize(
    ("rights", "edit"),
    [
        (Right.WRITE | Right.SEEN, Edit(into=frozenset({MailboxId(0)}))),
        (ALL_RIGHTS & ~Right.EXPUNGE, Edit(mailboxes=frozenset({MailboxId(0)}))),
        (Right.SEEN, flag("$flagged")),
        (Right.WRITE, flag("$seen")),
    ],
)
async def test_rights_are_asked_for(mail: Mail, alice: Account, rights: Right, edit: Edit) -> None:
    known = await places(mail, alice)
    made = await deliver(mail, alice, known["INBOX"])

    def allowed(mailbox: Mailbox) -> Right | None:
        return rights | Right.LOOKUP | Right.READ

    there = frozenset({known["Archive"]})
    wanted = Edit(
        add=edit.add,
        into=there if edit.into else frozenset(),
        mailboxes=there if edit.mailboxes else None,
    )
    done = await email_edits.edit(mail, alice.id, {made.email_id: wanted}, allowed)
    assert [type(error) for error in done.failed.values()] == [Forbidden]
    hidden = await email_edits.destroy(mail, alice.id, [made.email_id], lambda _: None)
    assert [type(error) for error in hidden.failed.values()] == [NotFound]


async def test_a_state_that_was_overtaken_is_told(mail: Mail, alice: Account) -> None:
    inbox = (await places(mail, alice))["INBOX"]
    made = await deliver(mail, alice, inbox)
    state = await changes.state(mail, alice.id)
    await deliver(mail, alice, inbox, number=1)
    with pytest.raises(Overtaken):
        await email_edits.edit(mail, alice.id, {made.email_id: flag("a")}, everything, at=state)
    with pytest.raises(Overtaken):
        await email_edits.destroy(mail, alice.id, [made.email_id], everything, at=state)
    done = await email_edits.destroy(mail, alice.id, [made.email_id], everything, at=state + 1)
    assert done.modseq == state + 2


async def test_an_upload_that_became_a_message_is_no_upload_any_more(
    mail: Mail, alice: Account
) -> None:
    inbox = (await places(mail, alice))["INBOX"]
    raw = b"Subject: x\r\n\r\nbody\r\n"
    blob = await uploads.store(mail, alice.id, raw)
    spent = uploads.Spent(alice.id, blob)
    target = Target(alice.id, inbox)
    await delivery.accept(mail, raw, [target], received_at=NOW, companion=spent)
    kept = await mail.database.fetchval("SELECT count(*) FROM upload")
    refs = await mail.database.fetchval("SELECT refs FROM blob WHERE id = $1", blob)
    assert (kept, refs) == (0, 1)
