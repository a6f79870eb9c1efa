"""What the method calls of one API request share."""

from collections import OrderedDict
from dataclasses import dataclass, field

from mailserver.config import Http
from mailserver.jmap.protocol.ids import account_text
from mailserver.jmap.protocol.references import Budget
from mailserver.mail import messages, search
from mailserver.mail.context import Mail
from mailserver.model import AccountId, MailboxId, Principal

COUNTS_KEPT = 1000  # accounts
NO_MESSAGES = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the core capability (RFC 8620 §2)."""

    max_size_upload: int  # octets
    max_size_request: int  # octets
    max_concurrent_upload: int = 4
    max_concurrent_requests: int = 10
    max_calls_in_request: int = 32
    max_objects_in_get: int = 500
    max_objects_in_set: int = 500
    max_ids_in_query: int = 5000
    max_changes: int = 5000
    max_copied: int = 10_000_000  # octets of JSON that the references of a request may copy
    max_body_values: int = 64 * 1024 * 1024  # octets of text in one Email/get, if more than one

    @classmethod
    def of(cls, config: Http) -> "Limits":
        """Return the limits of a configuration."""
        return cls(config.max_upload_size, config.max_request_size)


class Counts:
    """The counts of threads of an account, computed once for each of its states."""

    def __init__(self) -> None:
        self._known: OrderedDict[AccountId, tuple[int, dict[MailboxId, search.ThreadCount]]]
        self._known = OrderedDict()

    async def of(
        self, mail: Mail, account: AccountId, modseq: int
    ) -> dict[MailboxId, search.ThreadCount]:
        """Return the counts; `modseq` was read before."""
        known = self._known.get(account)
        if known is None or known[0] != modseq:
            known = (modseq, await search.thread_counts(mail, account))
            self._known[account] = known
        self._known.move_to_end(account)
        if len(self._known) > COUNTS_KEPT:
            self._known.popitem(last=False)
        return known[1]


@dataclass(slots=True)
class Session:
    """One API request of one principal."""

    mail: Mail
    principal: Principal
    limits: Limits
    counts: Counts
    id: str  # in log lines
    using: frozenset[str] = frozenset()
    created_ids: dict[str, str] = field(default_factory=dict)
    budget: Budget = field(init=False)
    modseq: int | None = None  # read at or before everything that this request answers

    def __post_init__(self) -> None:
        self.budget = Budget(self.limits.max_copied)

    @property
    def account(self) -> AccountId:
        """The account of every call; there is one for each principal."""
        return self.principal.account_id

    @property
    def account_id(self) -> str:
        """The account as clients see it."""
        return account_text(self.principal.account_id)

    async def state(self) -> str:
        """Return the state of every type: the account's modseq.

        It may be older than the data in a response, never newer: /changes since it then reports
        something twice, and misses nothing.
        """
        if self.modseq is None:
            self.modseq = await messages.state(self.mail, self.account)
        return str(self.modseq)

    def resolved(self, text: str) -> str:
        """Replace `#creation-id` by the id that was made for it (RFC 8620 §5.3)."""
        if text.startswith("#"):
            return self.created_ids.get(text[1:], text)
        return text
