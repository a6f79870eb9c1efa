"""Who is told which types changed misses nothing when the store fails in between."""

import pytest

from mailserver.errors import Unavailable
from mailserver.mail import mailboxes, rights
from mailserver.mail.context import Mail
from mailserver.mail.sharing import Shares
from mailserver.mail.watching import Watch, place_now
from mailserver.model import Account, AccountId, Modseq, Principal, RightsChange
from mailserver.storage import accounts, changes
from mailserver.storage.changes import Summary
from mailserver.storage.database import Executor


async def test_what_was_found_before_the_store_failed_is_told_later(
    mail: Mail, alice: Account, bob: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await mailboxes.by_path(mail, bob.id, "INBOX")
    give = rights.Identifier(alice.id, False)
    lookup = rights.parse("l")
    await rights.modify(mail, bob.id, inbox.id, give, RightsChange.REPLACE, lookup)
    principal = Principal(alice.id, alice.login)
    watch = Watch(mail, Shares(mail), principal, frozenset({"Mailbox", "Quota"}))
    await watch.start(await place_now(mail, principal))
    assert await watch.changes() == {}
    await mailboxes.create(mail, alice.id, "Mine")
    await mailboxes.create(mail, bob.id, "Theirs")
    states = {
        account: str(await accounts.modseq(mail.database, account))
        for account in (alice.id, bob.id)
    }
    summary = changes.summary

    async def failing(
        database: Executor, account: AccountId, modseq: Modseq, limit: int
    ) -> Summary:
        if account == bob.id:
            raise Unavailable("database")
        return await summary(database, account, modseq, limit)

    with monkeypatch.context() as patched:
        patched.setattr(changes, "summary", failing)
        with pytest.raises(Unavailable):
            await watch.changes()
    found = await watch.changes()
    assert found[alice.id] == {"Mailbox": states[alice.id]}
    assert found[bob.id]["Mailbox"].partition(".")[0] == states[bob.id]
    assert await watch.changes() == {}
    watch.close()
