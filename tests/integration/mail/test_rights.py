"""Access control lists as they are stored: bounded, gone with what they are about, recounted."""

import pytest

from mailserver.errors import Invalid, NotFound, TooMany
from mailserver.mail import access, accounts, fsck, mailboxes, rights
from mailserver.mail.context import Mail
from mailserver.mail.rights import Identifier
from mailserver.model import (
    ALL_RIGHTS,
    NO_RIGHTS,
    Account,
    MailboxId,
    Principal,
    Right,
    RightsChange,
    rights_of,
)
from mailserver.storage import acl

REPLACE = RightsChange.REPLACE


async def inbox_of(mail: Mail, account: Account) -> MailboxId:
    return (await mailboxes.by_path(mail, account.id, "INBOX")).id


async def test_a_list_has_a_limit(
    mail: Mail, alice: Account, bob: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await inbox_of(mail, alice)
    monkeypatch.setattr(rights, "MAX_ENTRIES", 2)
    for identifier in (Identifier(bob.id, False), Identifier(None, True)):
        await rights.modify(mail, alice.id, inbox, identifier, REPLACE, Right.LOOKUP)
    with pytest.raises(TooMany):
        await rights.modify(mail, alice.id, inbox, Identifier(None, False), REPLACE, Right.READ)
    # one that is there may change, and make room
    await rights.modify(mail, alice.id, inbox, Identifier(bob.id, False), REPLACE, Right.READ)
    await rights.remove(mail, alice.id, inbox, Identifier(None, True))
    await rights.modify(mail, alice.id, inbox, Identifier(None, False), REPLACE, Right.READ)


async def test_what_changes_nothing_is_no_change(mail: Mail, alice: Account, bob: Account) -> None:
    inbox = await inbox_of(mail, alice)
    before = (await accounts.get(mail, alice.id)).modseq
    await rights.modify(mail, alice.id, inbox, Identifier(alice.id, False), REPLACE, ALL_RIGHTS)
    await rights.remove(mail, alice.id, inbox, Identifier(bob.id, False))
    assert (await accounts.get(mail, alice.id)).modseq == before


async def test_entries_go_with_the_mailbox_and_with_the_account(
    mail: Mail, alice: Account, bob: Account
) -> None:
    inbox = await inbox_of(mail, alice)
    (made,) = await mailboxes.create(mail, alice.id, "Team")
    for mailbox in (inbox, made.id):
        await rights.modify(mail, alice.id, mailbox, Identifier(bob.id, False), REPLACE, ALL_RIGHTS)
    principal = Principal(bob.id, bob.login)
    await access.subscribe(mail, principal, f"Other Users/{alice.login}/Team", True)
    await mailboxes.delete(mail, alice.id, made.id)
    assert await mail.database.fetchval("SELECT count(*) FROM acl") == 1
    assert await mail.database.fetchval("SELECT count(*) FROM subscription") == 0
    with pytest.raises(NotFound):
        await rights.modify(mail, alice.id, made.id, Identifier(bob.id, False), REPLACE, NO_RIGHTS)
    await mail.database.execute("DELETE FROM account WHERE id = $1", bob.id)
    assert await mail.database.fetchval("SELECT count(*) FROM acl") == 0
    assert [grant.login for grant in await rights.entries(mail, alice.id, inbox)] == [alice.login]


async def test_a_mailbox_that_is_gone_when_it_is_subscribed(
    mail: Mail, alice: Account, bob: Account
) -> None:
    await acl.subscribe(mail.database, bob.id, alice.id, MailboxId(7))
    assert await mail.database.fetchval("SELECT count(*) FROM subscription") == 0
    inbox = await inbox_of(mail, alice)
    for _ in range(2):
        await acl.subscribe(mail.database, bob.id, alice.id, inbox)
    assert await mail.database.fetchval("SELECT count(*) FROM subscription") == 1


async def test_the_rights_of_owners_are_recounted(mail: Mail, alice: Account) -> None:
    inbox = await inbox_of(mail, alice)
    for identifier, letters in (
        (Identifier(alice.id, False), "rs"),
        (Identifier(None, False), "w"),
        (Identifier(None, True), "s"),
        (Identifier(alice.id, True), "p"),
    ):
        await rights.modify(mail, alice.id, inbox, identifier, REPLACE, rights_of(letters))
    found = await mailboxes.by_id(mail, alice.id, inbox)
    assert found.owner_rights == rights_of("lrwa")
    assert [each async for each in fsck.check(mail)] == []
    await mail.database.execute("UPDATE mailbox SET owner_rights = 'lra' WHERE id = $1", inbox)
    (wrong,) = [each async for each in fsck.check(mail)]
    assert wrong.rule == "the rights of owners are what the entries leave them"
    await mail.database.execute("UPDATE mailbox SET owner_rights = 'lrwa' WHERE id = $1", inbox)
    await mail.database.execute("UPDATE acl SET rights = 'rl' WHERE rights = 'w'")
    assert [each.rule async for each in fsck.check(mail)] == [
        "rights are the letters of RFC 4314 §2.1, in their order",
        "the rights of owners are what the entries leave them",
    ]
    await mail.database.execute("UPDATE acl SET rights = 'w' WHERE rights = 'rl'")


async def test_letters_that_are_none() -> None:
    assert rights.parse("lr") == rights_of("rl")
    with pytest.raises(Invalid, match="q is no right"):
        rights.parse("lq")
