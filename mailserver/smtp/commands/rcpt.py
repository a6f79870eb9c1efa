"""RCPT (RFC 5321 §4.1.1.3)."""

import logging
from dataclasses import dataclass, replace
from typing import Any

from mailserver.smtp.commands.mail import NEEDS_SMTPUTF8, NO_PARAMETERS
from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.parameters import (
    RCPT_PARAMETERS,
    parse_parameters,
)
from mailserver.smtp.protocol.paths import Path, parse_forward_path
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.session import Judged, Session

log = logging.getLogger(__name__)

OK = Reply(250, "2.1.5", "Recipient OK")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")


@dataclass(frozen=True, slots=True)
class Rcpt:
    """The forward-path and the parameters by keyword."""

    path: Path
    parameters: dict[str, Any]


def parse(argument: str) -> Rcpt:
    """Rcpt = "RCPT TO:" Forward-path [SP Rcpt-parameters] (RFC 5321 §4.1.1.3)."""
    path, parameters = parse_forward_path(argument)
    return Rcpt(path, parse_parameters(parameters, RCPT_PARAMETERS))


async def rcpt(session: Session, command: Rcpt) -> Reply:
    """Take one more recipient, once it is known that mail can reach it."""
    envelope = session.envelope
    if envelope is None or envelope.reception is not None:
        return replies.BAD_SEQUENCE
    parameters = command.parameters
    if parameters and not session.esmtp:
        return NO_PARAMETERS
    if len(envelope.recipients) >= session.mail.config.smtp.max_recipients:
        return TOO_MANY_RECIPIENTS
    path = command.path
    if not envelope.smtputf8 and not path.is_ascii:
        return NEEDS_SMTPUTF8
    try:
        recipient = await session.policy.recipient(session, path)
    except Refused as refusal:
        log.info(
            "recipient refused",
            extra={
                "session": session.id,
                "peer": session.peer,
                "sender": envelope.sender.text,
                "recipient": path.text,
                "reply": f"{refusal.reply.code} {refusal.reply.status}",
            },
        )
        session.record(
            "recipient",
            refusal.reply,
            sender=envelope.sender.text,
            recipients=[path],
            verdict=refusal.verdict if isinstance(refusal, Judged) else None,
        )
        raise
    envelope.recipients.append(
        replace(recipient, notify=parameters.get("NOTIFY"), orcpt=parameters.get("ORCPT"))
    )
    return OK
