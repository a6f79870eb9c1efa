"""Outgoing mail as the store of mail sees it: outcomes noted, mail for users here delivered."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from mailserver.address import Address, parse_address
from mailserver.errors import Invalid, MailError, Unavailable
from mailserver.mail import content, delivery, recipients, submissions
from mailserver.mail.delivery import Target
from mailserver.mail.forwarding import Letter, Passage, was_at
from mailserver.model import AccountId, IdKind, QueueId, QueueState, id_text
from mailserver.queue.rules import Outcome, Result, Schedule
from mailserver.queue.work import Ended, Ledger
from mailserver.storage import bodies, queue_work
from mailserver.storage.queue_work import Claimed, Recorded

if TYPE_CHECKING:
    from mailserver.mail.context import Change, Mail
    from mailserver.storage.database import Connection

log = logging.getLogger(__name__)

RETRY_TIME = 1.0  # seconds between two attempts to write outcomes down
MAX_RECORDED = 200  # outcomes in one transaction

_OUTCOMES = {
    QueueState.DELIVERED: "delivered",
    QueueState.FAILED: "failed",
    QueueState.WAITING: "deferred",
    QueueState.CAUGHT: "caught",
}
_DONE = Outcome(Result.DELIVERED, "250 2.1.5 Delivered to the mailbox", "2.1.5")

_WORDS = {
    Result.DELIVERED: "250 2.0.0",
    Result.RELAYED: "250 2.0.0",
    Result.CAUGHT: "250 2.0.0",
    Result.DEFERRED: "451 4.0.0",
    Result.FAILED: "550 5.0.0",
}


def _without_words(outcome: Outcome) -> Outcome:
    """Return the same result in words that are certainly ours."""
    code = _WORDS[outcome.result]
    reply = f"{code} The reply could not be kept"
    return replace(outcome, reply=reply, status=code[4:], remote=None)


def _warn_of_doubles(ended: Sequence[Ended], written: Sequence[Ended]) -> None:
    """Say what was sent although it is not this worker's any more (RFC 1047: it may come twice)."""
    kept = {(each.claimed.message_id, each.claimed.recipient) for each in written}
    for each in ended:
        claimed, sent = each.claimed, each.outcome.result in (Result.DELIVERED, Result.RELAYED)
        if sent and (claimed.message_id, claimed.recipient) not in kept:
            log.warning(
                "queue: sent, but another worker may have taken it over and send it too",
                extra={
                    "queue_id": id_text(IdKind.QUEUE, claimed.message_id),
                    "recipient": claimed.recipient,
                },
            )


Waiting = tuple[Ended, "asyncio.Future[None]"]


def _settle(waiting: Sequence[Waiting], error: Exception | None) -> None:
    for _, future in waiting:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


class Recorder:
    """Writes outcomes down in groups: one transaction for whatever has ended meanwhile."""

    def __init__(self, mail: "Mail", ledger: Ledger, reports: Callable[[], None]) -> None:
        """Take what is to be called when something is to be reported to a sender."""
        self._mail = mail
        self.ledger = ledger
        self._reports = reports
        self._waiting: list[Waiting] = []
        self._single: list[Waiting] = []  # of groups that failed
        self._writer: asyncio.Task[None] | None = None
        self._changed: set[tuple[AccountId, QueueId]] = set()  # to be told to their submissions
        self._teller: asyncio.Task[None] | None = None

    async def record(self, ended: Sequence[Ended]) -> None:
        """Return when the outcomes are committed; while PostgreSQL is away they wait."""
        if not ended:
            return
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in ended]
        self._waiting += zip(ended, futures, strict=True)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="queue recorder")
        # a worker that is stopped must not forget what another server has taken
        await asyncio.shield(asyncio.gather(*futures))

    async def drain(self) -> None:
        """Wait until nothing waits, before the database is closed."""
        while tasks := [
            task for task in (self._writer, self._teller) if task is not None and not task.done()
        ]:
            await asyncio.wait(tasks)

    async def _write(self) -> None:
        while taken := self._take():
            try:
                written = await self.ledger.record(each for each, _ in taken)
            except Unavailable as error:
                log.warning("outcomes wait for PostgreSQL", extra={"error": str(error)})
                self._waiting = taken + self._waiting
                await asyncio.sleep(RETRY_TIME)
                continue
            except Exception as error:
                if len(taken) > 1:  # one that cannot be written keeps the others from nothing
                    self._single += taken
                else:
                    self._refused(taken[0], error)
                continue
            _settle(taken, None)
            _warn_of_doubles([each for each, _ in taken], [each for each, _ in written])
            self.note(written)

    def _refused(self, taken: Waiting, error: Exception) -> None:
        """Write an outcome without the words that PostgreSQL may not take: it must not be lost."""
        ended, future = taken
        log.error(
            "outcome cannot be written",
            exc_info=error,
            extra={"queue_id": id_text(IdKind.QUEUE, ended.claimed.message_id)},
        )
        wordless = _without_words(ended.outcome)
        if ended.outcome == wordless:
            _settle([taken], error)
        else:
            self._single.append((replace(ended, outcome=wordless), future))

    def _take(self) -> list[Waiting]:
        """Take what one transaction writes: one outcome alone after a group has failed."""
        if self._single:
            return [self._single.pop()]
        taken, self._waiting = self._waiting[:MAX_RECORDED], self._waiting[MAX_RECORDED:]
        return taken

    def note(self, written: Sequence[tuple[Ended, Recorded]]) -> None:
        """Count what is committed, and tell senders and submissions of it."""
        metrics = self._mail.metrics
        for ended, row in written:
            outcome = _OUTCOMES[QueueState(row.state)]
            metrics.delivery_attempts.labels(outcome).inc()
            if row.finished_at is not None:
                metrics.messages_sent.labels(outcome).inc()
            if row.state == QueueState.DELIVERED:
                waited = (self._mail.now() - ended.claimed.received_at).total_seconds()
                metrics.delivery_seconds.observe(max(waited, 0))
        if any(row.report is not None for _, row in written):
            self._reports()
        self._changed.update(
            (ended.claimed.account_id, ended.claimed.message_id) for ended, _ in written
        )
        if self._teller is None or self._teller.done():
            self._teller = asyncio.create_task(self._tell(), name="queue submissions")

    async def _tell(self) -> None:
        """Let submissions follow; what is lost here is made up for by their maintenance."""
        while self._changed:
            account, queue_id = self._changed.pop()
            try:
                await submissions.delivery_changed(self._mail, account, queue_id)
            except MailError as error:
                log.warning(
                    "submission does not follow",
                    extra={"queue_id": id_text(IdKind.QUEUE, queue_id), "error": repr(error)},
                )


async def message(mail: "Mail", claimed: Claimed) -> bytes:
    """Return the message of a queue entry; NotFound, Unavailable, Corrupt."""
    return await content.content(mail, claimed.account_id, claimed.blob_id)


async def is_here(mail: "Mail", address: str) -> bool:
    """Tell whether the domain of a recipient is one of this server's."""
    parsed = _parsed(address)
    return parsed is not None and (await recipients.resolve(mail, parsed)).local


@dataclass(slots=True)
class _Handed:
    """What makes a delivery here the only one: its outcome is noted in the same commit."""

    ledger: Ledger
    ended: list[Ended]
    written: list[tuple[Ended, Recorded]] = field(default_factory=list)
    account_id: None = None  # nobody's change

    async def admit(self, tx: "Connection") -> bool:
        """Note the outcome; False when another worker has taken the recipients over."""
        self.written = await self.ledger.record(self.ended, tx)
        if 0 < len(self.written) < len(self.ended):
            raise RuntimeError("a part of the recipients is another worker's")
        return bool(self.written)

    async def write(self, change: "Change", queue_id: QueueId | None) -> None:
        """Write nothing more."""


async def deliver_here(
    mail: "Mail", recorder: Recorder, claims: Sequence[Claimed], raw: bytes, schedule: Schedule
) -> list[Outcome]:
    """Deliver one message to recipients of this server in one commit; return their outcomes.

    The commit also notes the deliveries, so that a crash doubles none. NotFound when the recipients
    are not this worker's any more.
    """
    outcomes: dict[str, Outcome] = {}
    targets: list[Target] = []
    passages: list[Passage] = []
    for claimed in claims:
        found = await _places(mail, claimed, raw)
        if isinstance(found, Outcome):
            outcomes[claimed.recipient] = found
        else:
            targets += found.targets
            passages += found.passages
    first = claims[0]
    letter = Letter(first.sender, raw, "", first.smtputf8, first.body, first.require_tls)
    onward = await mail.forwarding.copies(letter, passages)
    if targets or onward:
        top = f"Return-Path: <{claims[0].sender}>\r\n".encode()
        handed = _Handed(
            recorder.ledger,
            [Ended(each, _DONE, schedule) for each in claims if each.recipient not in outcomes],
        )
        await delivery.accept(
            mail,
            top + raw,
            targets,
            received_at=mail.now(),
            sender=claims[0].sender,
            companion=handed,
            onward=onward,
        )
        recorder.note(handed.written)
    return [outcomes.get(claimed.recipient, _DONE) for claimed in claims]


@dataclass(frozen=True, slots=True)
class _Places:
    targets: list[Target]
    passages: list[Passage]


async def _places(mail: "Mail", claimed: Claimed, raw: bytes) -> _Places | Outcome:
    """Return where a message goes for a recipient here, or why it cannot."""
    address = _parsed(claimed.recipient)
    found = await recipients.resolve(mail, address) if address is not None else None
    if address is None or found is None or not found.is_known:
        if found is not None and found.refuses:
            return Outcome(Result.FAILED, "550 5.2.1 Mailbox is disabled", "5.2.1")
        return Outcome(Result.FAILED, "550 5.1.1 No such user here", "5.1.1")
    for account in found.accounts:
        limit = account.quota_limit
        if limit is not None and len(raw) > limit:
            reply = "552 5.2.2 Message larger than the mailbox may grow"
            return Outcome(Result.FAILED, reply, "5.2.2")
        if limit is not None and account.quota_used >= limit:
            return Outcome(Result.DEFERRED, "452 4.2.2 Mailbox full", "4.2.2")
    if found.forwards and was_at(raw, address):
        return Outcome(Result.FAILED, "554 5.4.6 The message goes round in circles", "5.4.6")
    passages = [Passage(address, found.forwards, claimed.notify)] if found.forwards else []
    return _Places([Target(account.id) for account in found.accounts], passages)


def _parsed(address: str) -> Address | None:
    try:
        return parse_address(address)
    except Invalid:
        return None


async def purge(mail: "Mail", limit: int) -> int:
    """Forget recipients whose history has had its time; return how many."""
    now = mail.now()
    before = now - timedelta(seconds=mail.config.outbound.history)
    async with mail.database.transaction() as tx:
        gone, freed = await queue_work.purge(tx, before, limit)
        for account, blob in freed:
            await bodies.release(tx, account, [blob], now)
    return gone
