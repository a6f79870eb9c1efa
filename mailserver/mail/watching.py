"""Which types of an account's data changed, for those who are told of it as it happens.

A listener is somewhere: it knows each account that it sees up to some modseq. From there the change
log says which types changed, so nothing is lost between two connections that name the same place.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailserver.events import Subscription, shares_of
from mailserver.mail import quota, sharing
from mailserver.mail.sharing import Share, Shares
from mailserver.model import (
    EMAIL_KINDS,
    MAILBOX_KINDS,
    AccountId,
    ChangeKind,
    IdKind,
    MailboxId,
    Modseq,
    Principal,
    id_text,
    id_value,
)
from mailserver.storage import accounts, changes

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

MAIL_TYPES = ("Mailbox", "Email", "Thread", "EmailDelivery")
OWN_TYPES = ("Identity", "EmailSubmission", "VacationResponse", "Quota")  # not of shared accounts
TYPES = MAIL_TYPES + OWN_TYPES
ROWS = 1000  # of the change log; after more than that everything may have changed
MAX_PLACE = 16384  # characters

# \Deleted hides an email from its thread (RFC 8621 §4.1.1), and no row says which flag it was
_TYPES_OF: dict[ChangeKind, tuple[str, ...]] = {
    ChangeKind.EMAIL_CREATED: ("Mailbox", "Email", "Thread", "EmailDelivery", "Quota"),
    ChangeKind.EMAIL_ADDED: ("Mailbox", "Email", "Thread"),
    ChangeKind.EMAIL_UPDATED: ("Mailbox", "Email", "Thread"),
    ChangeKind.EMAIL_REMOVED: ("Mailbox", "Email", "Thread"),
    ChangeKind.EMAIL_DESTROYED: ("Mailbox", "Email", "Thread", "Quota"),
    ChangeKind.MAILBOX_CREATED: ("Mailbox",),
    ChangeKind.MAILBOX_UPDATED: ("Mailbox",),
    ChangeKind.MAILBOX_DESTROYED: ("Mailbox",),
    ChangeKind.IDENTITY_CREATED: ("Identity",),
    ChangeKind.IDENTITY_UPDATED: ("Identity",),
    ChangeKind.IDENTITY_DESTROYED: ("Identity",),
    ChangeKind.SUBMISSION_CREATED: ("EmailSubmission",),
    ChangeKind.SUBMISSION_UPDATED: ("EmailSubmission",),
    ChangeKind.SUBMISSION_DESTROYED: ("EmailSubmission",),
    ChangeKind.VACATION_UPDATED: ("VacationResponse",),
}
_STEP = re.compile(r"(a[0-9a-z]{13})=(\d{1,19})((?:\.[0-9a-f]{1,16})?)", re.ASCII)

States = dict[AccountId, dict[str, str]]  # type -> state, of the types that changed


def parse_place(text: str) -> dict[AccountId, tuple[Modseq, str]] | None:
    """Read what `Watch.place` returned; None for anything else."""
    found: dict[AccountId, tuple[Modseq, str]] = {}
    for step in text[:MAX_PLACE].split(","):
        parts = _STEP.fullmatch(step)
        account = None if parts is None else id_value(IdKind.ACCOUNT, parts[1])
        if parts is None or account is None:
            return None
        found[AccountId(account)] = Modseq(int(parts[2])), parts[3]
    return found


async def place_now(mail: "Mail", principal: Principal) -> str:
    """Return where a listener is that has just seen everything."""
    marks = {principal.account_id: ""}
    for share in await sharing.shares(mail, principal):
        marks[share.account_id] = f".{share.mark}"
    steps = []
    for account, mark in marks.items():
        modseq = await accounts.modseq(mail.database, account)
        steps.append(f"{id_text(IdKind.ACCOUNT, account)}={modseq or 0}{mark}")
    return ",".join(steps)


@dataclass(slots=True)
class _Followed:
    """An account that is listened to, and what the listener knows of it."""

    subscription: Subscription
    share: Share | None
    modseq: Modseq | None = None  # None: nothing yet
    mark: str = ""  # of the rights
    unsure: bool = True  # whether something happened since, until the change log was read

    @property
    def mark_now(self) -> str:
        return "" if self.share is None else f".{self.share.mark}"

    @property
    def is_behind(self) -> bool:
        if self.unsure or self.modseq is None or self.mark != self.mark_now:
            return True
        return self.subscription.modseq > self.modseq


@dataclass(slots=True)
class Watch:
    """Follows the accounts that a principal sees; `close` it afterwards."""

    mail: "Mail"
    shares: Shares
    principal: Principal
    types: frozenset[str]
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _accounts: dict[AccountId, _Followed] = field(default_factory=dict)
    _rights: list[Subscription] = field(default_factory=list)
    _found: States = field(default_factory=dict)  # and not returned yet

    async def start(self, place: str | None) -> None:
        """Begin at a place that the listener names, else now.

        Of an account that the place says nothing about, and after a place that is none, everything
        counts as changed: the listener cannot know what it missed.
        """
        for account in (None, self.principal.account_id):
            subscription = self.mail.events.subscribe(shares_of(account))
            subscription.wake = self._woken.set
            self._rights.append(subscription)
        await self._follow()
        if place is None:
            await self.changes()
            return
        for account, (modseq, mark) in (parse_place(place) or {}).items():
            followed = self._accounts.get(account)
            if followed is not None:
                followed.modseq, followed.mark = modseq, mark
        self._woken.set()

    def close(self) -> None:
        """Stop listening."""
        for followed in self._accounts.values():
            self.mail.events.unsubscribe(followed.subscription)
        for subscription in self._rights:
            self.mail.events.unsubscribe(subscription)
        self._accounts.clear()
        self._rights.clear()

    async def wait(self) -> None:
        """Wait until something may have changed."""
        await self._woken.wait()

    @property
    def place(self) -> str:
        """Where the listener is once it was told the last changes, to begin there another time."""
        return ",".join(
            f"{id_text(IdKind.ACCOUNT, account)}={followed.modseq}{followed.mark}"
            for account, followed in sorted(self._accounts.items())
            if followed.modseq is not None
        )

    async def changes(self) -> States:
        """Return what changed since the last call, for the types that are listened to.

        What was found before the store failed is returned by a later call.
        """
        self._woken.clear()
        try:
            await self._follow()
            for account, followed in self._accounts.items():
                if followed.is_behind and (states := await self._news(account, followed)):
                    self._found[account] = {**self._found.get(account, {}), **states}
        except BaseException:
            self._woken.set()
            raise
        found, self._found = self._found, {}
        return found

    async def _follow(self) -> None:
        """Listen to the accounts that the principal sees now, and to no others."""
        seen: dict[AccountId, Share | None] = {self.principal.account_id: None}
        for share in await self.shares.of(self.principal):
            seen[share.account_id] = share
        for account in self._accounts.keys() - seen.keys():
            self.mail.events.unsubscribe(self._accounts.pop(account).subscription)
            self._found.pop(account, None)
        for account, each in seen.items():
            if account in self._accounts:
                self._accounts[account].share = each
                continue
            subscription = self.mail.events.subscribe(account)
            subscription.wake = self._woken.set
            self._accounts[account] = _Followed(subscription, each)

    async def _news(self, account: AccountId, followed: _Followed) -> dict[str, str]:
        """Move to where the account is, and return the states of what changed on the way."""
        share, before, mark = followed.share, followed.modseq, followed.mark_now
        rows = 0 if before is None else ROWS
        summary = await changes.summary(self.mail.database, account, before or Modseq(0), rows)
        possible = TYPES if share is None else MAIL_TYPES
        types: Iterable[str] = possible
        lost = before is None or before < summary.low_water_mark or before > summary.modseq
        if not lost and len(summary.rows) < ROWS and mark == followed.mark:
            readable = None if share is None else share.readable
            types = _types_of(summary.rows, readable)
        if share is not None and any(kind in MAILBOX_KINDS for kind, _ in summary.rows):
            # a mailbox inherits rights when it is made, and they go with it
            self.shares.forget(self.principal)
            self._woken.set()
        states = {
            name: f"{summary.modseq}{mark}"
            for name in possible
            if name in types and name in self.types
        }
        if "Quota" in states:
            states |= await self._quota(account)
        followed.unsure, followed.modseq, followed.mark = False, summary.modseq, mark
        if followed.subscription.modseq < summary.modseq:
            followed.subscription.modseq = summary.modseq  # an event would say nothing new
        return states

    async def _quota(self, account: AccountId) -> Mapping[str, str]:
        used, limit = await quota.storage(self.mail, account)
        return {"Quota": quota.state(used, limit)}


def _types_of(
    rows: Iterable[tuple[ChangeKind, MailboxId]], readable: frozenset[MailboxId] | None
) -> set[str]:
    types: set[str] = set()
    for kind, mailbox in rows:
        if readable is None or kind not in EMAIL_KINDS or mailbox in readable:
            types.update(_TYPES_OF.get(kind, ()))
    return types
