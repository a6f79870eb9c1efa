"""Reports about mail that was sent: delivery status and disposition notifications."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mailserver.address import parse_address
from mailserver.errors import Invalid, NotFound
from mailserver.mail import content, messages
from mailserver.mail.metadata import OF_ACCOUNT
from mailserver.mime import HeaderBlock, Part, as_message_ids, as_text, decode_body, parse
from mailserver.model import (
    ChangeKind,
    Delivery,
    IdKind,
    NotificationKind,
    RecipientStatus,
    id_value,
)
from mailserver.storage import delivery_tasks, submissions
from mailserver.storage.delivery_tasks import NewTask

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

MAX_GROUPS = 1000  # recipients that one report tells of
MAX_REPLY = 1000  # characters

_REPORT = re.compile(rb"^content-type:[ \t\r\n]*multipart/report\b", re.IGNORECASE | re.MULTILINE)
_BLANK_LINE = re.compile(rb"\r?\n[ \t]*\r?\n")
_ACTIONS = {"delivered": Delivery.YES, "failed": Delivery.NO}  # RFC 8621 §7: the others say nothing

_WORDS = {Delivery.YES: ("250", "2.0.0", "Delivered"), Delivery.NO: ("550", "5.0.0", "Failed")}


def is_report(header: bytes) -> bool:
    """Tell whether a message is a report (RFC 6522)."""
    # asked of every message that is delivered: the expression alone takes seven times longer
    return b"multipart/report" in header.lower() and _REPORT.search(header) is not None


@dataclass(frozen=True, slots=True)
class Told:
    """What a report says of one recipient."""

    recipients: tuple[str, ...]  # the original one and the final one
    delivered: Delivery | None = None
    reply: str = ""
    displayed: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """A report, and the names of what it is about."""

    kind: NotificationKind
    envelope_id: str  # empty: not given
    message_id: str  # without angle brackets; empty: not given
    told: tuple[Told, ...]


def read(raw: bytes) -> Report | None:
    """Read a report; None when it is neither of the two kinds."""
    parts = parse(raw).parts
    for part in parts:
        match part.type, part.subtype:
            case "message", "delivery-status" | "global-delivery-status":
                return _status(raw, part, parts)
            case "message", "disposition-notification" | "global-disposition-notification":
                return _disposition(raw, part, parts)
    return None


def _groups(raw: bytes, part: Part) -> Iterator[HeaderBlock]:
    """Return the groups of fields in a part, which blank lines separate."""
    body = decode_body(raw[part.body_start : part.body_end], part.encoding).strip(b"\r\n")
    for group in _BLANK_LINE.split(body, maxsplit=MAX_GROUPS)[:MAX_GROUPS]:
        yield HeaderBlock(group + b"\r\n\r\n")


def _status(raw: bytes, part: Part, parts: Sequence[Part]) -> Report:
    message, *recipients = _groups(raw, part)
    return Report(
        NotificationKind.DSN,
        _field(message, "original-envelope-id"),
        _returned_id(raw, parts),
        tuple(map(_told, recipients)),
    )


def _told(group: HeaderBlock) -> Told:
    delivered = _ACTIONS.get(_field(group, "action").lower())
    diagnostic = _typed(_field(group, "diagnostic-code"), "smtp")
    status = _field(group, "status").split(" ")[0]
    if not diagnostic and delivered is not None:
        code, default, word = _WORDS[delivered]
        diagnostic = f"{code} {status or default} {word}"
    return Told(_recipients(group), delivered, diagnostic[:MAX_REPLY])


def _disposition(raw: bytes, part: Part, parts: Sequence[Part]) -> Report:
    group = next(_groups(raw, part))
    ids = as_message_ids(_field(group, "original-message-id").encode()) or [""]
    disposition = _field(group, "disposition").partition(";")[2].partition("/")[0]
    displayed = disposition.strip().lower() == "displayed"
    return Report(
        NotificationKind.MDN,
        "",
        ids[0] or _returned_id(raw, parts),
        (Told(_recipients(group), displayed=displayed),),
    )


def _recipients(group: HeaderBlock) -> tuple[str, ...]:
    fields = (_field(group, "original-recipient"), _field(group, "final-recipient"))
    found = (field.partition(";")[2].strip() for field in fields)
    return tuple(each for each in found if each)


def _returned_id(raw: bytes, parts: Sequence[Part]) -> str:
    """Return the Message-ID in the part that returns the message or its header."""
    for part in parts:
        if part.type == "message" and part.subtype in ("rfc822", "global"):
            start, end = part.body_start, part.body_end
            header = HeaderBlock(raw, start, end)
        elif part.subtype in ("rfc822-headers", "global-headers"):
            body = decode_body(raw[part.body_start : part.body_end], part.encoding)
            header = HeaderBlock(body + b"\r\n\r\n")
        else:
            continue
        value = header.last("message-id")
        ids = as_message_ids(value) if value is not None else None
        if ids:
            return ids[0]
    return ""


def _field(group: HeaderBlock, name: str) -> str:
    value = group.last(name)
    return "" if value is None else as_text(value).strip()


def _typed(value: str, kind: str) -> str:
    """Return what follows the type of a field, when it is that type."""
    given, _, text = value.partition(";")
    return " ".join(text.split()) if given.strip().lower() == kind else ""


# Filing ------------------------------------------------------------------------------------------


async def file(mail: "Mail", task: NewTask) -> bool:
    """Note a report with the submission that it is about; False when there is none."""
    account = task.account_id
    found = await messages.emails(mail, account, [task.email_id])
    if task.email_id not in found:
        return False
    blob = found[task.email_id].blob_id
    try:
        report = read(await content.content(mail, account, blob))
    except NotFound:
        return False
    if report is None:
        return False
    number = id_value(IdKind.SUBMISSION, report.envelope_id)
    submission_id = await submissions.named(mail.database, account, number, report.message_id)
    if submission_id is None:
        return False
    async with mail.change(account) as change:
        tx = change.tx
        if not await delivery_tasks.finish(tx, task):
            return False
        submission = (await submissions.by_ids(tx, account, [submission_id])).get(submission_id)
        if submission is None:  # destroyed this moment
            return False
        await submissions.insert_report(tx, account, submission_id, report.kind, blob, change.now)
        statuses = merged(submission.recipients, report)
        if statuses:
            await submissions.update_recipients(tx, account, submission_id, statuses)
        change.report(ChangeKind.SUBMISSION_UPDATED, OF_ACCOUNT, email_ids=(submission_id,))
    return True


def merged(known: Sequence[RecipientStatus], report: Report) -> list[RecipientStatus]:
    """Return the statuses that a report changes."""
    told = {_normal(address): each for each in report.told for address in each.recipients}
    changed = []
    for status in known:
        news = told.get(_normal(status.recipient))
        if news is None:
            continue
        new = status
        if news.delivered is not None:
            new = replace(new, delivered=news.delivered, reply=news.reply)
        if news.displayed:
            new = replace(new, displayed=True)
        if new != status:
            changed.append(new)
    return changed


def _normal(address: str) -> str:
    try:
        return str(parse_address(address))
    except Invalid:
        return address.lower()
