"""The checks that a pipeline asks, each of which may be missing; and how each is asked."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mailserver.antispam.authentication import Authentication, Rules
from mailserver.antispam.authentication.lookups import Lookups
from mailserver.antispam.dnsbl import DnsLists
from mailserver.antispam.evidence import Finding, Inquiry, Judge, PersonalJudge
from mailserver.antispam.greylist import Greylist
from mailserver.antispam.lists import Lists
from mailserver.antispam.patience import Patience
from mailserver.antispam.ratelimit import Rates
from mailserver.antispam.verdict import Verdict
from mailserver.errors import MailError
from mailserver.metrics import Metrics

log = logging.getLogger(__name__)


class Results(Protocol):
    """Counts what became of messages, for reports to the domains that they claim to be from."""

    def record(
        self, inquiry: Inquiry, done: Authentication, verdict: Verdict, *, delivered: bool
    ) -> None:
        """Take note of one message; this never fails and never waits."""
        ...


@dataclass(frozen=True, slots=True)
class Checks:
    """What is asked, in the order in which a message meets it."""

    rates: Rates | None = None
    people: Lists | None = None  # allow and deny lists
    dns_lists: DnsLists | None = None
    greylist: Greylist | None = None
    authentication: tuple[Lookups, Rules] | None = None
    patience: Patience | None = None  # with what DNS does not tell; None: without end
    judges: Sequence[Judge] = ()
    personal: Mapping[str, PersonalJudge] = field(default_factory=dict)  # by the name of the check
    results: Results | None = None  # is told of each message that was authenticated


class Guard:
    """Asks checks so that none can do harm: in a given time, and whatever they raise."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        """Take a clock in seconds."""
        self._metrics = metrics
        self.clock = clock
        # finding a labelled counter costs more than counting, so each is kept
        self._counts: dict[tuple[str, str], Callable[[], None]] = {}
        self._observations: dict[str, Callable[[float], None]] = {}

    async def ask(self, checks: Mapping[str, Awaitable[Finding]], deadline: float) -> list[Finding]:
        """Run checks side by side, each for as long as there is time."""
        asked = (self.one(name, check, deadline) for name, check in checks.items())
        return list(await asyncio.gather(*asked))

    async def one(self, name: str, check: Awaitable[Finding], deadline: float) -> Finding:
        """Return what a check finds; one that fails finds nothing, and that is noticed."""
        began = self.clock()
        try:
            async with asyncio.timeout(max(deadline - began, 0.001)):
                finding = await check
        except TimeoutError:
            finding = Finding(name, "error", "took too long")
        except MailError as error:  # the database is away, say: nothing that a trace explains
            finding = Finding(name, "error", f"failed with {type(error).__name__}: {error}")
        except Exception as error:
            log.exception("check crashed", extra={"check": name})
            finding = Finding(name, "error", f"failed with {type(error).__name__}")
        seconds = self.clock() - began
        self.note(finding, seconds)
        return replace(finding, check=name, seconds=seconds)

    def note(self, finding: Finding, seconds: float) -> None:
        """Count what a check found, and say so when it failed."""
        count = self._counts.get((finding.check, finding.result))
        if count is None:
            count = self._metrics.checks.labels(finding.check, finding.result).inc
            self._counts[finding.check, finding.result] = count
        count()
        observe = self._observations.get(finding.check)
        if observe is None:
            observe = self._metrics.check_seconds.labels(finding.check).observe
            self._observations[finding.check] = observe
        observe(seconds)
        if finding.result == "error":
            log.error(
                "check failed: messages are delivered without it",
                extra={
                    "check": finding.check,
                    "reason": finding.reason,
                    "seconds": round(seconds, 3),
                },
            )
