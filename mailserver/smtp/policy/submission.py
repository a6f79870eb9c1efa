"""Mail from users' programs, ports 587 and 465 (RFC 6409): to anybody, as oneself."""

from mailserver.address import Address
from mailserver.mail import delivery, recipients
from mailserver.mail.delivery import Target
from mailserver.model import AccountId, IdKind, id_text
from mailserver.queue.enqueue import Outgoing, OutgoingRecipient
from mailserver.smtp.policy import routing
from mailserver.smtp.protocol.framing import Data, repair_line_ends
from mailserver.smtp.protocol.originate import Original
from mailserver.smtp.protocol.paths import Path
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.protocol.trace import return_path
from mailserver.smtp.session import Accepted, Envelope, Recipient, Session

NEEDS_AUTHENTICATION = Reply(530, "5.7.0", "Authentication required")
NOT_YOURS = Reply(550, "5.7.1", "Sender address does not belong to you")
AUTHOR_NOT_YOURS = Reply(550, "5.7.1", "From or Sender address does not belong to you")


class SubmissionPolicy:
    """A user who logged in sends as one of the own addresses."""

    authentication = True

    async def sender(self, session: Session, envelope: Envelope) -> None:
        """Check that the reverse-path belongs to the account; the null one belongs to all."""
        address = envelope.sender.address
        if address is not None and not await _may_send(session, address):
            raise Refused(NOT_YOURS)

    async def recipient(self, session: Session, path: Path) -> Recipient:
        """Accept users here that have room, and everybody elsewhere."""
        found = await routing.resolve(session.mail, path)
        if not found.local:
            return Recipient(path, ())
        size = session.envelope.size if session.envelope else 0
        return routing.local_recipient(path, found, size)

    async def accept(self, session: Session, envelope: Envelope, data: Data) -> Accepted:
        """Deliver to users here and queue the rest, in one commit."""
        content = repair_line_ends(data.content) if data.bare else bytes(data.content)
        original = Original(content)
        for author in original.authors():
            if not await _may_send(session, author):
                raise Refused(AUTHOR_NOT_YOURS)
        now = session.mail.now()
        finished = original.finished(date=now, message_id=f"{session.token()}@{session.hostname}")
        outgoing = _outgoing(session, envelope)
        # Return-Path belongs to the final delivery (RFC 5321 §4.4): what leaves here has none.
        top = return_path(envelope.sender.text) if outgoing is None else b""
        targets: list[Target] = routing.targets(envelope)
        done = await delivery.accept(
            session.mail,
            b"".join((top, routing.trace(session, envelope), finished)),
            targets,
            received_at=now,
            outgoing=outgoing,
        )
        if done.queue_id is not None:
            shown = id_text(IdKind.QUEUE, done.queue_id)
        else:
            shown = id_text(IdKind.EMAIL, done.delivered[0].email_id)
        return Accepted(shown, len(done.delivered), len(outgoing.recipients) if outgoing else 0)


def _account(session: Session) -> AccountId:
    if session.principal is None:
        raise Refused(NEEDS_AUTHENTICATION)
    return session.principal.account_id


async def _may_send(session: Session, address: Address) -> bool:
    return await recipients.may_send_as(session.mail, _account(session), address)


def _outgoing(session: Session, envelope: Envelope) -> Outgoing | None:
    """Return the envelope of what leaves this server; None when nothing does."""
    leaving = tuple(
        OutgoingRecipient(recipient.path.text, recipient.path.address.domain)
        for recipient in envelope.recipients
        if not recipient.accounts and recipient.path.address is not None
    )
    if not leaving:
        return None
    return Outgoing(
        _account(session),
        envelope.sender.text,
        leaving,
        session.id,
        smtputf8=envelope.smtputf8,
        body=envelope.body,
    )
