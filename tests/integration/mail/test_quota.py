"""What counts against a quota is what an account has in the end, whatever is copied and moved."""

import pytest

from mailserver.errors import OverQuota
from mailserver.mail import delivery, mailboxes, messages
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Incoming, Replaced, Target
from mailserver.model import Account, Flags, MailboxId
from mailserver.storage import accounts

RAW = b"Subject: s\r\n\r\nfirst\r\n"


async def copied_and_full(mail: Mail, account: Account) -> tuple[MailboxId, MailboxId]:
    """Return two mailboxes that have the same email, of an account without room for another."""
    inbox = (await mailboxes.by_path(mail, account.id, "INBOX")).id
    (made,) = await mailboxes.create(mail, account.id, "Box")
    await delivery.accept(mail, RAW, [Target(account.id)], received_at=mail.now())
    await messages.copy(mail, account.id, inbox, [1], made.id)
    await accounts.set_quota(mail.database, account.id, len(RAW))
    return inbox, made.id


async def used(mail: Mail, account: Account) -> int:
    found: int = await mail.database.fetchval(
        "SELECT quota_used FROM account WHERE id = $1", account.id
    )
    return found


async def test_a_move_to_where_the_email_is_already_doubles_it(mail: Mail, alice: Account) -> None:
    inbox, box = await copied_and_full(mail, alice)
    with pytest.raises(OverQuota):
        await messages.move(mail, alice.id, inbox, [1], box)
    assert (await mailboxes.by_id(mail, alice.id, inbox)).total == 1
    assert (await mailboxes.by_id(mail, alice.id, box)).total == 1
    assert await used(mail, alice) == len(RAW)
    await accounts.set_quota(mail.database, alice.id, 2 * len(RAW))
    await messages.move(mail, alice.id, inbox, [1], box)
    assert await used(mail, alice) == 2 * len(RAW)
    # nothing is doubled by this one, however full the account is
    await accounts.set_quota(mail.database, alice.id, 1)
    await messages.move(mail, alice.id, box, [1, 2], inbox)
    assert await used(mail, alice) == 2 * len(RAW)


async def test_what_is_replaced_frees_nothing_while_it_is_elsewhere(
    mail: Mail, alice: Account
) -> None:
    inbox, box = await copied_and_full(mail, alice)
    new = Incoming(RAW.replace(b"first", b"other"), Flags(), mail.now())
    replaced = Replaced(alice.id, inbox, 1)
    with pytest.raises(OverQuota):
        await delivery.accept_together(mail, alice.id, inbox, [new], replaced=replaced)
    assert await used(mail, alice) == len(RAW)
    assert (await mailboxes.by_id(mail, alice.id, inbox)).uidnext == 2
    await mailboxes.delete(mail, alice.id, box)
    (stored,) = await delivery.accept_together(mail, alice.id, inbox, [new], replaced=replaced)
    assert stored.uid == 2
    assert await used(mail, alice) == len(RAW)
