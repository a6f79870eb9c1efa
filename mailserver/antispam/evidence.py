"""What is known of a message that arrives, and what each check finds out about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from mailserver.address import Address
from mailserver.antispam.edits import Edit
from mailserver.model import AccountId

if TYPE_CHECKING:
    from mailserver.antispam.verdict import Action


@dataclass(frozen=True, slots=True)
class Client:
    """Who connected."""

    ip: str
    helo: str = ""  # as the client said
    name: str = ""  # of the address by DNS, if the name leads back to it (iprev, RFC 8601 §3)
    tls: str = ""  # version and cipher; empty without TLS


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A message that is being judged, as it arrived: without the trace fields of this server."""

    session: str  # id of the SMTP session
    client: Client
    sender: Address | None  # reverse-path; None: the null one
    recipients: tuple[Address, ...]
    raw: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Symbol:
    """A rule that a message met, and what that says: a positive score speaks for spam."""

    name: str
    score: float
    description: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found out."""

    check: str  # "spf", "dkim", "dnsbl", "content": the name in traces and metrics
    result: str  # the word of RFC 8601 §2.7 where there is one; "error": the check failed
    reason: str = ""  # in words, for people
    symbols: tuple[Symbol, ...] = ()
    seconds: float = 0.0
    demand: "Action | None" = None  # what has to happen at least, whatever the score: a virus
    edits: tuple[Edit, ...] = ()  # changes of the message, if it is delivered

    @property
    def score(self) -> float:
        """Return the sum over its symbols."""
        return sum(symbol.score for symbol in self.symbols)


class Judge(Protocol):
    """A check of a whole message: the content filter, or an engine beside this server.

    Whatever it raises counts as no score: the pipeline reports it and goes on.
    """

    @property
    def name(self) -> str:
        """Return the name of the check in findings, traces and metrics."""
        ...

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        """Look at a message, knowing what the checks before this one found."""
        ...


class PersonalJudge(Protocol):
    """A check whose outcome depends on who gets the message: what users taught, whom they know."""

    async def judge_for(
        self, account: AccountId, inquiry: Inquiry, findings: Sequence[Finding]
    ) -> Finding:
        """Look at a message for one account; its score is added to that of the message."""
        ...
