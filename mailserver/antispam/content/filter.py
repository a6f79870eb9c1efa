"""The content filter as the pipeline sees it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mailserver.antispam.content import rulefile
from mailserver.antispam.content.engine import Engine
from mailserver.antispam.content.patterns import Budget
from mailserver.antispam.content.views import Views
from mailserver.antispam.evidence import Finding, Inquiry, Symbol
from mailserver.errors import MailError
from mailserver.model import AccountId

OWN_RULES = Path(__file__).parent / "rules"
TIME_BUDGET = 1.0  # seconds for the rules of one message
SMALL = 64 * 1024  # octets of a message that is looked at on the event loop
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


class FilterBroken(MailError):
    """The filter does not find what it must find."""


class ContentFilter:
    """Rules and what was learned; a `Judge` and a `PersonalJudge`."""

    name = "content"

    def __init__(
        self,
        folders: Sequence[Path] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        budget: float = TIME_BUDGET,
    ) -> None:
        """Take the folders with rules, besides those that come with the server."""
        self._folders = (OWN_RULES, *folders)
        self._clock = clock
        self._budget = budget
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The rules; FilterBroken before `load`."""
        if self._engine is None:
            raise FilterBroken("the rules are not loaded")
        return self._engine

    async def load(self) -> None:
        """Read and compile the rules, then check that they work; FilterBroken when they do not."""
        self._engine = await asyncio.to_thread(self._compiled)

    def _compiled(self) -> Engine:
        return Engine(rulefile.load(self._folders))

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        """Say what rules and classifier find in a message."""
        started = self._clock()
        if len(inquiry.raw) <= SMALL:
            finding = self._look(inquiry)
        else:
            finding = await asyncio.to_thread(self._look, inquiry)
        return Finding(
            finding.check, finding.result, finding.reason, finding.symbols, self._clock() - started
        )

    async def judge_for(
        self, account: AccountId, inquiry: Inquiry, findings: Sequence[Finding]
    ) -> Finding:
        """Say what this account's own lessons and acquaintances change."""
        return Finding("content", "none")

    def _look(self, inquiry: Inquiry) -> Finding:
        views = Views(inquiry)
        outcome = self.engine.run(views, Budget(self._budget, self._clock))
        symbols: list[Symbol] = list(outcome.symbols)
        score = sum(each.score for each in symbols)
        result = "none" if not symbols else "spam" if score >= 5 else "ham"
        reason = "" if outcome.complete else "no time for all rules"
        return Finding(self.name, result, reason, tuple(symbols))
