"""Where a recipient's mail goes, the same for both policies."""

from mailserver.address import Address
from mailserver.mail import accounts, recipients
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.mail.recipients import Resolution
from mailserver.model import Account
from mailserver.smtp.protocol.paths import Path
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.protocol.trace import Trace, with_protocol
from mailserver.smtp.session import Envelope, Recipient, Session

NO_SUCH_USER = Reply(550, "5.1.1", "No such user here")
MAILBOX_FULL = Reply(452, "4.2.2", "Mailbox full")
NEVER_FITS = Reply(552, "5.2.2", "Message larger than the mailbox may grow")


async def resolve(mail: Mail, path: Path) -> Resolution:
    """Find out whether a recipient is here, and which accounts it leads to."""
    if path.address is not None:
        return await recipients.resolve(mail, path.address)
    # <Postmaster> without a domain: that of any domain here (RFC 5321 §4.5.1)
    for domain in await accounts.list_domains(mail):
        found = await recipients.resolve(mail, Address("postmaster", domain))
        if found.accounts:
            return found
    return Resolution(local=True)


def local_recipient(path: Path, found: Resolution, size: int) -> Recipient:
    """Accept a recipient here; Refused when nobody has that address, or has no room."""
    if not found.accounts:
        raise Refused(NO_SUCH_USER)
    for account in found.accounts:
        _check_room(account, size)
    return Recipient(path, found.accounts)


def _check_room(account: Account, size: int) -> None:
    """Refuse a full mailbox for now, and for good what it could never hold."""
    limit = account.quota_limit
    if limit is None:
        return
    if size > limit:
        raise Refused(NEVER_FITS)
    if account.quota_used >= limit:
        raise Refused(MAILBOX_FULL)


def targets(envelope: Envelope) -> list[Target]:
    """Return each account here once."""
    found = {
        account.id: Target(account.id)
        for recipient in envelope.recipients
        for account in recipient.accounts
    }
    return list(found.values())


def trace(session: Session, envelope: Envelope) -> bytes:
    """Return the Received field of this hop."""
    only = envelope.recipients[0].path.text if len(envelope.recipients) == 1 else ""
    return bytes(
        Trace(
            helo=session.helo,
            peer=session.peer,
            hostname=session.hostname,
            protocol=with_protocol(
                esmtp=session.esmtp,
                tls=bool(session.tls),
                authenticated=session.principal is not None,
                smtputf8=envelope.smtputf8,
            ),
            tls=session.tls,
            id=session.id,
            date=session.mail.now(),
            recipient=only,
        )
    )
