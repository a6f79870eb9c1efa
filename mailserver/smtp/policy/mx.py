"""Mail from other servers, port 25: for our users only, once the checks have nothing against it."""

import re

from mailserver.antispam.evidence import Inquiry
from mailserver.antispam.gate import OPEN, Gate
from mailserver.antispam.pipeline import Pipeline
from mailserver.antispam.verdict import Action, Decision, Verdict
from mailserver.antispam.visit import Visit
from mailserver.errors import NotFound
from mailserver.mail import delivery, junk
from mailserver.mail.delivery import Onward, Target
from mailserver.mail.originals import return_path
from mailserver.model import IdKind, id_text
from mailserver.queue.enqueue import Outgoing
from mailserver.smtp.policy import routing
from mailserver.smtp.protocol.framing import Data
from mailserver.smtp.protocol.paths import Path
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.session import SMTP_GREETINGS, Accepted, Envelope, Judged, Recipient, Session

RELAYING_DENIED = Reply(550, "5.7.1", "Relaying denied")
# Passed on, a lone CR or LF is what lets one message look like two (RFC 5321 §2.3.8).
BARE_LINE_END = Reply(
    550,
    "5.6.11",
    "The message has a CR or an LF that is not part of a CR LF (RFC 5321 section 2.3.8)",
    ("Make every line of it end with CR LF and send it again",),
)
NOT_FORWARDED = Reply(550, "5.7.1", "Looks like spam, which is not forwarded")
MAX_REASON = 400  # octets of a reason in a reply; RFC 5321 §4.5.3.1.5 allows 512 for the line
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class MxPolicy:
    """Anybody may send to a user here, and to nobody else."""

    authentication = False
    greetings = SMTP_GREETINGS

    def __init__(self, gate: Gate = OPEN) -> None:
        self._pipeline = gate.pipeline

    async def connected(self, session: Session) -> None:
        """Refuse clients that nobody wants to hear of."""
        if self._pipeline is not None:
            visit = self._visit(self._pipeline, session)
            verdict = await self._pipeline.door.connected(visit)
            if not verdict.action.delivers:
                session.mail.metrics.spam_blocked.labels("connect").inc()
                raise Judged(Reply(421, "4.7.0", _text(verdict)), verdict)

    async def greeted(self, session: Session) -> None:
        """Begin to ask about the client."""
        if self._pipeline is not None:
            self._pipeline.door.greeted(self._visit(self._pipeline, session))

    def ended(self, session: Session) -> None:
        """Take note of how the client behaved."""
        if self._pipeline is not None and session.visit is not None:
            self._pipeline.door.ended(session.visit, session.errors)

    async def sender(self, session: Session, envelope: Envelope) -> None:
        """Let anybody send whom no check refuses."""
        if self._pipeline is not None:
            visit = self._visit(self._pipeline, session)
            verdict = await self._pipeline.door.sender(visit, envelope.sender.address)
            _demand(session, "sender", verdict)

    async def recipient(self, session: Session, path: Path) -> Recipient:
        """Accept users here that have room, from senders that no check refuses or puts off."""
        found = await routing.resolve(session.mail, path)
        if not found.local:
            raise Refused(RELAYING_DENIED)
        envelope = session.envelope
        recipient = routing.returning(session.mail, path, envelope.sender if envelope else None)
        if recipient is None:
            recipient = routing.local_recipient(path, found, envelope.size if envelope else 0)
        if self._pipeline is not None and envelope is not None:
            verdict = await self._pipeline.door.recipient(
                self._visit(self._pipeline, session), envelope.sender.address, path.address
            )
            _demand(session, "recipient", verdict)
        return recipient

    async def accept(self, session: Session, envelope: Envelope, data: Data) -> Accepted:
        """Deliver to the INBOX of every recipient, or to Junk where the checks say so."""
        if routing.has_bare_line_end(envelope, data):
            raise Refused(BARE_LINE_END)
        routing.check_hops(data.content)
        content, found = data.content, b""
        targets = routing.targets(envelope.recipients)
        decision = await self._judge(session, envelope, content)
        if decision is not None:
            _demand(session, "message", decision.verdict)
            content, found = decision.content, decision.top
        # binary parts that cannot be made lines, as of a signed message, are kept as they are
        if envelope.body == "BINARYMIME":
            content = await routing.as_lines(content) or content
        junk_for = {target.account_id for target in targets if _is_junk(decision, target)}
        outgoing = routing.reported(session, envelope, junk_for)
        # Return-Path belongs to the final delivery, which is then that of the queue
        top = return_path(envelope.sender.text) if outgoing is None else b""
        traced = b"".join((found, routing.trace(session, envelope), content))
        onward = await _onward(session, envelope, traced, decision)
        here = routing.at_once(envelope, outgoing)
        done = await self._deliver(
            session, envelope, top + traced, here, decision, outgoing, onward
        )
        if done.queue_id is not None:
            stored = id_text(IdKind.QUEUE, done.queue_id)
        else:
            stored = id_text(IdKind.EMAIL, done.delivered[0].email_id)
        waiting = len(outgoing.recipients) if outgoing else 0
        waiting += sum(len(each.outgoing.recipients) for each in onward)
        return Accepted(stored, len(done.delivered), waiting, decision)

    async def _judge(self, session: Session, envelope: Envelope, content: bytes) -> Decision | None:
        if self._pipeline is None:
            return None
        visit = self._visit(self._pipeline, session)
        inquiry = Inquiry(
            session.id,
            visit.client(),
            envelope.sender.address,
            tuple(each.path.address for each in envelope.recipients if each.path.address),
            content,
            session.mail.now(),
        )
        accounts = {
            account.id: account.login.rpartition("@")[2]
            for each in envelope.recipients
            for account in each.accounts
        }
        with session.mail.tracing.span("checks") as span:
            decision = await self._pipeline.message(visit, inquiry, accounts)
            verdict = decision.verdict
            span.note(action=verdict.action.name.lower(), score=verdict.score)
        return decision

    async def _deliver(
        self,
        session: Session,
        envelope: Envelope,
        raw: bytes,
        targets: list[Target],
        decision: Decision | None,
        outgoing: Outgoing | None,
        onward: list[Onward],
    ) -> delivery.Accepted:
        """Store the message; a Junk mailbox that is removed meanwhile is made again."""
        for last in (False, True):
            placed = targets if decision is None else await _placed(session, targets, decision)
            try:
                return await delivery.accept(
                    session.mail,
                    raw,
                    placed,
                    received_at=session.mail.now(),
                    outgoing=outgoing,
                    sender=envelope.sender.text,
                    onward=onward,
                )
            except NotFound:
                if last or placed == targets:
                    raise
        raise AssertionError

    def _visit(self, pipeline: Pipeline, session: Session) -> Visit:
        """Return what is known of the client; with another address it is another client."""
        visit = session.visit
        if visit is None or visit.ip != session.peer:
            visit = session.visit = pipeline.arrive(session.id, session.peer, session.mail.now())
        visit.helo, visit.tls = session.helo, session.tls
        return visit


async def _onward(
    session: Session, envelope: Envelope, traced: bytes, decision: Decision | None
) -> list[Onward]:
    """Return the copies for other servers; none of what is not wanted here.

    Refused, too, is what would reach nobody then: nothing that was accepted is dropped.
    """
    if decision is not None and decision.message is not Action.ACCEPT:
        if any(each.forwards and not each.accounts for each in envelope.recipients):
            session.mail.metrics.spam_blocked.labels("message").inc()
            raise Judged(NOT_FORWARDED, decision.verdict)
        return []
    return await routing.onward(session, envelope, envelope.recipients, traced)


def _is_junk(decision: Decision | None, target: Target) -> bool:
    verdict = decision.accounts.get(target.account_id) if decision is not None else None
    return verdict is not None and verdict.action is Action.JUNK


async def _placed(session: Session, targets: list[Target], decision: Decision) -> list[Target]:
    """Return where the message goes for each account."""
    placed = []
    for target in targets:
        if _is_junk(decision, target):
            session.mail.metrics.spam_blocked.labels("junk").inc()
            placed.append(await junk.target(session.mail, target.account_id))
        else:
            placed.append(target)
    return placed


def _demand(session: Session, stage: str, verdict: Verdict) -> None:
    """Refuse what a verdict refuses or puts off."""
    if verdict.action.delivers:
        return
    session.mail.metrics.spam_blocked.labels(stage).inc()
    raise Judged(_reply(verdict), verdict)


def _reply(verdict: Verdict) -> Reply:
    """Return the reply to a verdict that is not to deliver."""
    if verdict.action is Action.DEFER:
        return Reply(451, verdict.status or "4.7.1", _text(verdict))
    return Reply(550, verdict.status or "5.7.1", _text(verdict))


def _text(verdict: Verdict) -> str:
    """Return the reason as a reply has it."""
    return _UNPRINTABLE.sub("?", verdict.reason)[:MAX_REASON]
