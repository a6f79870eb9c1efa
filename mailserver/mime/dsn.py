"""Delivery status notifications (RFC 3464) in a multipart/report (RFC 6522), as octets."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from enum import Enum

from mailserver.mime.headers import HeaderBlock

_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
MAX_SUBJECT = 200  # octets of the original subject that are repeated
WIDTH = 76


class Action(Enum):
    """What happened to a recipient (RFC 3464 §2.3.3): the word, a subject and an explanation."""

    FAILED = (
        "failed",
        "Undeliverable",
        "Your message could not be delivered to the recipients below. No further attempt will be"
        " made.",
    )
    DELAYED = (
        "delayed",
        "Delayed",
        "Your message could not be delivered to the recipients below yet. You need not send it"
        " again: further attempts will be made, and you will be told if they fail.",
    )
    DELIVERED = (
        "delivered",
        "Delivered",
        "Your message was delivered to the recipients below.",
    )
    RELAYED = (
        "relayed",
        "Relayed",
        "Your message was passed on for the recipients below, to servers that will not report"
        " its delivery.",
    )

    def __init__(self, word: str, subject: str, text: str) -> None:
        self.word = word
        self.subject = subject
        self.text = text


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """What is told of one recipient."""

    address: str
    status: str  # RFC 3463
    reply: str  # what was said last
    remote: str | None  # the host that said it
    orcpt: str | None  # ORCPT as it was given, xtext (RFC 3461 §4.2)
    last_attempt: datetime | None
    retry_until: datetime | None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a notification says."""

    action: Action
    hostname: str
    to: str
    recipients: Sequence[RecipientReport]
    arrived_at: datetime
    date: datetime
    token: str  # random, for the boundary and the Message-ID
    envid: str | None  # as it was given, xtext
    original: bytes  # the message; empty when it cannot be read
    full: bool  # whether all of it goes back, or its header only
    deliver_by: datetime | None = None  # RFC 2852 §5


def compose(report: Report) -> bytes:
    """Return the notification, ready to be sent."""
    header = b""
    if report.original:
        block = HeaderBlock(report.original)
        header = report.original[block.start : block.end]
    status = _delivery_status(report)
    returned = report.original if report.full else header
    # RFC 6533 §3: other types where addresses or headers are not ASCII
    utf8 = not (status.isascii() and report.to.isascii() and header.isascii())
    eight_bit = utf8 or not returned.isascii()
    encoding = b"8bit" if eight_bit else b"7bit"
    boundary = f"=_{report.token}"
    kind = (
        ("message/global" if utf8 else "message/rfc822")
        if report.full
        else ("message/global-headers" if utf8 else "text/rfc822-headers")
    )
    parts = [
        (b"text/plain; charset=utf-8", b"8bit" if utf8 else b"7bit", _text(report).encode()),
        (
            b"message/global-delivery-status" if utf8 else b"message/delivery-status",
            b"8bit" if utf8 else b"7bit",
            status.encode(),
        ),
    ]
    if returned:
        parts.append((kind.encode(), encoding, returned))
    pieces = [_header(report, boundary, encoding, header), b"\r\n"]
    for kind_of_part, encoding_of_part, body in parts:
        pieces.append(
            b"--%b\r\nContent-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b"
            % (boundary.encode(), kind_of_part, encoding_of_part, body)
        )
        pieces.append(b"" if body.endswith(b"\r\n") else b"\r\n")
    pieces.append(b"\r\n--%b--\r\n" % boundary.encode())
    return b"".join(pieces)


def _header(report: Report, boundary: str, encoding: bytes, original: bytes) -> bytes:
    block = HeaderBlock(original)
    subject = _value(block, "subject")[:MAX_SUBJECT]
    title = report.action.subject + (f": {subject}" if subject else "")
    reference = _value(block, "message-id")
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{report.hostname}>",
        f"To: <{report.to}>",
        *textwrap.wrap(f"Subject: {title}", WIDTH, subsequent_indent=" ", break_on_hyphens=False),
        f"Date: {format_datetime(report.date)}",
        f"Message-ID: <{report.token}@{report.hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f' boundary="{boundary}"',
        f"Content-Transfer-Encoding: {encoding.decode()}",
    ]
    if reference and len(reference) < 900:
        lines += [f"In-Reply-To: {reference}", f"References: {reference}"]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _value(block: HeaderBlock, name: str) -> str:
    """Return the value of a field on one line; empty when it is not there or not text."""
    for field in block:
        if field.name.lower() == name:
            try:
                return " ".join(_UNSAFE.sub(" ", field.value.decode()).split())
            except UnicodeDecodeError:
                return ""
    return ""


def _text(report: Report) -> str:
    lines = [f"This is the mail system at {report.hostname}.", ""]
    lines += [*textwrap.wrap(report.action.text, WIDTH), ""]
    for each in report.recipients:
        lines.append(f"<{each.address}>")
        source = f"{each.remote} said: " if each.remote else ""
        lines += textwrap.wrap(
            source + each.reply, WIDTH, initial_indent="    ", subsequent_indent="    "
        )
        if report.action is Action.DELAYED and each.retry_until is not None:
            lines.append(f"    Attempts go on until {format_datetime(each.retry_until)}.")
        lines.append("")
    return "".join(_UNSAFE.sub(" ", line) + "\r\n" for line in lines)


def _delivery_status(report: Report) -> str:
    """Return the fields of RFC 3464 §2: of the message, then of each recipient."""
    by = report.deliver_by
    groups = [
        [
            *([f"Original-Envelope-Id: {from_xtext(report.envid)}"] if report.envid else []),
            f"Reporting-MTA: dns; {report.hostname}",
            f"Arrival-Date: {format_datetime(report.arrived_at)}",
            *([f"Deliver-By-Date: {format_datetime(by)}"] if by else []),
        ]
    ]
    for each in report.recipients:
        kind = "rfc822" if each.address.isascii() else "utf-8"
        fields = [_original_recipient(each.orcpt)] if each.orcpt else []
        fields += [
            f"Final-Recipient: {kind}; {each.address}",
            f"Action: {report.action.word}",
            f"Status: {each.status}",
        ]
        if each.remote:
            fields.append(f"Remote-MTA: dns; {each.remote}")
        if each.reply:
            fields.append(f"Diagnostic-Code: smtp; {each.reply}")
        if each.last_attempt is not None:
            fields.append(f"Last-Attempt-Date: {format_datetime(each.last_attempt)}")
        if report.action is Action.DELAYED and each.retry_until is not None:
            fields.append(f"Will-Retry-Until: {format_datetime(each.retry_until)}")
        groups.append(fields)
    return "\r\n".join("".join(map(_folded, fields)) for fields in groups) + "\r\n"


def _original_recipient(orcpt: str) -> str:
    kind, _, address = orcpt.partition(";")
    return f"Original-Recipient: {kind}; {from_xtext(address)}"


def from_xtext(text: str) -> str:
    """Decode xtext (RFC 3461 §4); what would end a line becomes a blank."""
    decoded = _XTEXT.sub(lambda match: chr(int(match[1], 16)), text)
    return _UNSAFE.sub(" ", decoded)


def _folded(line: str) -> str:
    """Fold a field at blanks, so that no line is too long (RFC 5322 §2.1.1)."""
    clean = _UNSAFE.sub(" ", line)
    if len(clean) <= WIDTH:
        return f"{clean}\r\n"
    wrapped = textwrap.wrap(
        clean, WIDTH, subsequent_indent=" ", break_on_hyphens=False, break_long_words=False
    )
    return "".join(f"{part}\r\n" for part in wrapped)
