"""What the checks ask DNS."""

import asyncio
from typing import Protocol

from mailserver.dns import Answer, LookupFailed


class Lookups(Protocol):
    """A resolver: `mailserver.dns.Resolver`, or a zone in memory.

    A deadline is by the clock of the event loop.
    """

    async def texts(self, name: str, kind: str, deadline: float | None = None) -> list[str]:
        """Return records as a zone file has them, TXT joined and without quotes.

        None when there are none; LookupFailed when nobody can tell. CNAME records are followed.
        """
        ...

    async def a(self, name: str, deadline: float | None = None) -> Answer[str]:
        """Return the IPv4 addresses of a name, and whether there is such a name."""
        ...


class Limited:
    """A resolver for the checks of one message: so long, and so many questions."""

    def __init__(self, resolver: Lookups, seconds: float, questions: int) -> None:
        """Count from now on."""
        self._resolver = resolver
        self._now = asyncio.get_running_loop().time
        self._until = self._now() + seconds
        self._left = questions

    async def texts(self, name: str, kind: str, deadline: float | None = None) -> list[str]:
        """Return records; LookupFailed also when the time is up or enough was asked."""
        self._count(kind, name)
        return await self._resolver.texts(name, kind, min(deadline or self._until, self._until))

    async def a(self, name: str, deadline: float | None = None) -> Answer[str]:
        """Return addresses; LookupFailed as for `texts`."""
        self._count("A", name)
        return await self._resolver.a(name, min(deadline or self._until, self._until))

    def _count(self, kind: str, name: str) -> None:
        self._left -= 1
        if self._left < 0 or self._now() >= self._until:
            raise LookupFailed(f"too late, or too many questions, for {kind} of {name}")
