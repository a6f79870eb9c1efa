"""The hub that tells a process's sessions that an account changed.

An event is a hint: (account, modseq). Whoever gets one reads what changed since its own modseq
from storage, so a lost or doubled event costs nothing but time.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from mailserver.model import AccountId, Modseq

_NEVER = Modseq(0)
_EVERYBODY = AccountId(-(1 << 61))  # no account, nor what is shared with one
_PUSHES = -(1 << 62)  # likewise
QUEUE = AccountId(0)  # no account has this id: under it is told that the outgoing queue has grown


def shares_of(account: AccountId | None) -> AccountId:
    """Return what to listen to for changes of what is shared with an account, None with all.

    Its modseqs are times; what is lost between processes is not found again by a re-check.
    """
    return _EVERYBODY if account is None else AccountId(-account)


def pushes_of(shard: int) -> AccountId:
    """Return what to listen to for changes of the push subscriptions of a shard."""
    return AccountId(_PUSHES + shard)


class Subscription:
    """One listener's view of one account: the newest modseq it was told, and ways to wait."""

    __slots__ = ("_changed", "_told", "account", "maker", "modseq", "own", "wake")

    def __init__(self, account: AccountId, modseq: Modseq) -> None:
        self.account = account
        self.modseq = modseq
        self.wake: Callable[[], None] | None = None  # called at every change; must not block
        self.maker: asyncio.Task[Any] | None = None  # whose changes are noted in `own`
        self.own: set[int] = set()  # modseqs; the listener forgets them
        self._told = False  # since the last `wait`
        self._changed: asyncio.Event | None = None  # of those who wait: others need not pay for it

    def tell(self, modseq: Modseq) -> None:
        """Take note of a modseq; an older one than known is ignored."""
        if modseq > self.modseq:
            self.modseq = modseq
            self._told = True
            if self._changed is not None:
                self._changed.set()
            if self.wake is not None:
                self.wake()

    async def wait(self) -> Modseq:
        """Wait until the account changed since the last call and return its newest modseq."""
        if not self._told:
            self._changed = self._changed or asyncio.Event()
            await self._changed.wait()
        if self._changed is not None:
            self._changed.clear()
        self._told = False
        return self.modseq


class Hub:
    """Fans changes of accounts out to the subscriptions of this process."""

    def __init__(self) -> None:
        self._subscriptions: dict[AccountId, set[Subscription]] = {}
        self._forwarders: list[Callable[[AccountId, Modseq], None]] = []
        self._tellers: list[Callable[[AccountId, Modseq, str], None]] = []

    def subscribe(self, account: AccountId, modseq: Modseq = _NEVER) -> Subscription:
        """Start to listen to an account; `unsubscribe` ends it."""
        subscription = Subscription(account, modseq)
        self._subscriptions.setdefault(account, set()).add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop listening."""
        others = self._subscriptions.get(subscription.account)
        if others is not None:
            others.discard(subscription)
            if not others:
                del self._subscriptions[subscription.account]

    def accounts(self) -> list[AccountId]:
        """Return the accounts that somebody listens to."""
        return list(self._subscriptions)

    def listens(self, account: AccountId) -> bool:
        """Whether somebody listens to an account."""
        return account in self._subscriptions

    def forward(self, forwarder: Callable[[AccountId, Modseq], None]) -> None:
        """Also hand every change that this process makes to a function that must not block."""
        self._forwarders.append(forwarder)

    def forward_details(self, teller: Callable[[AccountId, Modseq, str], None]) -> None:
        """Also hand what is said of changes that this process makes to a function."""
        self._tellers.append(teller)

    def explain(self, account: AccountId, modseq: Modseq, text: str) -> None:
        """Say what a change of this process did, before it is published."""
        for teller in self._tellers:
            teller(account, modseq, text)

    def publish(self, account: AccountId, modseq: Modseq) -> None:
        """Report a change made by this process, after its commit."""
        for subscription in self._subscriptions.get(account, ()):
            if subscription.maker is not None and subscription.maker is asyncio.current_task():
                subscription.own.add(modseq)
        self.deliver(account, modseq)
        for forwarder in self._forwarders:
            forwarder(account, modseq)

    def deliver(self, account: AccountId, modseq: Modseq) -> None:
        """Report a change made by any process to the subscriptions here."""
        for subscription in self._subscriptions.get(account, ()):
            subscription.tell(modseq)
