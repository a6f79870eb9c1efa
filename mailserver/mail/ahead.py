"""Work on the next things while somebody uses what became of the one before."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def in_order(
    items: Iterable[Item], work: Callable[[Item], Awaitable[Result]], at_once: int
) -> AsyncGenerator[Result, None]:
    """Yield what becomes of each item, in order; so many are worked on at once.

    To be closed by whoever may stop early: what is under way is cancelled then.
    """
    running: deque[asyncio.Future[Result]] = deque()
    left = iter(items)
    try:
        while True:
            while len(running) < at_once and (item := next(left, None)) is not None:
                running.append(asyncio.ensure_future(work(item)))
            if not running:
                return
            result = await running[0]
            running.popleft()
            yield result
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
