"""Mail from other servers, port 25: for our users only, and taken as it is."""

from mailserver.mail import delivery
from mailserver.mail.originals import return_path
from mailserver.model import IdKind, id_text
from mailserver.smtp.policy import routing
from mailserver.smtp.protocol.framing import Data
from mailserver.smtp.protocol.paths import Path
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.session import Accepted, Envelope, Recipient, Session

RELAYING_DENIED = Reply(550, "5.7.1", "Relaying denied")
# Passed on, a lone CR or LF is what lets one message look like two (RFC 5321 §2.3.8).
BARE_LINE_END = Reply(
    550,
    "5.6.11",
    "The message has a CR or an LF that is not part of a CR LF (RFC 5321 section 2.3.8)",
    ("Make every line of it end with CR LF and send it again",),
)


class MxPolicy:
    """Anybody may send to a user here, and to nobody else."""

    authentication = False

    async def sender(self, session: Session, envelope: Envelope) -> None:
        """Let anybody send."""

    async def recipient(self, session: Session, path: Path) -> Recipient:
        """Accept users here that have room."""
        found = await routing.resolve(session.mail, path)
        if not found.local:
            raise Refused(RELAYING_DENIED)
        size = session.envelope.size if session.envelope else 0
        return routing.local_recipient(path, found, size)

    async def accept(self, session: Session, envelope: Envelope, data: Data) -> Accepted:
        """Deliver to the INBOX of every recipient."""
        if data.bare:
            raise Refused(BARE_LINE_END)
        raw = b"".join(
            (return_path(envelope.sender.text), routing.trace(session, envelope), data.content)
        )
        done = await delivery.accept(
            session.mail,
            raw,
            routing.targets(envelope),
            received_at=session.mail.now(),
            sender=envelope.sender.text,
        )
        email = id_text(IdKind.EMAIL, done.delivered[0].email_id)
        return Accepted(email, len(done.delivered), 0)
