"""Submissions: emails on their way, whether they can be taken back, and how far they came."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from mailserver.errors import InUse, NotFound
from mailserver.mail import sending
from mailserver.mail.metadata import OF_ACCOUNT
from mailserver.mail.originals import Original
from mailserver.mail.sending import Envelope
from mailserver.model import (
    AccountId,
    ChangeKind,
    Delivery,
    EmailId,
    IdentityId,
    IdKind,
    Modseq,
    QueueId,
    QueueState,
    RecipientStatus,
    Submission,
    SubmissionId,
    ThreadId,
    UndoStatus,
    id_text,
)
from mailserver.storage import bodies, queue, submissions

if TYPE_CHECKING:
    from mailserver.mail.context import Change, Mail
    from mailserver.storage.database import Connection

Listed = submissions.Listed

MAX_LISTED = 100_000  # the newest submissions of an account are found by queries
BATCH = 1000

DELIVERED = "250 2.1.5 Delivered"
QUEUED = "250 2.0.0 Queued"
CAUGHT = "250 2.0.0 Caught: kept and shown, never sent"
CANCELED = "554 5.0.0 Canceled by the sender"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a submission says of itself before it is made."""

    identity_id: IdentityId
    email_id: EmailId
    thread_id: ThreadId
    envelope: str  # JSON of an Envelope (RFC 8621 §7)


@dataclass(slots=True)
class _Record:
    """The submission of a message, written in the commit that sends it."""

    account_id: AccountId
    draft: Draft
    id: SubmissionId
    statuses: tuple[RecipientStatus, ...]
    undo: UndoStatus
    settled: bool
    message_id: str
    send_at: datetime
    made: Submission = field(init=False)
    modseq: Modseq = field(init=False)

    async def admit(self, tx: "Connection") -> bool:
        """Say that the message is wanted."""
        return True

    async def write(self, change: "Change", queue_id: QueueId | None) -> None:
        """Insert the submission, as a change of its account."""
        self.modseq = change.modseq
        self.made = Submission(
            self.id,
            self.draft.identity_id,
            self.draft.email_id,
            self.draft.thread_id,
            self.draft.envelope,
            self.send_at,
            self.undo,
            self.statuses,
        )
        await submissions.insert(
            change.tx,
            self.account_id,
            self.made,
            queue_id,
            self.message_id,
            settled=self.settled,
        )
        change.report(ChangeKind.SUBMISSION_CREATED, OF_ACCOUNT, email_ids=(self.id,))


def new_id(mail: "Mail") -> SubmissionId:
    """Return the id of a submission that is about to be made."""
    return SubmissionId(mail.ids.next())


class Sent(NamedTuple):
    """A submission that was made."""

    submission: Submission
    modseq: Modseq
    message_id: str
    stored: str  # id of the queued message, else of an email


async def create(
    mail: "Mail",
    draft: Draft,
    submission: SubmissionId,
    original: Original,
    envelope: Envelope,
    trace: bytes,
    *,
    message_id: str,
) -> Sent:
    """Send a message and keep a record of it, in one commit.

    Users here have it then, unless it is held; all others wait in the queue. Raises Unavailable,
    NotFound when an account is gone.
    """
    held = envelope.release_at is not None
    caught = mail.config.smtp.catch_outbound and not held
    record = _Record(
        envelope.account_id,
        draft,
        submission,
        _first_statuses(envelope, caught=caught),
        UndoStatus.PENDING if not (envelope.local or caught) else UndoStatus.FINAL,
        caught or not envelope.queued,
        original.message_id() or message_id,
        envelope.release_at or mail.now(),
    )
    await sending.admit(mail, envelope)
    done = await sending.send(
        mail, original, envelope, trace, message_id=message_id, companion=record
    )
    if done.queue_id is not None:
        stored = id_text(IdKind.QUEUE, done.queue_id)
    else:
        stored = id_text(IdKind.EMAIL, done.delivered[0].email_id)
    return Sent(record.made, record.modseq, record.message_id, stored)


def _first_statuses(envelope: Envelope, *, caught: bool) -> tuple[RecipientStatus, ...]:
    found = {
        each.text: RecipientStatus(each.text, Delivery.YES, DELIVERED) for each in envelope.local
    }
    for each in envelope.queued:
        if caught:
            found[each.text] = RecipientStatus(each.text, Delivery.UNKNOWN, CAUGHT)
        else:
            found[each.text] = RecipientStatus(each.text, Delivery.QUEUED, QUEUED)
    return tuple(found.values())


async def listed(mail: "Mail", account: AccountId) -> list[Listed]:
    """Return what queries look at, of the newest submissions, oldest first."""
    return await submissions.of_account(mail.database, account, MAX_LISTED)


async def get(
    mail: "Mail", account: AccountId, ids: Sequence[int]
) -> Mapping[SubmissionId, Submission]:
    """Return those of the submissions that exist."""
    return await submissions.by_ids(mail.database, account, ids)


async def cancel(change: "Change", submission: Submission) -> Submission:
    """Take a submission back, so that nobody gets it; InUse when that is too late."""
    queue_id = await submissions.queue_of(change.tx, change.account, submission.id)
    if submission.undo_status is not UndoStatus.PENDING or queue_id is None:
        raise InUse("it was sent")
    taken = await queue.cancel(change.tx, queue_id)
    if taken is None:
        raise InUse("it is being sent")
    owner, blob = taken
    await bodies.release(change.tx, owner, [blob], change.now)
    statuses = tuple(
        replace(each, delivered=Delivery.NO, reply=CANCELED) for each in submission.recipients
    )
    await submissions.update_recipients(change.tx, change.account, submission.id, statuses)
    await submissions.update(
        change.tx, change.account, submission.id, UndoStatus.CANCELED, settled=True
    )
    change.report(ChangeKind.SUBMISSION_UPDATED, OF_ACCOUNT, email_ids=(submission.id,))
    return replace(submission, undo_status=UndoStatus.CANCELED, recipients=statuses)


async def destroy(change: "Change", ids: Sequence[int]) -> list[SubmissionId]:
    """Forget submissions; what they send is sent all the same. Return those that were there."""
    gone, blobs = await submissions.delete(change.tx, change.account, ids)
    if blobs:
        await bodies.release(change.tx, change.account, blobs, change.now)
    if gone:
        change.report(ChangeKind.SUBMISSION_DESTROYED, OF_ACCOUNT, email_ids=tuple(gone))
    return gone


# The queue's news --------------------------------------------------------------------------------


async def delivery_changed(mail: "Mail", account: AccountId, queue_id: QueueId) -> None:
    """Note in the submission of a queued message, if there is one, how far it came.

    To be called after the commit of an attempt, whatever it came to. A call that is lost is made
    up for by `catch_up`, and one too many changes nothing.
    """
    if await submissions.of_queue(mail.database, queue_id) is None:
        return
    async with mail.change(account) as change:
        submission_id = await submissions.of_queue(change.tx, queue_id)
        if submission_id is None:
            return
        found = await submissions.by_ids(change.tx, account, [submission_id])
        if submission_id not in found:
            raise NotFound("submission")
        submission = found[submission_id]
        rows = await queue.progress(change.tx, queue_id)
        statuses = merged(submission.recipients, rows)
        waits = any(row.state in _UNDER_WAY for row in rows)
        left = any(row.state not in _UNDER_WAY for row in rows)
        undo = UndoStatus.FINAL if left or not rows else submission.undo_status
        if statuses:
            await submissions.update_recipients(change.tx, account, submission_id, statuses)
        if undo is not submission.undo_status or not waits:
            await submissions.update(change.tx, account, submission_id, undo, settled=not waits)
        elif not statuses:
            return  # nothing is new, and what reports nothing is rolled back
        change.report(ChangeKind.SUBMISSION_UPDATED, OF_ACCOUNT, email_ids=(submission_id,))


_UNDER_WAY = frozenset({QueueState.WAITING, QueueState.HELD, QueueState.SENDING})
_OUTCOMES = {
    **dict.fromkeys(_UNDER_WAY, Delivery.QUEUED),
    QueueState.DELIVERED: Delivery.UNKNOWN,  # relayed is not delivered (RFC 8621 §7)
    QueueState.FAILED: Delivery.NO,
    QueueState.CAUGHT: Delivery.UNKNOWN,
}


def merged(
    known: Sequence[RecipientStatus], rows: Sequence[queue.Progress]
) -> list[RecipientStatus]:
    """Return the statuses that the queue knows more of."""
    before = {each.recipient: each for each in known}
    changed = []
    for row in rows:
        status = before.get(row.recipient)
        if status is None or status.delivered is not Delivery.QUEUED:
            continue  # a report was faster and knows better
        outcome = _OUTCOMES.get(row.state, Delivery.UNKNOWN)
        if row.state is QueueState.DELIVERED and row.local:
            outcome = Delivery.YES
        reply = one_line(row.last_reply) if row.last_reply else _REPLIES.get(row.state, QUEUED)
        new = replace(status, delivered=outcome, reply=reply)
        if new != status:
            changed.append(new)
    return changed


_REPLIES = {QueueState.DELIVERED: DELIVERED, QueueState.CAUGHT: CAUGHT}


def one_line(reply: str) -> str:
    """Join the lines of an SMTP reply, without what each repeats of the first (RFC 8621 §7)."""
    lines = [line for line in reply.replace("\r", "\n").split("\n") if line.strip()]
    if not lines:
        return ""
    lines = [
        f"{line[:3]} {line[4:]}" if line[:3].isdigit() and line[3:4] == "-" else line
        for line in lines
    ]
    first = lines[0]
    return " ".join([first, *(_without_prefix(line, first) for line in lines[1:])])


def _without_prefix(line: str, first: str) -> str:
    """Strip whole words that a line has in common with the first line: the codes."""
    words, others = line.split(" "), first.split(" ")
    at = 0
    while at < min(len(words), len(others), 2) and words[at] == others[at]:
        if not words[at].replace(".", "").isdigit():
            break
        at += 1
    return " ".join(words[at:])


async def catch_up(mail: "Mail") -> int:
    """Bring submissions up to date whose news was lost with a process; return how many."""
    after = count = 0
    while found := await submissions.behind(mail.database, after, BATCH):
        for account, queue_id in found:
            await delivery_changed(mail, account, queue_id)
            after = queue_id
        count += len(found)
    return count


async def expire(mail: "Mail", now: datetime) -> int:
    """Forget submissions that were sent long ago; return how many."""
    before = now - timedelta(seconds=mail.config.store.submissions)
    count = 0
    while found := await submissions.old(mail.database, before, BATCH):
        for account, ids in found.items():
            async with mail.change(account) as change:
                count += len(await destroy(change, ids))
    return count
