"""The change log is trimmed by age, and whoever asks for what is gone hears so."""

import asyncio
from datetime import timedelta

import pytest

from mailserver.errors import CannotCalculateChanges
from mailserver.mail import (
    accounts,
    changes,
    delivery,
    listings,
    mailboxes,
    maintenance,
    uploads,
)
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import Account
from mailserver.storage import changes as change_table
from mailserver.storage.delivery import lock_accounts
from tests.conftest import Bucketed, make_mail


async def test_old_changes_go_and_listings_load_anew(
    mail: Mail, bucket: Bucketed, alice: Account
) -> None:
    elsewhere = make_mail(mail.database, bucket.blobs, mail.config, node=2)
    box = await mailboxes.by_path(mail, alice.id, "INBOX")
    listing = await listings.open_listing(mail, alice.id, box.id)
    before = listing.modseq
    for number in range(3):
        raw = b"Subject: %d\r\n\r\n" % number
        await delivery.accept(elsewhere, raw, [Target(alice.id)], received_at=mail.now())
    await elsewhere.committer.drain()
    elsewhere.passwords.close()
    assert await maintenance.once(mail, "test") == 0

    now, later = mail.now, timedelta(seconds=mail.config.store.change_log + 1)
    mail.now = lambda: now() + later
    assert await maintenance.once(mail, "test") >= 3
    with pytest.raises(CannotCalculateChanges):
        await changes.since(mail, alice.id, before, limit=None)
    await listings.refresh(mail, listing)
    assert list(listing.uids) == [1, 2, 3]
    assert listing.removed_since(before) is None
    assert await changes.since(mail, alice.id, listing.modseq, limit=None) == []


async def test_trimming_locks_accounts_in_the_order_of_all_writers(mail: Mail) -> None:
    made = [
        await accounts.create(mail, f"{number}@example.test", password=None) for number in range(8)
    ]
    for account in reversed(made):  # so that they are stored in another order
        await mailboxes.create(mail, account.id, "New")
    async with mail.database.transaction() as tx:
        await lock_accounts(tx, [made[0].id])
        later = mail.now() + timedelta(seconds=1)
        trimming = asyncio.create_task(change_table.trim(mail.database, later))
        waits = """
            SELECT count(*) FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND datname = current_database()
        """
        while not await mail.database.fetchval(waits):
            pass
        # it has none of the others yet, which would wait for it in a circle
        await tx.execute("SELECT FROM account FOR NO KEY UPDATE NOWAIT")
    assert await trimming >= 8
    for account in made:
        mark = await change_table.low_water_mark(mail.database, account.id)
        assert mark > account.modseq


async def test_a_state_from_the_future_is_no_state(mail: Mail, alice: Account) -> None:
    with pytest.raises(CannotCalculateChanges):
        await changes.since(mail, alice.id, alice.modseq + 5, limit=None)


async def test_uploads_go_after_a_day(mail: Mail, alice: Account, bob: Account) -> None:
    blob = await uploads.store(mail, alice.id, b"only uploaded")
    used = await uploads.store(mail, bob.id, b"Subject: used\r\n\r\n")
    await delivery.accept(mail, b"Subject: used\r\n\r\n", [Target(bob.id)], received_at=mail.now())
    await maintenance.once(mail, "test")
    wanted = "SELECT refs FROM blob WHERE id = $1"
    assert await mail.database.fetchval(wanted, blob) == 1
    assert await mail.database.fetchval(wanted, used) == 2

    now = mail.now
    mail.now = lambda: now() + uploads.KEPT + timedelta(seconds=1)
    await maintenance.once(mail, "test")
    assert await mail.database.fetchval(wanted, blob) == 0
    assert await mail.database.fetchval(wanted, used) == 1
    assert await mail.database.fetchval("SELECT count(*) FROM upload") == 0
