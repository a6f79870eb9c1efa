"""What the checks ask DNS."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from mailserver.dns import LookupFailed


class Lookups(Protocol):
    """A resolver: `mailserver.dns.Resolver`, or a zone in memory."""

    async def texts(self, name: str, kind: str) -> list[str]:
        """Return records as a zone file has them, TXT joined and without quotes.

        None when there are none; LookupFailed when nobody can tell. CNAME records are followed.
        """
        ...


class Limited:
    """A resolver for the checks of one message: so long, and so many questions."""

    def __init__(
        self, resolver: Lookups, clock: Callable[[], float], seconds: float, questions: int
    ) -> None:
        """Count from now on; `clock` counts seconds."""
        self._resolver = resolver
        self._clock = clock
        self._until = clock() + seconds
        self._left = questions

    async def texts(self, name: str, kind: str) -> list[str]:
        """Return records; LookupFailed also when the time is up or enough was asked."""
        self._left -= 1
        left = self._until - self._clock()
        if left <= 0 or self._left < 0:
            raise LookupFailed(f"too late, or too many questions, for {kind} of {name}")
        try:
            async with asyncio.timeout(left):
                return await self._resolver.texts(name, kind)
        except TimeoutError:
            raise LookupFailed(f"no answer in time for {kind} of {name}") from None
