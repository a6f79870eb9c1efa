"""Where a recipient's mail goes, the same for both policies."""

import asyncio
import re
from collections.abc import Container, Iterable

from mailserver.address import Address
from mailserver.mail import accounts
from mailserver.mail import recipients as directory
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Onward, Target
from mailserver.mail.forwarding import Letter, Passage, was_at
from mailserver.mail.recipients import Resolution
from mailserver.mime import HEADER_LIMIT
from mailserver.mime.recode import is_lines, to_lines
from mailserver.model import Account, AccountId
from mailserver.queue.enqueue import Outgoing, OutgoingRecipient
from mailserver.smtp.protocol.framing import Data
from mailserver.smtp.protocol.paths import Path
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.protocol.trace import Trace, with_protocol
from mailserver.smtp.session import Envelope, Recipient, Session

MAX_HOPS = 100  # Received fields; RFC 5321 §6.3 asks for at least that many
_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
ROUND_IN_CIRCLES = Reply(554, "5.4.6", "The message goes round in circles")
NO_SUCH_USER = Reply(550, "5.1.1", "No such user here")
DISABLED = Reply(550, "5.2.1", "Mailbox is disabled")
MAILBOX_FULL = Reply(452, "4.2.2", "Mailbox full")
NEVER_FITS = Reply(552, "5.2.2", "Message larger than the mailbox may grow")


async def resolve(mail: Mail, path: Path) -> Resolution:
    """Find out whether a recipient is here, and which accounts it leads to."""
    if path.address is not None:
        return await directory.resolve(mail, path.address)
    # <Postmaster> without a domain: that of any domain here (RFC 5321 §4.5.1)
    for domain in await accounts.list_domains(mail):
        found = await directory.resolve(mail, Address("postmaster", domain))
        if found.is_known:
            return found
    return Resolution(local=True)


def local_recipient(path: Path, found: Resolution, size: int) -> Recipient:
    """Accept a recipient here; Refused when nobody has that address, takes mail, or has room."""
    if not found.is_known:
        raise Refused(DISABLED if found.refuses else NO_SUCH_USER)
    for account in found.accounts:
        _check_room(account, size)
    return Recipient(path, found.accounts, forwards=found.forwards)


def returning(mail: Mail, path: Path, sender: Path | None) -> Recipient | None:
    """Return the recipient of a report about mail that was forwarded; None: it is none.

    Only what has the null sender is a report: with another one this would be a relay.
    """
    original = mail.forwarding.returns_to(path.text)
    if original is None or sender is None or sender.address is not None:
        return None
    return Recipient(path, (), forwards=(original,), is_report=True)


async def onward(
    session: Session, envelope: Envelope, recipients: Iterable[Recipient], traced: bytes
) -> list[Onward]:
    """Return the copies of a message, with its trace, for other servers; Refused in a circle."""
    passages = [
        Passage(None if each.is_report else each.path.address, each.forwards, each.notify)
        for each in recipients
        if each.forwards
    ]
    if any(each.alias is not None and was_at(traced, each.alias) for each in passages):
        raise Refused(ROUND_IN_CIRCLES)
    letter = Letter(
        envelope.sender.text,
        traced,
        session.id,
        smtputf8=envelope.smtputf8,
        body=envelope.body,
        require_tls=envelope.require_tls,
    )
    return await session.mail.forwarding.copies(letter, passages)


def _check_room(account: Account, size: int) -> None:
    """Refuse a full mailbox for now, and for good what it could never hold."""
    limit = account.quota_limit
    if limit is None:
        return
    if size > limit:
        raise Refused(NEVER_FITS)
    if account.quota_used >= limit:
        raise Refused(MAILBOX_FULL)


def check_hops(content: bytes) -> None:
    """Refuse a message that has been through too many servers to be on its way (RFC 5321 §6.3).

    Servers put their trace on top, so what is further down in a huge header is not theirs.
    """
    end = content.find(b"\r\n\r\n", 0, HEADER_LIMIT)
    hops = _RECEIVED.findall(content, 0, end + 2 if end >= 0 else HEADER_LIMIT)
    if len(hops) > MAX_HOPS:
        raise Refused(ROUND_IN_CIRCLES)


def has_bare_line_end(envelope: Envelope, data: Data) -> bool:
    """Tell whether a lone CR or LF is where none may be: only parts of a message may be binary.

    Other readers take one in a header for the end of a field, behind which anything can be written.
    """
    if envelope.body != "BINARYMIME":
        return data.bare
    end = data.content.find(b"\r\n\r\n")
    return not is_lines(data.content[: end + 2] if end >= 0 else data.content)


async def as_lines(content: bytes) -> bytes | None:
    """Return a message without NUL and lone line ends, its binary parts encoded; None if it can't.

    Signatures, filters and other servers know lines only, so BINARYMIME ends where it arrives.
    """
    if is_lines(content):
        return content
    return await asyncio.to_thread(to_lines, content)


def targets(recipients: Iterable[Recipient]) -> list[Target]:
    """Return each account here once."""
    found = {
        account.id: Target(account.id) for recipient in recipients for account in recipient.accounts
    }
    return list(found.values())


def reported(session: Session, envelope: Envelope, but: Container[AccountId]) -> Outgoing | None:
    """Return the recipients here whose delivery is to be reported: the queue delivers and reports.

    Nobody is told that spam has arrived: recipients of whom an account is in `but` are left out.
    """
    wanted = [
        each
        for each in envelope.recipients
        if envelope.sender.address is not None
        and each.path.address is not None  # <Postmaster> has none to report on
        and each.accounts
        and not each.forwards
        and "SUCCESS" in (each.notify or "").split(",")
        and not any(account.id in but for account in each.accounts)
    ]
    if not wanted:
        return None
    return Outgoing(
        wanted[0].accounts[0].id,
        envelope.sender.text,
        tuple(
            OutgoingRecipient(
                each.path.text, each.path.address.domain, each.notify, each.orcpt, here=True
            )
            for each in wanted
            if each.path.address is not None
        ),
        session.id,
        smtputf8=envelope.smtputf8,
        body="8BITMIME" if envelope.body == "BINARYMIME" else envelope.body,
        envid=envelope.envid,
        ret=envelope.ret,
        require_tls=envelope.require_tls,
        traceparent=session.mail.tracing.parent(),
    )


def at_once(envelope: Envelope, outgoing: Outgoing | None) -> list[Target]:
    """Return the accounts that get the message now: those that do not get it from the queue."""
    if outgoing is None:
        return targets(envelope.recipients)
    waiting = {each.address for each in outgoing.recipients}
    queued = {
        account.id
        for each in envelope.recipients
        if each.path.text in waiting
        for account in each.accounts
    }
    return [each for each in targets(envelope.recipients) if each.account_id not in queued]


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
                lmtp=session.speaks_lmtp,
            ),
            tls=session.tls,
            id=session.id,
            date=session.mail.now(),
            recipient=only,
        )
    )
