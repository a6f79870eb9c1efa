"""DATA and BDAT (RFC 5321 §4.1.1.4, RFC 3030)."""

import logging
import re
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import cast

from mailserver.antispam.trace import Place
from mailserver.antispam.verdict import Action, Verdict
from mailserver.mime.headers import below_fields
from mailserver.smtp.commands.failures import reply_to
from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.bdat import Bdat
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.session import Accepted, Disconnected, EachPolicy, Envelope, Judged, Session
from mailserver.tracing import Span

log = logging.getLogger(__name__)

MAX_HEADER = 64 * 1024  # octets in which the Message-ID is looked for
_MESSAGE_ID = re.compile(
    rb"^message-id:(?:[ \t]|\r\n[ \t])*<?([^<>\s]{1,300})", re.IGNORECASE | re.MULTILINE
)
NEEDS_BDAT = Reply(503, "5.5.1", "BINARYMIME needs BDAT")  # RFC 3030 §3


async def data(session: Session, _: None) -> Reply:
    """Take the message; the 250 is sent after the commit, and is the promise to keep it."""
    envelope = session.envelope
    if envelope is None or envelope.reception is not None:
        return replies.BAD_SEQUENCE
    if envelope.body == "BINARYMIME":
        return NEEDS_BDAT
    if not envelope.recipients:
        return replies.NO_RECIPIENTS
    envelope.reception = session.wire.reception()
    return await _taken(session, envelope, session.wire.receive(envelope.reception))


async def bdat(session: Session, chunk: Bdat) -> Reply:
    """Take a piece of the message, and with the last one the message (RFC 3030 §2)."""
    envelope = session.envelope
    refusal = _refusal(session, envelope)
    if refusal is not None or envelope is None:
        # the octets are there whatever is said of them, and are no commands
        unwanted = session.wire.reception()
        unwanted.fail(replies.BAD_SEQUENCE)
        await session.wire.receive_chunk(chunk.size, unwanted)
        session.reset()
        return refusal or replies.BAD_SEQUENCE
    reception = envelope.reception = envelope.reception or session.wire.reception()
    receiving = session.wire.receive_chunk(chunk.size, reception)
    if chunk.last:
        return await _taken(session, envelope, receiving)
    await receiving
    if reception.failure is not None:
        failure = reception.failure
        session.reset()
        return failure
    return Reply(250, "2.6.0", f"{chunk.size} octets received")


def _refusal(session: Session, envelope: Envelope | None) -> Reply | None:
    if envelope is None or not session.esmtp:
        return replies.BAD_SEQUENCE
    return None if envelope.recipients else replies.NO_RECIPIENTS


async def _taken(session: Session, envelope: Envelope, receiving: Awaitable[None]) -> Reply:
    """Read what is left of the message, and store it."""
    with session.mail.tracing.span(
        "message", session=session.id, recipients=len(envelope.recipients)
    ) as span:
        return await _stored(session, envelope, receiving, span)


async def _stored(
    session: Session, envelope: Envelope, receiving: Awaitable[None], span: Span
) -> Reply:
    assert envelope.reception is not None
    began = session.clock()
    content = b""
    try:
        await receiving
        received = await envelope.reception.content()
        received = replace(received, content=below_fields(received.content))
        content = received.content
        if session.speaks_lmtp:
            policy = cast(EachPolicy, session.policy)
            outcomes = await policy.accept_each(session, envelope, received)
            return _answer_each(session, envelope, outcomes, content, began)
        accepted = await session.policy.accept(session, envelope, received)
    except Disconnected:
        _log(session, envelope, None, "Disconnected", len(content), began)
        raise
    except Exception as error:
        reply = reply_to(error)
        refused = isinstance(error, Refused)
        outcome = f"{reply.code} {reply.status}" if refused else type(error).__name__
        _log(session, envelope, None, outcome, len(content), began)
        span.note(size=len(content), outcome=outcome)
        verdict = error.verdict if isinstance(error, Judged) else None
        _record(session, envelope, reply, content, verdict)
        if session.speaks_lmtp:  # one reply for each recipient, also to what concerns all of them
            for _ in envelope.recipients[1:]:
                session.wire.say(reply)
        raise
    finally:
        session.reset()
    session.messages += 1
    session.mail.metrics.messages_received.inc()
    _log(session, envelope, accepted, "accepted", len(content), began)
    span.note(size=len(content), outcome="accepted", message_id=accepted.id)
    reply = Reply(250, "2.0.0", f"OK {accepted.id}")
    verdict = accepted.decision.verdict if accepted.decision else None
    _record(session, envelope, reply, content, verdict, accepted)
    return reply


def _answer_each(
    session: Session,
    envelope: Envelope,
    outcomes: Sequence[Accepted | Exception],
    content: bytes,
    began: float,
) -> Reply:
    """Say what became of each recipient, in the order of RCPT (RFC 2033 §4.2)."""
    answers: list[Reply] = []
    for recipient, outcome in zip(envelope.recipients, outcomes, strict=True):
        only = replace(envelope, recipients=[recipient])
        if isinstance(outcome, Exception):
            reply, accepted = reply_to(outcome), None
        else:
            reply, accepted = Reply(250, "2.0.0", f"<{recipient.path.text}> {outcome.id}"), outcome
        text = "accepted" if accepted else f"{reply.code} {reply.status}"
        _log(session, only, accepted, text, len(content), began)
        _record(session, only, reply, content, None, accepted)
        answers.append(reply)
    if any(reply.code == 250 for reply in answers):
        session.messages += 1
        session.mail.metrics.messages_received.inc()
    for reply in answers[:-1]:
        session.wire.say(reply)
    return answers[-1]


def _record(
    session: Session,
    envelope: Envelope,
    reply: Reply,
    content: bytes,
    verdict: Verdict | None,
    accepted: Accepted | None = None,
) -> None:
    """Write down what became of the message."""
    session.record(
        "message",
        reply,
        sender=envelope.sender.text,
        recipients=[each.path for each in envelope.recipients],
        verdict=verdict,
        places=_places(envelope, accepted) if accepted else (),
        stored=accepted.id if accepted else "",
        message_id=_message_id(content),
        size=len(content),
    )


def _places(envelope: Envelope, accepted: Accepted) -> list[Place]:
    """Return where each account here has the message, and why."""
    decided = accepted.decision.accounts if accepted.decision else {}
    places = {}
    for account in (account for each in envelope.recipients for account in each.accounts):
        verdict = decided.get(account.id)
        is_junk = verdict is not None and verdict.action is Action.JUNK
        places[account.id] = Place(
            account.login,
            "junk" if is_junk else "inbox",
            verdict.reason if verdict else "",
            verdict.score if verdict else 0.0,
        )
    return list(places.values())


def _message_id(content: bytes) -> str:
    """Return the Message-ID of a message without its brackets; empty when it has none."""
    end = content.find(b"\r\n\r\n")
    found = _MESSAGE_ID.search(content, 0, min(end if end >= 0 else len(content), MAX_HEADER))
    return found[1].decode("utf-8", "replace") if found else ""


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
