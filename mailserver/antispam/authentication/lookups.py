"""What the checks ask DNS."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from mailserver.dns import Answer, LookupFailed

T = TypeVar("T")


class Lookups(Protocol):
    """A resolver: `mailserver.dns.Resolver`, or a zone in memory.

    A deadline is by the clock of the event loop.
    """

    async def texts(self, name: str, kind: str, deadline: float | None = None) -> list[str]:
        """Return records as a zone file has them, TXT joined and without quotes.

        None when there are none; LookupFailed when nobody can tell. CNAME records are followed.
        """
        ...

    def known(self, name: str, kind: str) -> list[str] | None:
        """Return what `texts` would, if that is known at once."""
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

    def known(self, name: str, kind: str) -> list[str] | None:
        """Return records that are known; they count too."""
        self._count(kind, name)
        found = self._resolver.known(name, kind)
        if found is None:
            self._left += 1
        return found

    async def a(self, name: str, deadline: float | None = None) -> Answer[str]:
        """Return addresses; LookupFailed as for `texts`."""
        self._count("A", name)
        return await self._resolver.a(name, min(deadline or self._until, self._until))

    def _count(self, kind: str, name: str) -> None:
        self._left -= 1
        if self._left < 0 or self._now() >= self._until:
            raise LookupFailed(f"too late, or too many questions, for {kind} of {name}")


async def texts_of_all(
    resolver: Lookups, questions: Sequence[tuple[str, str]]
) -> list[list[str] | LookupFailed]:
    """Ask about several names and types at the same time; what is known costs no task."""
    answers: list[list[str] | LookupFailed | None] = []
    for name, kind in questions:
        try:
            answers.append(resolver.known(name, kind))
        except LookupFailed as error:
            answers.append(error)
    missing = [index for index, answer in enumerate(answers) if answer is None]
    for index, answer in zip(
        missing,
        await together(*(_tried(resolver, *questions[index]) for index in missing)),
        strict=True,
    ):
        answers[index] = answer
    return [answer for answer in answers if answer is not None]


async def _tried(resolver: Lookups, name: str, kind: str) -> list[str] | LookupFailed:
    try:
        return await resolver.texts(name, kind)
    except LookupFailed as error:
        return error


async def together(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Return all results; one thing alone is done without a task."""
    return [await work[0]] if len(work) == 1 else await asyncio.gather(*work)
