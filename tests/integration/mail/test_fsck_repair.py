"""What `fsck --repair` sets right, each thing broken by hand first."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from mailserver.mail import (
    accounts,
    changes,
    content,
    delivery,
    fsck,
    fsck_repair,
    mailboxes,
)
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Accepted, Target
from mailserver.model import Account, ChangeKind, IdKind, MailboxId, id_text
from mailserver.storage import fsck as checks
from mailserver.storage.compression import compressor
from mailserver.storage.fsck_repair import REPAIRS
from mailserver.storage.mover import Mover

RAW = b"Subject: to be mended\r\n\r\n" + b"x" * 500 + b"\r\n"


@pytest_asyncio.fixture
async def accepted(mail: Mail, alice: Account) -> Accepted:
    done = await delivery.accept(mail, RAW, [Target(alice.id)], received_at=mail.now())
    await mail.indexer.catch_up(alice.id, 100)
    return done


@pytest_asyncio.fixture
async def mover(mail: Mail) -> AsyncIterator[Mover]:
    async def barrier() -> None:
        pass

    settings = mail.config.mover.model_copy(update={"copy_after": 0})
    yield Mover(
        mail.database, mail.blobs, mail.ids, settings, mail.metrics, mail.now, "test", barrier
    )


async def found(mail: Mail) -> set[str]:
    return {each.rule async for each in fsck.check(mail, contents=True)}


async def mended(mail: Mail) -> set[str]:
    return {each.rule async for each in fsck_repair.repair(mail)}


def test_every_repair_is_of_a_check() -> None:
    rules = [repair.rule for repair in REPAIRS]
    assert set(rules) <= {check.rule for check in checks.CHECKS}
    assert len(rules) == len(set(rules))


DAMAGES = {
    "mailbox counters equal a count of its messages": "UPDATE mailbox SET total = 7, unseen = 9",
    "UIDs are below UIDNEXT, modseqs not above the mailbox's and the account's": (
        "UPDATE mailbox SET uidnext = 1, modseq = 0"
    ),
    "blob references equal a count of emails, uploads, queue entries and reports": (
        "UPDATE blob SET refs = 0, unreferenced_at = now()"
    ),
    "a blob is hot exactly when PostgreSQL has its body, else it has an object": (
        "UPDATE blob SET hot = false"
    ),
    "the bytes an account uses are those of its emails": "UPDATE account SET quota_used = 1",
    "deliveries look for a vacation response where one is enabled": (
        "UPDATE account SET responds = true"
    ),
    "every email is in the index of words, or still to do": "DELETE FROM search_word",
    "every email in the index of words has its texts once, unless it cannot be read": (
        "DELETE FROM search_frame"
    ),
}


@pytest.mark.parametrize("rule", DAMAGES)
async def test_what_is_derived_is_recounted(mail: Mail, accepted: Accepted, rule: str) -> None:
    await mail.database.execute(DAMAGES[rule])
    assert rule in await found(mail)
    assert rule in await mended(mail)
    assert await found(mail) == set()


async def test_clients_hear_of_counters_that_changed(
    mail: Mail, alice: Account, accepted: Accepted
) -> None:
    await mail.database.execute("UPDATE mailbox SET total = 7 WHERE role = 'inbox'")
    inbox = accepted.delivered[0].mailbox_id
    modseq = accepted.delivered[0].modseq
    assert await mended(mail)
    entries = await changes.since(mail, alice.id, modseq, limit=None)
    assert inbox in {entry.mailbox_id for entry in entries}
    assert (await mailboxes.by_path(mail, alice.id, "INBOX")).total == 1


async def test_clients_hear_of_what_changed_when_the_modseq_had_gone_back(
    mail: Mail, alice: Account, accepted: Accepted
) -> None:
    async with mail.change(alice.id) as change:  # the newest change is of no mailbox
        change.report(ChangeKind.IDENTITY_UPDATED, MailboxId(0), email_ids=(1,))
    known = (await accounts.get(mail, alice.id)).modseq
    await mail.database.execute("UPDATE account SET modseq = 1")
    await mail.database.execute("UPDATE mailbox SET total = 7 WHERE role = 'inbox'")
    assert await mended(mail)
    entries = await changes.since(mail, alice.id, known, limit=None)
    assert accepted.delivered[0].mailbox_id in {entry.mailbox_id for entry in entries}
    assert (await accounts.get(mail, alice.id)).modseq == entries[-1].modseq
    assert await found(mail) == set()


async def test_an_object_that_s3_lost_is_copied_again(
    mail: Mail, alice: Account, accepted: Accepted, mover: Mover
) -> None:
    assert await mover.copy() == 1
    ((name, _),) = [each async for page in mail.blobs.names() for each in page]
    await mail.blobs.delete(name)
    assert await mended(mail) == {fsck.OBJECT_MISSING}
    assert await mover.copy() == 1
    assert await found(mail) == set()


async def test_an_object_of_mail_after_the_backup_is_kept_for_the_grace_time(
    mail: Mail, alice: Account, accepted: Accepted, mover: Mover
) -> None:
    """As after a restore of PostgreSQL to a moment before the message."""
    assert await mover.copy() == 1
    blob = accepted.blob_id
    for table in ("change", "msg", "email", "search_word", "search_frame", "search_progress"):
        await mail.database.execute(f"DELETE FROM {table}")
    for table in ("blob_hot", "blob"):
        await mail.database.execute(f"DELETE FROM {table}")
    assert fsck.OBJECT_UNKNOWN in await found(mail)
    assert fsck.OBJECT_UNKNOWN in await mended(mail)
    assert await found(mail) == set()
    assert (await content.contents(mail, alice.id, [blob]))[blob] == RAW
    assert await mover.collect() == 0  # not before the grace time is over


async def test_objects_that_are_no_bodies_are_removed_and_foreign_ones_left(
    mail: Mail, alice: Account
) -> None:
    account = id_text(IdKind.ACCOUNT, alice.id)
    unique = id_text(IdKind.BLOB, mail.ids.next())
    torn = f"{account}/{'ab' * 32}-{unique}"
    await mail.blobs.put(torn, compressor()(RAW)[:-3])
    await mail.blobs.put("notes/of-somebody-else.txt", b"keep me")
    assert await mended(mail) == {fsck.OBJECT_UNKNOWN}
    left = [name async for page in mail.blobs.names() for name, _ in page]
    assert left == ["notes/of-somebody-else.txt"]
    await mail.blobs.delete(left[0])


async def test_a_young_object_is_left_alone(mail: Mail, alice: Account) -> None:
    """A running mover writes the object a moment before its row."""
    account = id_text(IdKind.ACCOUNT, alice.id)
    name = f"{account}/{'ab' * 32}-{id_text(IdKind.BLOB, mail.ids.next())}"
    await mail.blobs.put(name, b"half")
    settled = timedelta(minutes=2)
    assert [each async for each in fsck_repair.repair(mail, settled=settled)] == []
    assert await mail.blobs.size(name) == 4
    await mail.blobs.delete(name)
