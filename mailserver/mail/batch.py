"""What one group commit writes: the rows of all its messages."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from mailserver.mail.context import Change
from mailserver.mail.delivery import (
    Accepted,
    Arrival,
    Delivered,
    Target,
)
from mailserver.mail.reports import is_report
from mailserver.model import (
    JUNK,
    AccountId,
    BlobId,
    ChangeEntry,
    ChangeKind,
    EmailId,
    MailboxId,
    Modseq,
    QueueId,
    ThreadId,
)
from mailserver.queue import enqueue
from mailserver.storage import bodies, delivery, delivery_tasks, messages
from mailserver.storage import queue as queue_table
from mailserver.storage.bodies import NewBody
from mailserver.storage.database import Connection, Executor
from mailserver.storage.delivery import NewCopy
from mailserver.storage.delivery_tasks import NewTask, TaskKind
from mailserver.storage.mailboxes import Growth
from mailserver.storage.messages import NewMessage
from mailserver.storage.queue import NewQueued, NewRecipient

if TYPE_CHECKING:
    from mailserver.mail.context import Mail


@dataclass(slots=True)
class Batch:
    """The rows of one commit."""

    now: datetime
    admitted: list[Arrival] = field(default_factory=list)
    sizes: defaultdict[AccountId, int] = field(default_factory=lambda: defaultdict(int))
    modseqs: dict[AccountId, Modseq] = field(default_factory=dict)
    uidvalidity: dict[tuple[AccountId, MailboxId], int] = field(default_factory=dict)
    bodies: dict[tuple[AccountId, BlobId], NewBody] = field(default_factory=dict)
    copies: list[NewCopy] = field(default_factory=list)
    elsewhere: list[NewMessage] = field(default_factory=list)  # the same emails in more mailboxes
    refs: dict[tuple[AccountId, int], ThreadId] = field(default_factory=dict)
    queued: list[NewQueued] = field(default_factory=list)
    recipients: list[NewRecipient] = field(default_factory=list)
    responding: set[AccountId] = field(default_factory=set)  # accounts with a vacation response
    tasks: list[NewTask] = field(default_factory=list)
    _delivered: dict[int, list[NewCopy]] = field(default_factory=dict)
    _queue_ids: dict[int, QueueId] = field(default_factory=dict)

    def add(
        self,
        arrival: Arrival,
        target: Target,
        mailbox: MailboxId,
        email: EmailId,
        thread: ThreadId,
        uid: int,
    ) -> None:
        """Add the rows of one copy."""
        account, sealed = target.account_id, arrival.sealed
        self._body(account, arrival)
        row = NewCopy(
            account,
            email,
            thread,
            sealed.blob_id,
            len(arrival.raw),
            arrival.received_at,
            arrival.digest.sent_at,
            arrival.digest.env,
            sealed.header,
            mailbox,
            uid,
            self.modseqs[account],
            target.flags.bits,
            " ".join(target.flags.keywords),
        )
        self.copies.append(row)
        # nobody tells spammers that somebody is on holiday (RFC 3834 §2)
        responds = account in self.responding and not target.flags.bits & JUNK
        self.tasks.extend(_tasks(arrival, account, email, responds=responds))
        self._delivered.setdefault(id(arrival), []).append(row)

    def add_elsewhere(self, arrival: Arrival, target: Target, mailbox: MailboxId, uid: int) -> None:
        """Put the copy that was added last also into another mailbox."""
        copy = self._delivered[id(arrival)][-1]
        self.elsewhere.append(
            NewMessage(
                copy.account_id,
                mailbox,
                uid,
                copy.email_id,
                copy.thread_id,
                copy.received_at,
                copy.size,
                copy.modseq,
                copy.flags,
                copy.keywords,
                None,
                self.now,
            )
        )

    def enqueue(self, arrival: Arrival, mail: "Mail") -> None:
        """Add the rows of what leaves this server."""
        if arrival.outgoing is None:
            return
        message, recipients = enqueue.rows(
            arrival.outgoing,
            QueueId(mail.ids.next()),
            arrival.sealed.blob_id,
            len(arrival.raw),
            self.now,
            caught=mail.config.smtp.catch_outbound,
        )
        self._body(arrival.outgoing.account_id, arrival)
        self.queued.append(message)
        self.recipients.extend(recipients)
        self._queue_ids[id(arrival)] = message.id

    def _body(self, account: AccountId, arrival: Arrival) -> None:
        """Count one more reference to a body, the same bytes being stored once per account."""
        sealed = arrival.sealed
        known = self.bodies.get((account, sealed.blob_id))
        refs = known.refs + 1 if known else 1
        self.bodies[account, sealed.blob_id] = NewBody(
            account, sealed.blob_id, len(arrival.raw), refs, sealed.stored
        )

    async def write(self, tx: "Connection") -> None:
        """Write everything; locks were taken in order before."""
        await queue_table.insert(tx, self.queued, self.recipients)
        entries = self._changes() + await self._companions(tx)
        if not self.modseqs:
            await bodies.insert(tx, self._new_bodies(), self.now)
            return
        if not await self._write(tx, entries, ()):
            raise RuntimeError("an account changed although it was locked")
        await delivery_tasks.insert(tx, self.tasks)
        if self.elsewhere:
            await messages.insert_messages(tx, self.elsewhere)

    async def write_at_once(self, database: Executor, growths: Sequence[Growth]) -> bool:
        """Write everything if no account has changed since it was looked at; False if one has."""
        return await self._write(database, self._changes(), growths)

    async def _write(
        self,
        tx: Executor,
        entries: Sequence[tuple[AccountId, ChangeEntry]],
        growths: Sequence[Growth],
    ) -> bool:
        return await delivery.write(
            tx,
            bodies=self._new_bodies(),
            copies=self.copies,
            accounts=[(each, modseq, self.sizes[each]) for each, modseq in self.modseqs.items()],
            threads=[(account, key, thread) for (account, key), thread in self.refs.items()],
            entries=entries,
            growths=growths,
            now=self.now,
        )

    def _new_bodies(self) -> list[NewBody]:
        """Return the bodies in key order, like every writer of these rows."""
        return [self.bodies[key] for key in sorted(self.bodies)]

    async def _companions(self, tx: "Connection") -> list[tuple[AccountId, ChangeEntry]]:
        """Write what comes with the messages; return what the change log says of it."""
        entries: list[tuple[AccountId, ChangeEntry]] = []
        for arrival in self.admitted:
            if arrival.companion is None or (owner := arrival.companion.account_id) is None:
                continue
            change = Change(tx, owner, self.modseqs[owner], self.now)
            await arrival.companion.write(change, self._queue_ids.get(id(arrival)))
            entries.extend((owner, entry) for entry in change.entries)
        return entries

    def _changes(self) -> list[tuple[AccountId, ChangeEntry]]:
        """Return one entry for each mailbox, however many messages it got."""
        grouped: dict[tuple[AccountId, ChangeKind, MailboxId], list[NewCopy | NewMessage]] = {}
        for kind, rows in (
            (ChangeKind.EMAIL_CREATED, self.copies),
            (ChangeKind.EMAIL_ADDED, self.elsewhere),
        ):
            for row in rows:
                grouped.setdefault((row.account_id, kind, row.mailbox_id), []).append(row)
        return [
            (
                account,
                ChangeEntry(
                    self.modseqs[account],
                    kind,
                    mailbox,
                    tuple(row.uid for row in rows),
                    tuple(row.email_id for row in rows),
                    tuple(row.thread_id for row in rows),
                ),
            )
            for (account, kind, mailbox), rows in grouped.items()
        ]

    def accepted(self, arrival: Arrival) -> Accepted:
        """Return what became of an arrival."""
        blob = arrival.sealed.blob_id
        return Accepted(
            blob,
            tuple(
                Delivered(
                    row.account_id,
                    row.email_id,
                    row.thread_id,
                    blob,
                    row.mailbox_id,
                    row.uid,
                    self.uidvalidity[row.account_id, row.mailbox_id],
                    row.modseq,
                )
                for row in self._delivered.get(id(arrival), ())
            ),
            self._queue_ids.get(id(arrival)),
        )


def _tasks(
    arrival: Arrival, account: AccountId, email: EmailId, *, responds: bool
) -> Iterable[NewTask]:
    """Return what is to be done after the delivery of one copy."""
    if arrival.sender is None:
        return
    task = (account, email, arrival.sender, arrival.received_at)
    if responds and arrival.sender:
        yield NewTask(TaskKind.VACATION, *task)
    if is_report(arrival.digest.header):
        yield NewTask(TaskKind.REPORT, *task)
