"""What the method calls of one API request share."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mailserver.antispam.trace import Journal
from mailserver.config import Config
from mailserver.errors import TooMany
from mailserver.jmap.protocol.ids import account_text
from mailserver.jmap.protocol.references import Budget
from mailserver.mail import messages, sharing
from mailserver.mail.context import Mail
from mailserver.mail.sharing import Share
from mailserver.mail.thread_counts import ThreadCount
from mailserver.model import AccountId, BlobId, Mailbox, MailboxId, Principal, Right


class Origin(NamedTuple):
    """Where a request comes from."""

    session: str = ""  # in log lines
    peer: str = ""
    tls: str = ""


NO_MESSAGES = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the core capability (RFC 8620 §2)."""

    max_size_upload: int  # octets
    max_size_request: int  # octets
    max_size_message: int  # octets
    max_concurrent_upload: int = 4
    max_concurrent_requests: int = 10
    max_calls_in_request: int = 32
    max_objects_in_get: int = 500
    max_objects_in_set: int = 500
    max_ids_in_query: int = 5000
    max_changes: int = 5000
    max_copied: int = 10_000_000  # octets of JSON that the references of a request may copy
    max_delay: int = 0  # seconds that a message may be held before it is sent
    max_body_values: int = 64 * 1024 * 1024  # octets of text in one Email/get, if more than one
    max_cut: int = (
        256 * 1024 * 1024
    )  # octets of messages read for parts of them; the last may go beyond
    max_kept: int = 64 * 1024 * 1024  # octets of them that it keeps, for further parts

    @classmethod
    def of(cls, config: Config) -> "Limits":
        """Return the limits of a configuration."""
        return cls(
            config.http.max_upload_size,
            config.http.max_request_size,
            config.smtp.max_message_size,
            max_delay=config.smtp.max_delay,
        )

    @property
    def max_size_attachments(self) -> int:
        """Octets of all attachments of one message, before base64 makes 78 octets of 57."""
        return self.max_size_message * 18 // 25


@dataclass(slots=True)
class AccountView:
    """An account as the principal sees it: their own, or what others share with them."""

    id: AccountId
    share: Share | None = None  # None: the principal's own
    modseq: int | None = None  # read at or before everything that this request answers about it

    @property
    def mark(self) -> str:
        """What a state says besides the modseq: with other rights, it is another state."""
        return "" if self.share is None else f".{self.share.mark}"

    @property
    def readable(self) -> frozenset[MailboxId] | None:
        """The mailboxes whose emails may be seen; None is all."""
        return None if self.share is None else self.share.readable

    def rights(self, mailbox: Mailbox) -> Right | None:
        """Return what the principal may do with a mailbox; None when it is not there for them."""
        if self.share is None:
            return mailbox.owner_rights
        return self.share.rights.get(mailbox.id)

    def subscribed(self, mailbox: Mailbox) -> bool:
        """Tell whether the principal subscribed to a mailbox."""
        if self.share is None:
            return mailbox.subscribed
        return mailbox.id in self.share.subscribed

    def state_at(self, modseq: int) -> str:
        """Return the state of every type at a modseq, as clients see it."""
        return f"{modseq}{self.mark}"


class Sources:
    """The messages that a request read for parts of them: the last ones, and how much it was."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: dict[tuple[AccountId, BlobId], bytes] = {}  # the one used last is the last
        self._size = 0
        self._read = 0

    def find(self, account: AccountId, blob: BlobId) -> bytes | None:
        """Return a message that is kept."""
        raw = self._kept.pop((account, blob), None)
        if raw is not None:
            self._kept[account, blob] = raw
        return raw

    def demand_room(self) -> None:
        """Raise TooMany when so much was read that no other message may be."""
        if self._read >= self._limits.max_cut:
            raise TooMany("octets read for parts of messages in one request")

    def add(self, account: AccountId, blob: BlobId, raw: bytes) -> None:
        """Count a message that was read, and keep it in place of those used longest ago."""
        self._read += len(raw)
        if len(raw) > self._limits.max_kept:
            return
        self._kept[account, blob] = raw
        self._size += len(raw)
        while self._size > self._limits.max_kept:
            self._size -= len(self._kept.pop(next(iter(self._kept))))


@dataclass(slots=True)
class Session:
    """One API request of one principal; every call of it concerns one account."""

    mail: Mail
    principal: Principal
    limits: Limits
    id: str  # in log lines
    using: frozenset[str] = frozenset()
    created_ids: dict[str, str] = field(default_factory=dict)
    following: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # implicit calls
    origin: Origin = field(default=Origin())
    journal: Journal | None = None  # where it is written down what becomes of submissions
    budget: Budget = field(init=False)
    sources: Sources = field(init=False)
    view: AccountView = field(init=False)  # of the call that runs; the dispatcher sets it
    _views: dict[str, AccountView] = field(init=False)  # of this request, by account id
    _knows_shares: bool = False

    def __post_init__(self) -> None:
        self.budget = Budget(self.limits.max_copied)
        self.sources = Sources(self.limits)
        self.view = AccountView(self.principal.account_id)
        self._views = {account_text(self.principal.account_id): self.view}

    @property
    def account(self) -> AccountId:
        """The account of the call that runs."""
        return self.view.id

    @property
    def account_id(self) -> str:
        """The account of the call that runs, as clients see it."""
        return account_text(self.view.id)

    @property
    def own_id(self) -> str:
        """The principal's own account, as clients see it."""
        return account_text(self.principal.account_id)

    async def find(self, account_id: str) -> AccountView | None:
        """Return an account as the principal sees it, None when they do not.

        The rights are those at the first call of the request that concerns another's account.
        """
        if account_id not in self._views and not self._knows_shares:
            for share in await sharing.shares(self.mail, self.principal):
                self._views[account_text(share.account_id)] = AccountView(share.account_id, share)
            self._knows_shares = True
        return self._views.get(account_id)

    async def renew_view(self) -> None:
        """Look again at what is shared, after a call that may have changed it."""
        known = self.view
        self._views = {each: view for each, view in self._views.items() if view.share is None}
        self._knows_shares = False
        self.view = await self.find(self.account_id) or known
        self.view.modseq = known.modseq

    @property
    def modseq(self) -> int | None:
        """The modseq that this request answers about the account, once it was read.

        It may be older than the data in a response, never newer: /changes since it then reports
        something twice, and misses nothing.
        """
        return self.view.modseq

    @modseq.setter
    def modseq(self, modseq: int | None) -> None:
        self.view.modseq = modseq

    async def read_modseq(self) -> int:
        """Return the modseq that this request answers about the account."""
        if self.view.modseq is None:
            self.view.modseq = await messages.state(self.mail, self.account)
        return self.view.modseq

    async def state(self) -> str:
        """Return the state of every type of the account: its modseq, and what rights there are."""
        return self.view.state_at(await self.read_modseq())

    async def fresh_state(self) -> str:
        """Return the state as it is now, whatever this request answered before."""
        self.modseq = None
        return await self.state()

    async def advanced(self, modseqs: Collection[int]) -> str:
        """Return the state after changes of this request, given by their modseqs.

        It stops before the first change that somebody else made: whoever knows the state before
        and what was changed here knows all that it stands for, and asks for the rest.
        """
        reached = await self.read_modseq()
        while reached + 1 in modseqs:
            reached += 1
        self.modseq = reached
        return await self.state()

    async def counts(self) -> Mapping[MailboxId, ThreadCount]:
        """Return the counts of the account's mailboxes, at the state it answers or later."""
        modseq = await self.read_modseq()
        _, counts = await self.mail.thread_counts.of(
            self.mail, self.account, modseq, within=self.view.readable
        )
        return counts

    def resolved(self, text: str) -> str:
        """Replace `#creation-id` by the id that was made for it (RFC 8620 §5.3)."""
        if text.startswith("#"):
            return self.created_ids.get(text[1:], text)
        return text
