"""Tells senders what became of their mail, as they asked by NOTIFY, RET and ENVID (RFC 3461 §6).

A notification is queued in the transaction that notes that it was made: never lost, never doubled.
It goes to the null sender's opposite and has none itself, so nothing answers it.
"""

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailserver.address import parse_address
from mailserver.errors import Corrupt, Invalid, MailError, NotFound
from mailserver.events import QUEUE
from mailserver.mail import content
from mailserver.mail.delivery import LARGE, hashed
from mailserver.mime.dsn import Action, RecipientReport, Report, compose
from mailserver.model import BlobId, IdKind, Modseq, QueueId, ReportKind, id_text
from mailserver.queue import enqueue
from mailserver.queue.enqueue import Outgoing, OutgoingRecipient
from mailserver.queue.work import Ledger
from mailserver.storage import bodies, queue, queue_work
from mailserver.storage.bodies import NewBody
from mailserver.storage.database import Connection
from mailserver.storage.queue_work import Message, Reported

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

log = logging.getLogger(__name__)

PAGE = 100  # messages reported on in one round
FULL_BY_DEFAULT = 50 * 1024  # octets of a failed message that goes back whole unless RET says
FULL_AT_MOST = 10 * 1024 * 1024  # octets of one that goes back whole because RET says so

_ACTIONS = {
    ReportKind.FAILED: Action.FAILED,
    ReportKind.DELAYED: Action.DELAYED,
    ReportKind.DELIVERED: Action.DELIVERED,
    ReportKind.RELAYED: Action.RELAYED,
}


async def report_all(mail: "Mail", ledger: Ledger) -> bool:
    """Make the notifications that are due, a page of them; return whether there may be more."""
    due = await ledger.with_reports(PAGE)
    made = 0
    for message in due:
        try:
            await report(mail, message)
            made += 1
        except MailError as error:  # its body is in S3, which is away perhaps: others are not
            log.warning("report waits", extra={"queue_id": shown(message), "error": repr(error)})
        except Exception:
            log.exception("report cannot be made", extra={"queue_id": shown(message)})
    return len(due) == PAGE and made > 0


def shown(queue_id: int) -> str:
    """Return the id of a message in the queue as logs and commands show it."""
    return id_text(IdKind.QUEUE, queue_id)


async def report(mail: "Mail", queue_id: QueueId) -> int:
    """Queue the notifications due about one message; return how many."""
    found = await queue_work.message(mail.database, queue_id)
    if found is None:
        return 0
    try:
        original = await content.content(mail, found.account_id, found.blob_id)
    except (NotFound, Corrupt) as error:
        log.error(
            "bounce without its message", extra={"queue_id": shown(queue_id), "error": str(error)}
        )
        original = b""
    async with mail.database.transaction() as tx:
        reported = await queue_work.take_reports(tx, queue_id)
        groups: dict[ReportKind, list[Reported]] = defaultdict(list)
        for each in reported:
            groups[ReportKind(each.report)].append(each)
        made = [
            await _queue(mail, tx, found, kind, groups[kind], original) for kind in sorted(groups)
        ]
    queued = [each for each in made if each is not None]
    if queued:
        mail.events.publish(QUEUE, Modseq(queued[-1]))
    return len(queued)


async def _queue(
    mail: "Mail",
    tx: Connection,
    message: Message,
    kind: ReportKind,
    reported: Sequence[Reported],
    original: bytes,
) -> QueueId | None:
    """Queue one notification, or none when there is nobody to tell."""
    if not message.sender:
        return None
    try:
        # of mail that was forwarded the report goes to whoever sent it
        receiver = mail.forwarding.returns_to(message.sender) or message.sender
        address = parse_address(receiver)
    except Invalid:
        log.warning("bounce to nobody", extra={"queue_id": shown(message.id)})
        return None
    now = mail.now()
    made = Report(
        _ACTIONS[kind],
        mail.config.server.hostname,
        receiver,
        [_recipient(each) for each in reported],
        message.received_at,
        now,
        secrets.token_hex(16),
        message.envid,
        original,
        _full(kind, message.ret, len(original)),
        message.deliver_by,
    )
    if len(original) > LARGE:
        raw, (blob, stored) = await asyncio.to_thread(_written, made)
    else:
        raw, (blob, stored) = _written(made)
    outgoing = Outgoing(
        message.account_id,
        "",
        (OutgoingRecipient(receiver, address.domain, notify="NEVER"),),
        message.session,
        smtputf8=not raw.isascii(),
        body="7BIT" if raw.isascii() else "8BITMIME",
        require_tls=message.require_tls,  # RFC 8689 §5
        priority=message.priority,  # RFC 6710 §4.5
    )
    new = QueueId(mail.ids.next())
    row, rows = enqueue.rows(outgoing, new, blob, len(raw), now, caught=False)
    await bodies.insert(tx, [NewBody(message.account_id, blob, len(raw), 1, stored)], now)
    await queue.insert(tx, [row], rows)
    log.info(
        "bounce queued",
        extra={
            "queue_id": shown(message.id),
            "report": kind.name.lower(),
            "recipients": len(reported),
        },
    )
    return new


def _written(report: Report) -> tuple[bytes, tuple[BlobId, bytes]]:
    """Return a notification, its id and its stored form: of a large message a thread's work."""
    raw = compose(report)
    return raw, hashed(raw)


def _full(kind: ReportKind, ret: str | None, size: int) -> bool:
    """Tell whether the whole message goes back: of failures only (RFC 3461 §4.3)."""
    if kind is not ReportKind.FAILED:
        return False
    if ret is None:
        return size <= FULL_BY_DEFAULT
    return ret.upper() == "FULL" and size <= FULL_AT_MOST


def _recipient(reported: Reported) -> RecipientReport:
    return RecipientReport(
        reported.recipient,
        reported.status or "4.0.0",
        reported.last_reply or "",
        reported.remote,
        reported.orcpt,
        reported.last_attempt,
        reported.expires_at,
    )
