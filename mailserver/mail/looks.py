"""Whether what a process knows of an account is still so: its modseq, asked for many at once.

Who changed something may be another process, so the store is asked each time; but whoever asks
while an answer is awaited shares the next statement, which begins after all of them have asked. A
busy process looks at a dozen accounts for the price of one.

What lies between two modseqs is known too when this process made every change of it, or was told
what another one did. Then what did not change is the same, though the account is not.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mailserver.errors import MailError
from mailserver.model import AccountId, MailboxId, Modseq
from mailserver.storage import accounts
from mailserver.storage.accounts import Sight
from mailserver.storage.database import Database

T = TypeVar("T")

PATIENCE = 0.05  # seconds after which a slow answer holds up nobody else
RUNS = 4096  # accounts whose last changes are known
RUN_LENGTH = 64  # mailboxes that changed meanwhile


class Shared(Generic[T]):
    """A question about an account, asked together with those of others."""

    def __init__(
        self, ask: Callable[[Sequence[AccountId]], Awaitable[Sequence[tuple[AccountId, T]]]]
    ) -> None:
        self._ask = ask
        self._waiting: list[tuple[AccountId, asyncio.Future[T | None]]] = []
        self._task: asyncio.Task[None] | None = None  # that answers those who wait
        self._turn = 0  # of who asks the store; whoever took too long has lost it
        self._busy = False  # somebody has the turn
        self._asked_at = 0.0  # loop time of the statement under way
        self._alone = True  # nobody else asked when somebody last had the turn

    async def answer(self, account: AccountId) -> T | None:
        """Return what is so after the call; None when the account is gone."""
        loop = asyncio.get_running_loop()
        free = not self._busy or loop.time() - self._asked_at > PATIENCE
        if free:
            self._busy = True
            self._turn += 1
            self._asked_at = loop.time()
            if self._alone and not self._waiting:
                return await self._answer_alone(account, self._turn, loop)
        answer: asyncio.Future[T | None] = loop.create_future()
        self._waiting.append((account, answer))
        if free:
            self._task = loop.create_task(self._answer_all(self._turn, 0, loop))
        return await answer

    async def _answer_alone(
        self, account: AccountId, turn: int, loop: asyncio.AbstractEventLoop
    ) -> T | None:
        """Ask at once, as where there is one session: it waits for no task."""
        try:
            return dict(await self._ask([account])).get(account)
        finally:
            if turn == self._turn:
                if self._waiting:
                    self._task = loop.create_task(self._answer_all(turn, 1, loop))
                else:
                    self._busy = False

    async def _answer_all(self, turn: int, served: int, loop: asyncio.AbstractEventLoop) -> None:
        """Answer whoever waits, until nobody does or the turn is lost."""
        try:
            while self._waiting and turn == self._turn:
                self._asked_at = loop.time()
                served += len(self._waiting)
                await self._answer()
        finally:
            if turn == self._turn:
                self._busy = False
                self._alone = served == 1

    async def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            rows = await self._ask([account for account, _ in waiting])
        except Exception as error:
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(_again(error))
            return
        found = dict(rows)
        for account, answer in waiting:
            if not answer.done():
                answer.set_result(found.get(account))


def _again(error: Exception) -> Exception:
    """Return an error for one of those who wait: raised by several it would tell of all."""
    return type(error)(str(error)) if isinstance(error, MailError) else error


@dataclass(slots=True)
class _Run:
    """Changes of one account without a gap, and of messages alone."""

    start: int  # the modseq before the first
    end: int
    touched: dict[MailboxId, int] = field(default_factory=dict)  # when each was changed last


class Looks:
    """The looks of one process at its accounts."""

    def __init__(self, database: Database) -> None:
        self._modseqs = Shared(lambda found: accounts.newer(database, found))
        self._sights = Shared(lambda found: accounts.sights(database, found))
        self._runs: OrderedDict[AccountId, _Run] = OrderedDict()

    async def modseq(self, account: AccountId) -> Modseq | None:
        """Return the modseq that an account has now; None when it is gone."""
        return await self._modseqs.answer(account)

    async def sight(self, account: AccountId) -> Sight | None:
        """Return that, and whether others share mailboxes with it."""
        return await self._sights.answer(account)

    def made(self, account: AccountId, modseq: Modseq, mailbox: MailboxId) -> None:
        """Note a change that this process made to messages of a mailbox, and to nothing else."""
        run = self._runs.get(account)
        if run is None or modseq not in (run.end, run.end + 1):
            run = self._runs[account] = _Run(modseq - 1, modseq)
            if len(self._runs) > RUNS:
                self._runs.popitem(last=False)
        elif len(run.touched) >= RUN_LENGTH:
            # of a change of many mailboxes some are forgotten: what is known begins after it
            run.start = modseq
            run.touched.clear()
        self._runs.move_to_end(account)
        run.end = modseq
        run.touched[mailbox] = modseq

    def told(self, account: AccountId, modseq: Modseq, mailboxes: Iterable[MailboxId]) -> None:
        """Note the same of a change of another process; one that is told late is nothing new."""
        run = self._runs.get(account)
        if run is None or modseq > run.end:
            for mailbox in mailboxes:
                self.made(account, modseq, mailbox)

    def has_changed(self, account: AccountId, mailbox: MailboxId, since: Modseq) -> bool:
        """Whether a mailbox is known to have changed after a modseq."""
        run = self._runs.get(account)
        return run is not None and run.touched.get(mailbox, 0) > since

    def same_since(self, account: AccountId, mailbox: MailboxId, now: Modseq) -> Modseq:
        """Return the first modseq from which a mailbox is known to be as it is at a later one."""
        run = self._runs.get(account)
        if run is None or not run.start <= now <= run.end:
            return now
        touched = run.touched.get(mailbox, 0)
        return Modseq(max(run.start, touched)) if touched <= now else now

    def is_same(
        self, account: AccountId, mailbox: MailboxId | None, then: Modseq, now: Modseq
    ) -> bool:
        """Whether a mailbox is known to be at a modseq as it was at another.

        Without a mailbox: which mailboxes there are, and all of them that is no number.
        """
        if then == now:
            return True
        run = self._runs.get(account)
        if run is None or not run.start <= then <= now <= run.end:
            return False
        return mailbox is None or run.touched.get(mailbox, 0) <= then
