"""Mail from programs beside this server, without a login: from known networks and domains only."""

from mailserver.address import Address
from mailserver.antispam.gate import OPEN, Gate
from mailserver.antispam.ratelimit import Limit, Rates
from mailserver.errors import AuthenticationFailed
from mailserver.mail import recipients, sending
from mailserver.mail.originals import Flaw, Original, Unsendable
from mailserver.model import AccountId
from mailserver.networks import Networks
from mailserver.smtp.policy.submission import SubmissionPolicy
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.session import Envelope, Session

STRANGER = Reply(554, "5.7.1", "You are not in a network that may send here")
NOT_THIS_DOMAIN = Reply(550, "5.7.1", "Mail of this domain is not relayed")
NOBODYS = Reply(451, "4.3.5", "The account of relayed mail is not there")
TOO_MANY = Reply(451, "4.7.1", "Too many messages, try again later")
HOUR = 3600.0


class RelayPolicy(SubmissionPolicy):
    """Trusted networks send as the configured domains, to anybody; otherwise as users do."""

    authentication = False

    def __init__(self, gate: Gate = OPEN) -> None:
        super().__init__(gate)
        self._rates = gate.rates

    async def connected(self, session: Session) -> None:
        """Refuse who is not in a configured network."""
        if session.peer not in Networks(session.mail.config.smtp.relay_networks):
            raise Refused(STRANGER)

    async def sender(self, session: Session, envelope: Envelope) -> None:
        """Check the domain of the sender, and count."""
        address = envelope.sender.address
        if address is not None and not _is_ours(session, address):
            raise Refused(NOT_THIS_DOMAIN)
        if self._rates is None:  # of this process alone
            self._rates = Rates(session.mail.database, session.mail.now)
        limit = Limit("relay", session.mail.config.smtp.relay_rate, HOUR)
        if not self._rates.count(limit, session.peer):
            raise Refused(TOO_MANY)

    async def account(self, session: Session, envelope: Envelope) -> AccountId:
        """Return the account of the sender's address, else the one that is configured."""
        if envelope.sender.address is not None:
            found = await recipients.resolve(session.mail, envelope.sender.address)
            for account in found.accounts:
                if account.enabled:
                    return account.id
        try:
            owner = await session.authenticator.named(session.mail.config.smtp.relay_account)
        except AuthenticationFailed:
            raise Refused(NOBODYS) from None
        return owner.account_id

    async def checked(self, session: Session, account: AccountId, content: bytes) -> Original:
        """Return the message when its authors are of the configured domains; Unsendable."""
        original = Original(content)
        if not all(_is_ours(session, author) for author in original.authors()):
            raise Unsendable(Flaw.AUTHOR_NOT_YOURS)
        return original

    async def admit(self, session: Session, sent: sending.Envelope) -> None:
        """Count nothing more: programs send more than a user may."""


def _is_ours(session: Session, address: Address) -> bool:
    return address.domain in session.mail.config.smtp.relay_domains.lower().split()
