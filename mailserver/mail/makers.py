"""Who makes search text: threads of this process, unless somebody puts another in their place."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from mailserver.errors import MailError
from mailserver.mail import making
from mailserver.mail.making import Given, Made

STEP = 6  # messages of which something is made before others are served


class MakerEnded(MailError):
    """What was at work ended before it had made anything: perhaps of these messages."""


class Makers(Protocol):
    """Makes what is asked for, without a word to a store; raises MakerEnded."""

    apart: bool  # whether it takes nothing from this process

    @property
    def spare(self) -> float:
        """How much of a core nobody else wanted when the index was made last, 0 to 1."""
        ...

    async def index(self, given: Sequence[Given], *, awaited: bool) -> Made:
        """Make what the index has of messages; in no hurry unless somebody waits."""
        ...

    async def vocabulary(self, given: Sequence[Given]) -> tuple[list[int], bytes]:
        """Make the words of up to `frames.ROWS` messages, for somebody who waits; Corrupt."""
        ...


class Threads:
    """Makes everything in threads of this process."""

    apart = False
    spare = 0.0  # nobody knows

    async def index(self, given: Sequence[Given], *, awaited: bool) -> Made:
        """Make what the index has of messages."""
        steps = [given[start : start + STEP] for start in range(0, len(given), STEP)]
        texts = []
        words: list[tuple[int, str]] = []
        unread: list[int] = []
        for step in steps:
            found = await asyncio.to_thread(making.read, step)
            words += found.words
            texts += found.texts
            unread += found.unread
        return Made(words, await asyncio.to_thread(making.new_frames, texts), unread)

    async def vocabulary(self, given: Sequence[Given]) -> tuple[list[int], bytes]:
        """Make the words of messages."""
        rows = []
        for start in range(0, len(given), STEP):
            rows += await asyncio.to_thread(making.whole_words, given[start : start + STEP])
        return await asyncio.to_thread(making.packed_words, rows)
