"""APPEND."""

from mailserver.errors import NotFound
from mailserver.imap.protocol.append import Append
from mailserver.imap.session import Refused, Session
from mailserver.mail import delivery, mailboxes


async def append(session: Session, command: Append) -> bytes:
    """Store a message in a mailbox and tell its UID (RFC 3501 §6.3.11, RFC 4315 §3)."""
    mail, account = session.mail, session.account
    try:
        mailbox = await mailboxes.by_path(mail, account, command.mailbox)
    except NotFound:
        raise Refused(b"TRYCREATE", "There is no such mailbox") from None
    if not command.message:
        raise Refused(b"CANNOT", "A message cannot be empty")
    accepted = await delivery.accept(
        mail,
        command.message,
        [delivery.Target(account, mailbox.id, command.flags)],
        received_at=command.received_at or mail.now(),
        enforce_quota=True,
    )
    stored = accepted.delivered[0]
    return b"APPENDUID %d %d" % (stored.uidvalidity, stored.uid)
