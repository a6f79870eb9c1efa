"""Single messages that connections read at the same moment: one statement for those of an account.

Whoever reads first reads alone and at once; who comes while that lasts is served together by the
next statement. A client that opens several connections costs the store little more than one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from mailserver.model import AccountId, EmailId

SMALL = 256 * 1024  # octets of a message that may be read with others
MOST = 16  # messages of one statement
PATIENCE = 0.05  # seconds after which a slow answer holds up nobody else

Read = Callable[[AccountId, Sequence[int]], Awaitable[dict[EmailId, bytes]]]
_Answer = asyncio.Future[dict[EmailId, bytes] | None]


@dataclass(slots=True)
class _Turn:
    """A statement about an account that is under way, and who waits for the next one."""

    since: float  # loop time
    waiting: list[tuple[int, _Answer]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None  # of the statement, if it is for several


class Readings:
    """What is being read in one process."""

    def __init__(self, read: Read) -> None:
        """Take what reads several messages of an account: those that exist, by email."""
        self._read = read
        self._turns: dict[AccountId, _Turn] = {}

    async def message(self, account: AccountId, email: int) -> dict[EmailId, bytes]:
        """Return a small message, perhaps with others; without it when it is gone."""
        now = asyncio.get_running_loop().time()
        turn = self._turns.get(account)
        if turn is not None and now - turn.since < PATIENCE:
            answer: _Answer = asyncio.get_running_loop().create_future()
            turn.waiting.append((email, answer))
            found = await answer
            return await self._read(account, [email]) if found is None else found
        mine = self._turns[account] = _Turn(now, turn.waiting if turn is not None else [])
        try:
            return await self._read(account, [email])
        finally:
            self._pass_on(account, mine)

    def _pass_on(self, account: AccountId, turn: _Turn) -> None:
        """Serve those who came meanwhile, unless somebody who did not want to wait does so."""
        if self._turns.get(account) is not turn:
            return
        if not turn.waiting:
            del self._turns[account]
            return
        loop = asyncio.get_running_loop()
        following = _Turn(loop.time(), turn.waiting[MOST:])
        following.task = loop.create_task(self._serve(account, following, turn.waiting[:MOST]))
        self._turns[account] = following

    async def _serve(
        self, account: AccountId, turn: _Turn, waiting: Sequence[tuple[int, _Answer]]
    ) -> None:
        found = None
        try:
            found = await self._read(account, list({email for email, _ in waiting}))
        except Exception:  # noqa: S110 (each reads alone then, and has its own error)
            pass
        finally:
            for _, answer in waiting:
                if not answer.done():
                    answer.set_result(found)
            self._pass_on(account, turn)
