"""MAIL (RFC 5321 §4.1.1.2)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mailserver.mail import sending
from mailserver.mail.originals import Flaw, Unsendable
from mailserver.queue.rules import DeliverBy
from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.parameters import (
    MAIL_PARAMETERS,
    SUBMISSION_ONLY,
    UNKNOWN_PARAMETER,
    By,
    parse_parameters,
)
from mailserver.smtp.protocol.paths import Path, parse_reverse_path
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.session import Envelope, Judged, Session

OK = Reply(250, "2.1.0", "Sender OK")
NEEDS_AUTHENTICATION = Reply(530, "5.7.0", "Authentication required")
TOO_BIG = Reply(552, "5.3.4", "Message size exceeds fixed maximum message size")
NO_PARAMETERS = Reply(555, "5.5.4", "Parameters need EHLO")
ONE_HOLD = Reply(501, "5.5.4", "HOLDFOR and HOLDUNTIL exclude each other")
TOO_SOON = Reply(501, "5.5.4", "The message would go back before it is released")
TOO_LATE = Reply(501, "5.5.4", "Mail is not held for that long")
NEEDS_TLS = Reply(530, "5.7.10", "REQUIRETLS needs TLS here, too")  # RFC 8689 §4.1
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "Address needs SMTPUTF8")


@dataclass(frozen=True, slots=True)
class Mail:
    """The reverse-path and the parameters by keyword."""

    path: Path
    parameters: dict[str, Any]


def parse(argument: str) -> Mail:
    """Mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] (RFC 5321 §4.1.1.2)."""
    path, parameters = parse_reverse_path(argument)
    return Mail(path, parse_parameters(parameters, MAIL_PARAMETERS))


async def mail(session: Session, command: Mail) -> Reply:
    """Begin a transaction; `AUTH=` is accepted and not used (RFC 4954 §5)."""
    parameters = command.parameters
    obstacle = _obstacle(session, parameters)
    if obstacle is not None:
        return obstacle
    release_at = _release(session, parameters)
    envelope = Envelope(
        command.path,
        parameters.get("SIZE", 0),
        parameters.get("BODY", "7BIT"),
        parameters.get("SMTPUTF8", False),
        parameters.get("ENVID"),
        parameters.get("RET"),
        parameters.get("REQUIRETLS", False),
        release_at,
        _deliver_by(session, parameters, release_at),
        min(parameters.get("MT-PRIORITY", 0), sending.MAX_PRIORITY),
    )
    if envelope.size > session.mail.config.smtp.max_message_size:
        return TOO_BIG
    if not envelope.smtputf8 and not command.path.is_ascii:
        return NEEDS_SMTPUTF8
    try:
        await session.policy.sender(session, envelope)
    except Refused as refusal:
        session.record(
            "sender",
            refusal.reply,
            sender=command.path.text,
            verdict=refusal.verdict if isinstance(refusal, Judged) else None,
        )
        raise
    session.envelope = envelope
    asked = parameters.get("MT-PRIORITY", envelope.priority)
    if asked != envelope.priority:  # RFC 6710 §4.1
        return Reply(250, "2.3.6", f"{envelope.priority} is the new priority")
    return OK


def _obstacle(session: Session, parameters: dict[str, Any]) -> Reply | None:
    """Return why no transaction can begin now, or not with these parameters."""
    if not session.helo or session.envelope is not None:
        return replies.BAD_SEQUENCE
    if session.policy.authentication and session.principal is None:
        return NEEDS_AUTHENTICATION
    if parameters and not session.esmtp:
        return NO_PARAMETERS
    if not session.policy.authentication and not SUBMISSION_ONLY.isdisjoint(parameters):
        return UNKNOWN_PARAMETER
    if "REQUIRETLS" in parameters and not session.tls:
        return NEEDS_TLS
    return None


def _deliver_by(
    session: Session, parameters: dict[str, Any], release_at: datetime | None
) -> DeliverBy | None:
    """Return until when the message has to be delivered; Refused when it could not be."""
    by: By | None = parameters.get("BY")
    if by is None:
        return None
    try:
        return sending.in_time(
            session.mail,
            by.seconds,
            returns=by.returns,
            traced=by.traced,
            release_at=release_at,
        )
    except Unsendable:
        raise Refused(TOO_SOON) from None


def _release(session: Session, parameters: dict[str, Any]) -> datetime | None:
    """Return when the message may leave; Refused when that is too late (RFC 4865 §4.2)."""
    try:
        return sending.released(
            session.mail, parameters.get("HOLDFOR"), parameters.get("HOLDUNTIL")
        )
    except Unsendable as error:
        raise Refused(ONE_HOLD if error.flaw is Flaw.HELD_TWICE else TOO_LATE) from None
