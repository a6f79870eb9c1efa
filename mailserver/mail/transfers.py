"""Copies and moves to wherever: within an account, or to a mailbox of another one.

Within an account a copy is the same email in one more mailbox. Nothing crosses accounts, so in
another one it is a new email, with its own reference to the same bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from mailserver.errors import NotFound, OverQuota, Unavailable
from mailserver.mail import content, lessons, messages, quota, uploads
from mailserver.mail.context import Change
from mailserver.mail.messages import Copied
from mailserver.mail.rights import limited
from mailserver.mail.threads import thread_hashes
from mailserver.mime import digest
from mailserver.model import (
    AccountId,
    BlobId,
    ChangeKind,
    EmailId,
    Flags,
    MailboxId,
    Membership,
    Modseq,
    Place,
    ThreadId,
)
from mailserver.storage import bodies, delivery, mailboxes
from mailserver.storage import messages as rows
from mailserver.storage import uploads as upload_table
from mailserver.storage.mailboxes import growth_of
from mailserver.storage.messages import NewMessage

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

CHUNK_ROWS = 500  # messages that are read at once
CHUNK_OCTETS = 16 * 1024 * 1024  # of bodies that are read back from S3 at once
ATTEMPTS = 3  # a body may become cold between the moment it was looked for and the commit
NO_FLAGS = Flags()


class Source(NamedTuple):
    """A mailbox that messages are taken from."""

    account_id: AccountId
    mailbox_id: MailboxId


class _BecameCold(Exception):
    """A body was dropped from PostgreSQL after it was looked for."""


async def copy(mail: "Mail", source: Source, uids: Sequence[int], target: Place) -> Copied:
    """Put messages also into a mailbox, with those flags that the rights there allow."""
    if source.account_id != target.account_id:
        return await _across(mail, source, uids, target, leave=False)
    return await messages.copy(mail, *source, uids, target.mailbox.id, rights=target.rights)


async def move(mail: "Mail", source: Source, uids: Sequence[int], target: Place) -> Copied:
    """Take messages to a mailbox in one step, with those flags that the rights there allow."""
    if source.account_id != target.account_id:
        return await _across(mail, source, uids, target, leave=True)
    return await messages.move(mail, *source, uids, target.mailbox.id, rights=target.rights)


async def _across(
    mail: "Mail", source: Source, uids: Sequence[int], target: Place, *, leave: bool
) -> Copied:
    """Copy to another account, and with `leave` remove here, in one transaction.

    Raises NotFound when the target is gone, and OverQuota for the account it belongs to.
    """
    for _ in range(ATTEMPTS):
        held = await _hold_cold(mail, source, uids, target.account_id)
        try:
            transfer = _Transfer(mail, source, target, leave=leave)
            copied = await transfer.run(uids, held)
        except _BecameCold:
            continue
        for account, modseq in transfer.modseqs.items():
            mail.events.publish(account, modseq)
        return copied
    raise Unavailable("bodies are being moved to S3")


class _Transfer:
    """One transaction on two accounts."""

    def __init__(self, mail: "Mail", source: Source, target: Place, *, leave: bool) -> None:
        self.mail = mail
        self.source = source
        self.account = target.account_id
        self.mailbox = target.mailbox.id
        self.rights = target.rights
        self.leave = leave
        self.modseqs: dict[AccountId, Modseq] = {}  # of the accounts that have changed
        self._refs: dict[tuple[AccountId, int], ThreadId] = {}

    async def run(self, uids: Sequence[int], held: Sequence[BlobId]) -> Copied:
        """Do it; nothing is written when it cannot be done for all messages."""
        source = self.source
        async with self.mail.database.transaction() as tx:
            rooms = await delivery.lock_accounts(tx, [source.account_id, self.account])
            if len(rooms) < 2:
                raise NotFound("account")
            found = await rows.in_mailbox(tx, *source, uids)
            if not found:
                return Copied(0, [], [])
            size = sum(row.size for row in found)
            room = rooms[self.account]
            if room.quota_limit is not None and room.quota_used + size > room.quota_limit:
                raise OverQuota("account")
            now = self.mail.now()
            change = Change(tx, self.account, Modseq(room.modseq + 1), now)
            copied = await self._insert(change, found)
            await delivery.grow_accounts(tx, [(self.account, change.modseq, size)])
            await upload_table.release(tx, self.account, held, now)
            await change.write()
            self.modseqs[self.account] = change.modseq
            if self.leave:
                modseq = Modseq(rooms[source.account_id].modseq + 1)
                leaving = Change(tx, source.account_id, modseq, now)
                await delivery.grow_accounts(tx, [(source.account_id, modseq, 0)])
                await messages.remove_rows(leaving, source.mailbox_id, found)
                await leaving.write()
                self.modseqs[source.account_id] = modseq
        return copied

    async def _insert(self, change: Change, found: Sequence[Membership]) -> Copied:
        """Write emails, and put them in the mailbox in the order of `found`."""
        new: list[Membership] = []
        for start in range(0, len(found), CHUNK_ROWS):
            new += await self._emails(change, found[start : start + CHUNK_ROWS])
        growth = growth_of(change.account, self.mailbox, new, change.modseq)
        place = (await mailboxes.grow(change.tx, [growth])).get((self.account, self.mailbox))
        if place is None:
            raise NotFound("mailbox")
        uids = range(place.first_uid, place.first_uid + len(new))
        await rows.insert_messages(
            change.tx,
            [
                NewMessage(
                    self.account,
                    self.mailbox,
                    uid,
                    row.email_id,
                    row.thread_id,
                    row.received_at,
                    row.size,
                    change.modseq,
                    row.flags.bits,
                    " ".join(row.flags.keywords),
                    row.original_id,
                    change.now,
                )
                for uid, row in zip(uids, new, strict=True)
            ],
        )
        await rows.insert_thread_refs(
            change.tx, [(account, key, thread) for (account, key), thread in self._refs.items()]
        )
        change.report(
            ChangeKind.EMAIL_CREATED,
            self.mailbox,
            tuple(uids),
            tuple(row.email_id for row in new),
            tuple(row.thread_id for row in new),
        )
        await lessons.of_arrival(change, [row.email_id for row in new], self.mailbox)
        return Copied(place.uidvalidity, [row.uid for row in found], list(uids))

    async def _emails(self, change: Change, found: Sequence[Membership]) -> list[Membership]:
        """Make emails of the other account; return the rows as they are to be there.

        What IMAP calls the same EMAILID has the same THREADID (RFC 8474 §5.2), so copies are in the
        thread that they came from, whatever others are in it.
        """
        tx, source = change.tx, self.source.account_id
        ids = [row.email_id for row in found]
        if await bodies.adopt(tx, source, self.account, ids, change.now):
            raise _BecameCold
        described = await rows.descriptions(tx, source, ids, env=0, header=True)
        pairs = zip(described.ids, described.headers, strict=True)
        hashes = {email: thread_hashes(digest(header)) for email, header in pairs}
        keys = [hashes[email] for email in ids]
        wanted = sorted({(self.account, key) for each in keys for key in each})
        known = await rows.threads_of_hashes(tx, wanted)
        new = []
        for row, each in zip(found, keys, strict=True):
            for key in each:
                if (self.account, key) not in known:
                    self._refs.setdefault((self.account, key), row.thread_id)
            email = EmailId(self.mail.ids.next())
            flags = limited(NO_FLAGS, row.flags, self.rights)
            new.append(replace(row, email_id=email, original_id=row.content_id, flags=flags))
        places = [
            (row.email_id, copy.email_id, copy.thread_id)
            for row, copy in zip(found, new, strict=True)
        ]
        await rows.transplant(tx, source, self.account, places)
        return new


async def _hold_cold(
    mail: "Mail", source: Source, uids: Sequence[int], account: AccountId
) -> list[BlobId]:
    """Read bodies back from S3 that are there only, and keep them for the other account.

    They are uploads of that account until the copy needs them, so a body is never in two hands
    without a reference, and no more than a few are in memory at a time. What there is no room for
    there is not read: it would be left there as uploads. Raises OverQuota.
    """
    cold = await bodies.to_fetch(mail.database, *source, uids, account)
    if cold:
        used, limit = await quota.storage(mail, account)
        if limit is not None and used + sum(size for _, size in cold) > limit:
            raise OverQuota("account")
    held = []
    for batch in _batches(cold):
        octets = await content.contents(mail, source.account_id, batch)
        held += [blob for blob in batch if await uploads.hold(mail, account, octets[blob])]
    return held


def _batches(cold: Sequence[tuple[BlobId, int]]) -> Iterator[list[BlobId]]:
    """Cut bodies into batches of bounded size."""
    batch: list[BlobId] = []
    total = 0
    for blob, size in cold:
        if batch and total + size > CHUNK_OCTETS:
            yield batch
            batch, total = [], 0
        batch.append(blob)
        total += size
    if batch:
        yield batch
