"""Accounts that are disabled, deleted, brought back and removed; addresses that change."""

from datetime import timedelta

import pytest

from mailserver.address import parse_address
from mailserver.errors import AlreadyExists, InUse, NotFound
from mailserver.mail import (
    access,
    accounts,
    closing,
    delivery,
    mailboxes,
    recipients,
    rights,
    sharing,
)
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.mail.rights import Identifier
from mailserver.model import Account, IdKind, Principal, Right, RightsChange, id_text
from mailserver.queue.enqueue import Outgoing, OutgoingRecipient
from mailserver.storage import spam_lists
from mailserver.storage.spam_lists import Entry
from tests.conftest import PASSWORD

NOW = timedelta(0)
WEEK = timedelta(days=7)


async def fill(mail: Mail, account: Account, count: int) -> None:
    """Deliver messages, some of which are replies to others."""
    for number in range(count):
        raw = b"Message-ID: <%d@x>\r\nSubject: %d\r\n\r\nwords of %d\r\n" % (
            number,
            number % 7,
            number,
        )
        await delivery.accept(mail, raw, [Target(account.id)], received_at=mail.now())


async def left(mail: Mail, account: Account) -> dict[str, int]:
    """Return in which tables there are rows of an account, and how many."""
    rows = await mail.database.fetch(
        """
        SELECT c.relname FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'account_id'
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
              AND c.relnamespace = 'public'::regnamespace
        """
    )
    found = {}
    for (table,) in rows:
        count = await mail.database.fetchval(
            f"SELECT count(*) FROM {table} WHERE account_id = $1", account.id
        )
        if count:
            found[table] = count
    return found


async def resolved(mail: Mail, address: str) -> recipients.Resolution:
    mail.directory.forget()
    return await recipients.resolve(mail, parse_address(address))


async def test_mail_for_a_disabled_account_is_taken_or_refused(mail: Mail, alice: Account) -> None:
    assert (
        await closing.disable(mail, "Alice@Example.test", refuse_mail=False)
    ).state == "disabled"
    found = await resolved(mail, alice.login)
    assert found.is_known
    assert not found.refuses
    assert not await recipients.may_send_as(mail, alice.id, parse_address(alice.login))
    refusing = await closing.disable(mail, alice.login, refuse_mail=True)
    assert not refusing.takes_mail
    found = await resolved(mail, alice.login)
    assert (found.local, found.is_known, found.refuses) == (True, False, True)
    await closing.enable(mail, alice.login)
    assert (await resolved(mail, alice.login)).is_known
    assert await recipients.may_send_as(mail, alice.id, parse_address(alice.login))


async def test_an_alias_of_several_leads_to_those_that_take_mail(
    mail: Mail, alice: Account, bob: Account
) -> None:
    for login in (alice.login, bob.login):
        await accounts.add_alias(mail, "all@example.test", login)
    await closing.disable(mail, alice.login, refuse_mail=True)
    assert [each.id for each in (await resolved(mail, "all@example.test")).accounts] == [bob.id]
    await closing.delete(mail, bob.login, WEEK)
    found = await resolved(mail, "all@example.test")
    assert (found.accounts, found.refuses) == ((), True)
    await closing.delete(mail, alice.login, WEEK)
    found = await resolved(mail, "all@example.test")
    assert (found.accounts, found.refuses) == ((), False)


async def test_mail_of_a_deleted_account_goes_to_whoever_gets_all_that_is_left(
    mail: Mail, alice: Account, bob: Account
) -> None:
    await accounts.add_alias(mail, "@example.test", bob.login)
    assert [each.id for each in (await resolved(mail, alice.login)).accounts] == [alice.id]
    await closing.delete(mail, alice.login, WEEK)
    assert [each.id for each in (await resolved(mail, alice.login)).accounts] == [bob.id]


async def test_a_deleted_account_comes_back_with_all_it_had(mail: Mail, alice: Account) -> None:
    await fill(mail, alice, 3)
    before = await left(mail, alice)
    deleted = await closing.delete(mail, alice.login, WEEK)
    assert deleted.state == "deleted"
    for change in (
        closing.enable(mail, alice.login),
        accounts.create(mail, alice.login, password=None),
    ):
        with pytest.raises((InUse, AlreadyExists)):
            await change
    with pytest.raises(InUse, match="restore"):
        await closing.disable(mail, alice.login, refuse_mail=False)
    again = await closing.delete(mail, alice.login, 2 * WEEK)
    assert again.remove_at is not None
    assert deleted.remove_at is not None
    assert again.remove_at > deleted.remove_at
    assert await closing.once(mail, "test") == 0
    restored = await closing.restore(mail, alice.login)
    assert (restored.state, restored.takes_mail) == ("disabled", True)
    assert await left(mail, alice) == before
    with pytest.raises(AlreadyExists, match="not deleted"):
        await closing.restore(mail, alice.login)
    await closing.enable(mail, alice.login)
    await fill(mail, alice, 1)


async def test_what_is_shared_is_hidden_once_its_owner_is_deleted(
    mail: Mail, alice: Account, bob: Account
) -> None:
    (inbox,) = [each for each in await mailboxes.list_all(mail, alice.id) if each.path == "INBOX"]
    await rights.modify(
        mail, alice.id, inbox.id, Identifier(bob.id, False), RightsChange.REPLACE, Right.LOOKUP
    )
    principal = Principal(bob.id, bob.login)
    assert len(await sharing.shares(mail, principal)) == 1
    assert Right.LOOKUP in await access.rights(mail, principal, alice.id, inbox.id)
    await closing.delete(mail, alice.login, WEEK)
    assert await sharing.shares(mail, principal) == []
    assert Right.LOOKUP not in await access.rights(mail, principal, alice.id, inbox.id)
    await closing.restore(mail, alice.login)
    assert len(await sharing.shares(mail, principal)) == 1
    await closing.delete(mail, bob.login, NOW)
    assert await closing.remove(mail, bob.id)
    assert len(await rights.entries(mail, alice.id, inbox.id)) == 1  # the owner


async def test_removal_leaves_bodies_to_the_collector_and_the_queue_alone(
    mail: Mail, alice: Account, bob: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "BATCH", 7)
    await fill(mail, alice, 30)
    await fill(mail, bob, 2)
    await mail.indexer.catch_up(alice.id, 1000)
    there = await left(mail, bob)
    leaving = Outgoing(
        alice.id, alice.login, (OutgoingRecipient("x@elsewhere.test", "elsewhere.test"),), "s"
    )
    queued = await delivery.accept(
        mail, b"Subject: out\r\n\r\n", [], received_at=mail.now(), outgoing=leaving
    )
    line = Entry(id_text(IdKind.ACCOUNT, alice.id), "x@elsewhere.test", "deny")
    await spam_lists.put(mail.database, line, mail.now())
    await closing.delete(mail, alice.login, NOW)
    rounds: list[int] = []
    assert await closing.remove(mail, alice.id, rounds.append)
    assert len([each for each in rounds if each == 7]) > 4
    # the bodies, which nothing refers to, and what waits in the queue
    assert await left(mail, alice) == {"blob": 31, "blob_hot": 31, "queue_message": 1}
    refs = await mail.database.fetch(
        "SELECT refs, count(*) FROM blob WHERE account_id = $1 GROUP BY refs ORDER BY refs",
        alice.id,
    )
    assert [tuple(row) for row in refs] == [(0, 30), (1, 1)]
    assert await left(mail, bob) == there
    with pytest.raises(NotFound, match="there is no account alice"):
        await closing.delete(mail, alice.login, NOW)
    assert queued.queue_id is not None
    assert await mail.database.fetchval(
        "SELECT count(*) FROM queue_recipient WHERE message_id = $1", queued.queue_id
    )
    assert await spam_lists.of_scope(mail.database, line.scope) == []
    # the login is free for somebody else, who finds nothing
    again = await accounts.create(mail, alice.login, password=PASSWORD)
    assert again.quota_used == 0


async def test_removal_that_is_interrupted_goes_on(
    mail: Mail, alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "BATCH", 4)
    await fill(mail, alice, 20)
    await closing.delete(mail, alice.login, NOW)

    class Interrupted(Exception):
        pass

    def stop(rows: int) -> None:
        raise Interrupted

    for _ in range(3):
        with pytest.raises(Interrupted):
            await closing.remove(mail, alice.id, stop)
    assert (await left(mail, alice))["email"] == 8
    with pytest.raises(InUse, match="cannot come back"):
        await closing.restore(mail, alice.login)
    assert await closing.once(mail, "test") == 1
    assert "email" not in await left(mail, alice)
    assert not await closing.remove(mail, alice.id)


async def test_a_login_that_changes_keeps_the_mail(
    mail: Mail, alice: Account, bob: Account
) -> None:
    await fill(mail, alice, 2)
    renamed = await accounts.rename(mail, alice.login, "Alice.Smith@example.test")
    assert (renamed.id, renamed.login) == (alice.id, "alice.smith@example.test")
    for address in ("alice@example.test", "alice.smith@example.test"):
        assert [each.id for each in (await resolved(mail, address)).accounts] == [alice.id]
    with pytest.raises(InUse, match="rename"):
        await accounts.remove_alias(mail, renamed.login, renamed.login)
    await accounts.remove_alias(mail, alice.login, renamed.login)
    assert not (await resolved(mail, alice.login)).is_known
    with pytest.raises(AlreadyExists):
        await accounts.rename(mail, renamed.login, bob.login)
    with pytest.raises(NotFound, match="no domain"):
        await accounts.rename(mail, renamed.login, "alice@elsewhere.test")
    # back again, and the other one goes at once
    await accounts.rename(mail, renamed.login, alice.login, keep=False)
    assert not (await resolved(mail, renamed.login)).is_known


async def test_a_domain_goes_when_nothing_is_in_it(mail: Mail, alice: Account) -> None:
    await accounts.add_domain(mail, "Other.test")
    await accounts.add_alias(mail, "a@other.test", alice.login)
    with pytest.raises(InUse, match="a@other"):
        await accounts.remove_domain(mail, "other.test")
    await accounts.remove_alias(mail, "a@other.test", alice.login)
    await accounts.remove_domain(mail, "OTHER.test")
    assert await accounts.list_domains(mail) == ["example.test"]
    with pytest.raises(NotFound, match="there is no domain"):
        await accounts.remove_domain(mail, "other.test")
    with pytest.raises(NotFound):
        await accounts.add_alias(mail, "a@other.test", alice.login)
