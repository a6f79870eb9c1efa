"""What one SMTP connection knows: the peer, TLS, the client's name, who it is, the envelope."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from mailserver.antispam.gate import OPEN, Gate
from mailserver.antispam.trace import Place, Story
from mailserver.antispam.verdict import Decision, Verdict
from mailserver.antispam.visit import Visit
from mailserver.auth.credentials import Authenticator
from mailserver.mail.context import Mail
from mailserver.model import Account, Principal
from mailserver.networks import Networks
from mailserver.queue.rules import DeliverBy
from mailserver.smtp.outcomes import Outcomes
from mailserver.smtp.protocol.framing import Data
from mailserver.smtp.protocol.paths import Path
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.reception import Reception


class Judged(Refused):
    """The checks refuse the command or put it off; `verdict` says why."""

    def __init__(self, reply: Reply, verdict: Verdict) -> None:
        super().__init__(reply)
        self.verdict = verdict


class Disconnected(Exception):
    """The connection has ended, by whatever side."""


class Wire(Protocol):
    """What a handler may ask of the connection."""

    @property
    def can_start_tls(self) -> bool:
        """Tell whether STARTTLS is possible now."""
        ...

    @property
    def end_point(self) -> bytes | None:
        """Return what SCRAM binds a login to: the hash of the certificate (RFC 5929 §4)."""
        ...

    async def start_tls(self) -> None:
        """Invite the client to begin TLS, and wait until both speak it."""
        ...

    async def ask(self, reply: Reply) -> bytes:
        """Send a reply that the client answers with a line that is no command."""
        ...

    def say(self, reply: Reply) -> None:
        """Send a reply before the one that the handler returns."""
        ...

    def reception(self) -> Reception:
        """Return what takes the next message."""
        ...

    async def receive(self, reception: Reception) -> None:
        """Invite the client to send a message, and read it to its end."""
        ...

    async def receive_chunk(self, size: int, reception: Reception) -> None:
        """Read so many octets that follow a command (RFC 3030 §2)."""
        ...


@dataclass(frozen=True, slots=True)
class Recipient:
    """An accepted recipient: accounts here, or none for another server's user."""

    path: Path
    accounts: tuple[Account, ...]
    notify: str | None = None  # RFC 3461 §4.1
    orcpt: str | None = None  # RFC 3461 §4.2
    forwards: tuple[str, ...] = ()  # addresses on other servers that get a copy
    is_report: bool = False  # it comes back for whom `forwards` names


@dataclass(slots=True)
class Envelope:
    """The mail transaction under way (RFC 5321 §3.3)."""

    sender: Path
    size: int = 0  # declared, RFC 1870; 0: not
    body: str = "7BIT"
    smtputf8: bool = False
    envid: str | None = None  # RFC 3461 §4.4
    ret: str | None = None  # RFC 3461 §4.3
    require_tls: bool = False  # RFC 8689
    release_at: datetime | None = None  # not before this time, RFC 4865
    deliver_by: DeliverBy | None = None  # RFC 2852
    priority: int = 0  # RFC 6710
    recipients: list[Recipient] = field(default_factory=list)
    reception: Reception | None = None  # from the first chunk on (RFC 3030 §2)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that is stored: its id as text, and how many got it where."""

    id: str
    local: int
    outgoing: int
    decision: Decision | None = None  # of the checks


SMTP_GREETINGS = frozenset({"EHLO", "HELO"})
LMTP_GREETINGS = frozenset({"LHLO"})  # RFC 2033 §4.1


class Policy(Protocol):
    """What differs between mail from other servers and mail from users."""

    @property
    def authentication(self) -> bool:
        """Tell whether clients must log in before they send."""
        ...

    @property
    def greetings(self) -> frozenset[str]:
        """Return the commands by which a client says its name."""
        ...

    async def connected(self, session: "Session") -> None:
        """Look at a client before it is greeted; Refused ends the connection."""
        ...

    async def greeted(self, session: "Session") -> None:
        """Take note that the client has said its name."""
        ...

    def ended(self, session: "Session") -> None:
        """Take note that the connection has ended, however."""
        ...

    async def sender(self, session: "Session", envelope: Envelope) -> None:
        """Check the sender; Refused when it may not send."""
        ...

    async def recipient(self, session: "Session", path: Path) -> Recipient:
        """Look the recipient up; Refused when there is none or it cannot be reached from here."""
        ...

    async def accept(self, session: "Session", envelope: Envelope, data: Data) -> Accepted:
        """Store the message for every recipient; return after the commit."""
        ...


class EachPolicy(Policy, Protocol):
    """A policy of LMTP: each recipient has a reply of its own (RFC 2033 §4.2)."""

    async def accept_each(
        self, session: "Session", envelope: Envelope, data: Data
    ) -> list[Accepted | Exception]:
        """Store the message for each recipient; return what became of each, in order."""
        ...


@dataclass(slots=True)
class Session:
    """One client's conversation."""

    mail: Mail
    policy: Policy
    authenticator: Authenticator
    wire: Wire
    outcomes: Outcomes
    id: str
    peer: str  # IP address
    relay: str  # of whom the connection is: the peer, unless that is one that a relay named
    relays: Networks  # who may speak for others (XCLIENT)
    clock: Callable[[], float]  # monotonic seconds
    token: Callable[[], str]  # random text for a Message-ID
    tls: str = ""  # version and cipher; empty without TLS
    helo: str = ""
    esmtp: bool = False
    principal: Principal | None = None
    gate: Gate = OPEN
    visit: Visit | None = None  # what the checks know of the client
    envelope: Envelope | None = None
    messages: int = 0  # accepted
    errors: int = 0  # weighed, see the table of commands

    @property
    def hostname(self) -> str:
        """Return the name by which this server goes."""
        return self.mail.config.server.hostname

    @property
    def speaks_lmtp(self) -> bool:
        """Tell whether this is LMTP (RFC 2033)."""
        return self.policy.greetings is LMTP_GREETINGS

    @property
    def protocol(self) -> str:
        """Return what is spoken, as the greeting says it."""
        return "LMTP" if self.speaks_lmtp else "ESMTP"

    @property
    def relay_is_trusted(self) -> bool:
        """Tell whether the connection is of a relay that may speak for others."""
        return self.relay in self.relays

    def reset(self) -> None:
        """Forget the transaction: RSET, the end of DATA, a new EHLO (RFC 5321 §4.1.1.5)."""
        if self.envelope is not None and self.envelope.reception is not None:
            self.envelope.reception.close()
        self.envelope = None

    def record(
        self,
        stage: str,
        reply: Reply,
        *,
        sender: str = "",
        recipients: Sequence[Path] = (),
        verdict: Verdict | None = None,
        places: Sequence[Place] = (),
        stored: str = "",
        message_id: str = "",
        size: int = 0,
    ) -> None:
        """Write down for those who ask later what became of a message, or of an attempt."""
        if self.gate.journal is None:
            return
        found = verdict.findings if verdict else tuple(self.visit.findings) if self.visit else ()
        story = Story(
            session=self.id,
            stage=stage,
            action={4: "deferred", 5: "refused"}.get(reply.code // 100, "accepted"),
            reply=bytes(reply).decode("utf-8", "replace").rstrip("\r\n"),
            peer=self.peer,
            helo=self.helo,
            tls=self.tls,
            login=self.principal.login if self.principal else "",
            sender=sender,
            recipients=tuple(path.text for path in recipients),
            size=size,
            message_id=message_id,
            stored=stored,
            reason=verdict.reason if verdict else "",
            score=verdict.score if verdict else 0.0,
            findings=found,
            places=tuple(places),
        )
        self.gate.journal.write(story)

    def secured(self, tls: str) -> None:
        """Forget everything said in the clear (RFC 3207 §4.2)."""
        self.tls = tls
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what the client said: it is as if it had just connected."""
        self.helo = ""
        self.esmtp = False
        self.principal = None
        self.reset()
