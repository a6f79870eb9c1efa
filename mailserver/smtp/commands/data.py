"""DATA (RFC 5321 §4.1.1.4)."""

import logging

from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.session import Accepted, Envelope, Session

log = logging.getLogger(__name__)

NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")


async def data(session: Session, _: None) -> Reply:
    """Take the message; the 250 is sent after the commit, and is the promise to keep it."""
    envelope = session.envelope
    if envelope is None:
        return replies.BAD_SEQUENCE
    if not envelope.recipients:
        return NO_RECIPIENTS
    began = session.clock()
    size = 0
    try:
        content = await session.wire.receive(session.mail.config.smtp.max_message_size)
        size = len(content.content)
        accepted = await session.policy.accept(session, envelope, content)
    except Refused as refusal:
        outcome = f"{refusal.reply.code} {refusal.reply.status}"
        _log(session, envelope, None, outcome, size, began)
        raise
    except Exception as error:
        _log(session, envelope, None, type(error).__name__, size, began)
        raise
    finally:
        session.reset()
    session.messages += 1
    session.mail.metrics.messages_received.inc()
    _log(session, envelope, accepted, "accepted", size, began)
    return Reply(250, "2.0.0", f"OK {accepted.id}")


def _log(
    session: Session,
    envelope: Envelope,
    accepted: Accepted | None,
    outcome: str,
    size: int,
    began: float,
) -> None:
    log.info(
        "message accepted" if accepted else "message refused",
        extra={
            "session": session.id,
            "peer": session.peer,
            "account": session.principal.login if session.principal else None,
            "sender": envelope.sender.text,
            "recipients": len(envelope.recipients),
            "size": size,
            "message_id": accepted.id if accepted else None,
            "outcome": outcome,
            "seconds": round(session.clock() - began, 4),
        },
    )
