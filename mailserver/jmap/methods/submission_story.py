"""What becomes of submissions, written down for those who ask later, as SMTP does of its own."""

from mailserver.antispam.trace import Place, Story
from mailserver.jmap.protocol.envelope import Envelope
from mailserver.jmap.session import Session
from mailserver.mail import sending
from mailserver.mail.submissions import Sent


def accepted(
    session: Session, envelope: sending.Envelope, sent: Sent, shown: str, size: int
) -> None:
    """Tell of a message that was sent; `shown` is the id of the submission."""
    here = {account.login for each in envelope.local for account in each.accounts}
    _write(
        session,
        action="accepted",
        reply=f"EmailSubmission {shown} created",
        sender=envelope.sender,
        recipients=tuple(each.text for each in envelope.recipients),
        size=size,
        message_id=sent.message_id.strip("<>"),
        stored=sent.stored,
        places=tuple(Place(login, "inbox") for login in sorted(here)),
    )


def refused(session: Session, asked: Envelope | None, error: str, *, later: bool) -> None:
    """Tell of a message that was not sent, with the type of the SetError."""
    _write(
        session,
        action="deferred" if later else "refused",
        reply=f"EmailSubmission not created: {error}",
        sender=(asked.mail_from.email or "") if asked is not None else session.principal.login,
        recipients=tuple(path.email for path in asked.rcpt_to) if asked is not None else (),
    )


def _write(
    session: Session,
    *,
    action: str,
    reply: str,
    sender: str,
    recipients: tuple[str, ...],
    size: int = 0,
    message_id: str = "",
    stored: str = "",
    places: tuple[Place, ...] = (),
) -> None:
    if session.journal is None:
        return
    session.journal.write(
        Story(
            session=session.id,
            stage="message",
            action=action,
            reply=reply,
            peer=session.origin.peer,
            tls=session.origin.tls,
            login=session.principal.login,
            sender=sender,
            recipients=recipients,
            size=size,
            message_id=message_id,
            stored=stored,
            places=places,
        )
    )
