"""Mail from users' programs, ports 587 and 465 (RFC 6409): to anybody, as oneself."""

from mailserver.antispam.gate import OPEN, Gate
from mailserver.mail import accounts, recipients, sending
from mailserver.mail.originals import Flaw, Original, Unsendable, repair_line_ends
from mailserver.model import AccountId, IdKind, id_text
from mailserver.smtp.policy import routing
from mailserver.smtp.protocol.framing import Data
from mailserver.smtp.protocol.paths import Path
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.session import SMTP_GREETINGS, Accepted, Envelope, Recipient, Session

NEEDS_AUTHENTICATION = Reply(530, "5.7.0", "Authentication required")
SHUT_OUT = Reply(421, "4.7.0", "The account is disabled, closing connection")
NOT_YOURS = Reply(550, "5.7.1", "Sender address does not belong to you")
CANNOT_CONVERT = Reply(554, "5.6.3", "Binary parts of a signed message cannot be sent on")
NO_AUTHOR = Reply(550, "5.6.0", "The message needs exactly one From field with an address")
REPLIES: dict[Flaw, Reply] = {
    Flaw.NO_HEADER: Reply(550, "5.6.0", "The message has no header that can be read"),
    Flaw.AUTHOR_NOT_YOURS: Reply(550, "5.7.1", "From or Sender address does not belong to you"),
    Flaw.ACCOUNT_HELD: Reply(
        550, "5.7.1", "Sending is held for this account; ask who runs the server"
    ),
    Flaw.TOO_FAST: Reply(451, "4.7.0", "Too many messages or recipients, try again later"),
}


class SubmissionPolicy:
    """A user who logged in sends as one of the own addresses."""

    authentication = True
    greetings = SMTP_GREETINGS

    def __init__(self, gate: Gate = OPEN) -> None:
        self._gate = gate

    async def connected(self, session: Session) -> None:
        """Let anybody come: who it is says the login."""

    async def greeted(self, session: Session) -> None:
        """Take no note."""

    def ended(self, session: Session) -> None:
        """Take no note."""

    async def sender(self, session: Session, envelope: Envelope) -> None:
        """Check that the reverse-path belongs to the account; the null one belongs to all.

        An account that was disabled since the login has none, and the session ends.
        """
        address, account = envelope.sender.address, _own(session)
        if address is not None and await recipients.may_send_as(session.mail, account, address):
            return
        if not await accounts.is_enabled(session.mail, account):
            raise Refused(SHUT_OUT)
        if address is not None:
            raise Refused(NOT_YOURS)

    async def account(self, session: Session, envelope: Envelope) -> AccountId:
        """Return whose message it is."""
        return _own(session)

    async def checked(self, session: Session, account: AccountId, content: bytes) -> Original:
        """Return the message when its authors are the account's addresses; Unsendable."""
        return await sending.checked(session.mail, account, content)

    async def admit(self, session: Session, sent: sending.Envelope) -> None:
        """Count what is sent; Unsendable when it is too much for a user."""
        await sending.admit(session.mail, sent)

    async def recipient(self, session: Session, path: Path) -> Recipient:
        """Accept users here that have room, and everybody elsewhere."""
        found = await routing.resolve(session.mail, path)
        if not found.local:
            return Recipient(path, ())
        size = session.envelope.size if session.envelope else 0
        recipient = routing.local_recipient(path, found, size)
        # the queue delivers to all that an alias leads to
        return Recipient(path, (), forwards=found.forwards) if found.forwards else recipient

    async def accept(self, session: Session, envelope: Envelope, data: Data) -> Accepted:
        """Deliver to users here and queue the rest, in one commit."""
        binary = envelope.body == "BINARYMIME"
        text = repair_line_ends(data.content) if data.bare and not binary else data.content
        content = await routing.as_lines(text)
        if content is None:
            raise Refused(CANNOT_CONVERT)
        account = await self.account(session, envelope)
        sent = sending.Envelope(
            account,
            envelope.sender.text,
            tuple(map(_recipient, envelope.recipients)),
            session.id,
            smtputf8=envelope.smtputf8,
            body="8BITMIME" if binary else envelope.body,
            envid=envelope.envid,
            ret=envelope.ret,
            require_tls=envelope.require_tls,
            release_at=envelope.release_at,
            deliver_by=envelope.deliver_by,
            priority=envelope.priority,
        )
        try:
            original = await self.checked(session, account, content)
            await self.admit(session, sent)
        except Unsendable as error:
            raise Refused(REPLIES.get(error.flaw, NO_AUTHOR)) from None
        done = await sending.send(
            session.mail,
            original,
            sent,
            routing.trace(session, envelope),
            message_id=f"{session.token()}@{session.hostname}",
        )
        if done.queue_id is not None:
            shown = id_text(IdKind.QUEUE, done.queue_id)
        else:
            shown = id_text(IdKind.EMAIL, done.delivered[0].email_id)
        return Accepted(shown, len(done.delivered), len(sent.queued))


def _own(session: Session) -> AccountId:
    if session.principal is None:
        raise Refused(NEEDS_AUTHENTICATION)
    return session.principal.account_id


def _recipient(accepted: Recipient) -> sending.Recipient:
    address = accepted.path.address
    return sending.Recipient(
        accepted.path.text,
        address.domain if address is not None else "",
        accepted.accounts,
        accepted.notify,
        accepted.orcpt,
        is_alias=bool(accepted.forwards),
    )
