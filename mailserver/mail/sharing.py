"""Other people's accounts as somebody sees them: by the rights they have on mailboxes (RFC 4314).

An account is visible to whoever may look up one of its mailboxes. Of its messages they see those in
mailboxes that they may also read; what else is there they cannot tell from what is not.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailserver.events import Subscription, shares_of
from mailserver.mail.rights import effective
from mailserver.model import AccountId, Grant, MailboxId, Principal, Right, rights_text
from mailserver.storage import acl

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

KEPT = 1000  # principals
KEPT_TIME = 30.0  # seconds after which a lost notification does no more harm

READS = Right.LOOKUP | Right.READ
CHANGES = (
    Right.SEEN
    | Right.WRITE
    | Right.INSERT
    | Right.CREATE
    | Right.DELETE_MAILBOX
    | Right.DELETE
    | Right.EXPUNGE
)


@dataclass(frozen=True, slots=True)
class Share:
    """An account of which somebody else may see or do something."""

    account_id: AccountId
    login: str  # of its owner
    rights: Mapping[MailboxId, Right]  # on the mailboxes that are visible
    subscribed: frozenset[MailboxId]  # by the one who sees it
    readable: frozenset[MailboxId] = field(init=False)  # whose messages are visible

    def __post_init__(self) -> None:
        readable = (each for each, rights in self.rights.items() if READS in rights)
        object.__setattr__(self, "readable", frozenset(readable))

    @property
    def is_read_only(self) -> bool:
        """Whether nothing in it may be changed."""
        return not any(rights & CHANGES for rights in self.rights.values())

    @property
    def mark(self) -> str:
        """A short text that differs when the rights do."""
        text = ",".join(
            f"{mailbox}{rights_text(rights)}" for mailbox, rights in sorted(self.rights.items())
        )
        return hashlib.sha256(text.encode()).hexdigest()[:8]


async def shares(mail: "Mail", principal: Principal) -> list[Share]:
    """Return the accounts that are visible to a principal besides their own, by login."""
    entries = await acl.shared_with(mail.database, principal.account_id, None)
    return _shares(entries, principal.account_id)


def _shares(entries: Sequence[acl.Shared], principal: AccountId) -> list[Share]:
    names: dict[AccountId, str] = {}
    grants: dict[tuple[AccountId, MailboxId], list[Grant]] = {}
    subscribed: dict[AccountId, set[MailboxId]] = {}
    for entry in entries:
        names[entry.account_id] = entry.login
        grants.setdefault((entry.account_id, entry.mailbox_id), []).append(entry.grant)
        if entry.subscribed:
            subscribed.setdefault(entry.account_id, set()).add(entry.mailbox_id)
    rights: dict[AccountId, dict[MailboxId, Right]] = {}
    for (account, mailbox), given in grants.items():
        allowed = effective(given, principal, account)
        if Right.LOOKUP in allowed:
            rights.setdefault(account, {})[mailbox] = allowed
    found = [
        Share(account, names[account], held, frozenset(subscribed.get(account, ())))
        for account, held in rights.items()
    ]
    return sorted(found, key=lambda share: share.login)


class _Entry:
    """What is shared with one principal, as long as nobody says that it changed."""

    __slots__ = ("changes", "read_at", "shares", "subscription", "until")

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.shares: tuple[Share, ...] = ()
        self.changes = 0  # that were told
        self.read_at = -1  # how many had been told before the shares were read
        self.until = 0.0
        subscription.wake = self.note_change

    def note_change(self) -> None:
        self.changes += 1


class Shares:
    """What is shared with whom, for what is only shown: rights are always looked up."""

    def __init__(self, mail: "Mail") -> None:
        self._mail = mail
        self._known: OrderedDict[AccountId, _Entry] = OrderedDict()
        mail.events.subscribe(shares_of(None)).wake = self._note_change

    async def of(self, principal: Principal) -> tuple[Share, ...]:
        """Return what `shares` does; a change by another process may take a moment to show."""
        now = asyncio.get_running_loop().time()
        entry = self._entry(principal.account_id)
        if entry.read_at != entry.changes or now > entry.until:
            before = entry.changes
            entry.shares = tuple(await shares(self._mail, principal))
            entry.read_at, entry.until = before, now + KEPT_TIME
        return entry.shares

    def forget(self, principal: Principal) -> None:
        """Read what is shared with a principal again when it is asked for."""
        if principal.account_id in self._known:
            self._known[principal.account_id].note_change()

    def _entry(self, account: AccountId) -> _Entry:
        entry = self._known.get(account)
        if entry is None:
            entry = _Entry(self._mail.events.subscribe(shares_of(account)))
            self._known[account] = entry
            if len(self._known) > KEPT:
                _, oldest = self._known.popitem(last=False)
                self._mail.events.unsubscribe(oldest.subscription)
        self._known.move_to_end(account)
        return entry

    def _note_change(self) -> None:
        for entry in self._known.values():
            entry.note_change()
