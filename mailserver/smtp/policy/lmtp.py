"""Mail for users here from a server in front, by LMTP (RFC 2033): nothing is queued for them."""

import asyncio

from mailserver.antispam.gate import OPEN, Gate
from mailserver.errors import MailError
from mailserver.mail import delivery
from mailserver.mail.delivery import Delivered, Target
from mailserver.mail.originals import return_path
from mailserver.model import AccountId, IdKind, id_text
from mailserver.networks import Networks
from mailserver.smtp.policy import routing
from mailserver.smtp.policy.mx import BARE_LINE_END, RELAYING_DENIED
from mailserver.smtp.protocol.framing import Data
from mailserver.smtp.protocol.paths import Path
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.session import LMTP_GREETINGS, Accepted, Envelope, Recipient, Session

STRANGER = Reply(554, "5.7.1", "You are not in a network that may deliver here")


class LmtpPolicy:
    """Trusted networks deliver to users here; each recipient succeeds or fails alone."""

    authentication = False
    greetings = LMTP_GREETINGS

    def __init__(self, gate: Gate = OPEN) -> None:
        """Take the checks of what arrives; the server in front has made its own."""

    async def connected(self, session: Session) -> None:
        """Refuse who is not in a configured network."""
        if session.peer not in Networks(session.mail.config.smtp.lmtp_networks):
            raise Refused(STRANGER)

    async def greeted(self, session: Session) -> None:
        """Take no note."""

    def ended(self, session: Session) -> None:
        """Take no note."""

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
        """Store the message for every recipient, or for none."""
        (first, *others) = await self.accept_each(session, envelope, data)
        for each in (first, *others):
            if isinstance(each, Exception):
                raise each
        assert isinstance(first, Accepted)
        return first

    async def accept_each(
        self, session: Session, envelope: Envelope, data: Data
    ) -> list[Accepted | Exception]:
        """Store the message for each account, all at the same time, and return what became of it.

        An account that several recipients lead to gets it once.
        """
        if routing.has_bare_line_end(envelope, data):
            raise Refused(BARE_LINE_END)
        content = data.content
        if envelope.body == "BINARYMIME":
            content = await routing.as_lines(content) or content
        routing.check_hops(content)
        traced = routing.trace(session, envelope) + content
        raw = return_path(envelope.sender.text) + traced
        found = [target.account_id for target in routing.targets(envelope.recipients)]
        done = await asyncio.gather(
            *(_deliver(session, envelope, account, raw) for account in found),
            return_exceptions=True,
        )
        outcomes = dict(zip(found, done, strict=True))
        return [
            await _passed_on(session, envelope, each, traced, _accepted(each, outcomes))
            for each in envelope.recipients
        ]


async def _passed_on(
    session: Session,
    envelope: Envelope,
    recipient: Recipient,
    traced: bytes,
    accepted: Accepted | Exception | None,
) -> Accepted | Exception:
    """Queue the copies of an alias that leads to other servers too, once it was delivered here."""
    if isinstance(accepted, Exception):
        return accepted
    try:
        onward = await routing.onward(session, envelope, [recipient], traced)
        if not onward:
            assert accepted is not None
            return accepted
        done = await delivery.accept(
            session.mail, traced, (), received_at=session.mail.now(), onward=onward
        )
    except (MailError, Refused) as error:
        return error
    assert done.queue_id is not None
    shown = accepted.id if accepted else id_text(IdKind.QUEUE, done.queue_id)
    return Accepted(shown, accepted.local if accepted else 0, len(recipient.forwards))


async def _deliver(
    session: Session, envelope: Envelope, account: AccountId, raw: bytes
) -> Delivered:
    done = await delivery.accept(
        session.mail,
        raw,
        [Target(account)],
        received_at=session.mail.now(),
        enforce_quota=True,
        sender=envelope.sender.text,
    )
    return done.delivered[0]


def _accepted(
    recipient: Recipient, outcomes: dict[AccountId, Delivered | BaseException]
) -> Accepted | Exception | None:
    """Return what became of a recipient: the first failure of its accounts, if any.

    None: it has no account.
    """
    found = [outcomes[account.id] for account in recipient.accounts]
    for each in found:
        if isinstance(each, Exception):
            return each
        if isinstance(each, BaseException):
            raise each
    stored = [each for each in found if isinstance(each, Delivered)]
    if not stored:
        return None
    return Accepted(id_text(IdKind.EMAIL, stored[0].email_id), len(stored), 0)
