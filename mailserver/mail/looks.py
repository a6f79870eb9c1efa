"""Whether what a process knows of an account is still so: its modseq, asked for many at once.

Who changed something may be another process, so the store is asked each time; but whoever asks while
an answer is awaited shares the next statement, which begins after all of them have asked. A busy
process looks at a dozen accounts for the price of one.
"""

import asyncio

from mailserver.errors import MailError
from mailserver.model import AccountId, Modseq
from mailserver.storage import accounts
from mailserver.storage.database import Database

PATIENCE = 0.05  # seconds after which a slow answer holds up nobody else


class Looks:
    """The looks of one process at its accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[AccountId, asyncio.Future[Modseq | None]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = 0.0  # loop time of the statement under way

    async def modseq(self, account: AccountId) -> Modseq | None:
        """Return the modseq that an account has now; None when it is gone."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Modseq | None] = loop.create_future()
        self._waiting.append((account, answer))
        if self._asking is None or loop.time() - self._asked_at > PATIENCE:
            self._asking = loop.create_task(self._ask(loop))
        return await answer

    async def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer whoever waits, until nobody does or another has taken over."""
        me = asyncio.current_task()
        try:
            while self._waiting and self._asking is me:
                self._asked_at = loop.time()
                await self._answer()
        finally:
            if self._asking is me:
                self._asking = None

    async def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            rows = await accounts.newer(self._database, [account for account, _ in waiting])
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
