"""The way of a message through all checks, from the connection to the verdict.

A check that fails or takes too long says nothing: the message goes on as if it had not been asked,
and an alarm is logged. So a filter that is broken never loses mail and never makes all of it spam.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mailserver.address import Address
from mailserver.antispam import fields
from mailserver.antispam.edits import apply
from mailserver.antispam.evidence import Finding, Inquiry, Judge, PersonalJudge
from mailserver.antispam.verdict import Action, Decision, Verdict
from mailserver.antispam.visit import Visit
from mailserver.config import Antispam
from mailserver.metrics import Metrics
from mailserver.model import AccountId
from mailserver.networks import Networks

log = logging.getLogger(__name__)

WELCOME = Verdict(Action.ACCEPT, "nothing speaks against it")
_SEVERITY = {action: place for place, action in enumerate(Action)}  # the mildest first
TRUSTED = Verdict(Action.ACCEPT, "comes from a trusted network")


@dataclass(frozen=True, slots=True)
class Checks:
    """The checks of whole messages, in the order in which findings are listed."""

    judges: Sequence[Judge] = ()
    personal: Mapping[str, PersonalJudge] = field(default_factory=dict)  # by the name of the check


class Pipeline:
    """Asks all checks and makes one verdict of what they say."""

    def __init__(
        self,
        settings: Antispam,
        checks: Checks,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        """Take a clock in seconds."""
        self._settings = settings
        self._checks = checks
        self._metrics = metrics
        self._clock = clock
        self._trusted = Networks(settings.trusted_networks)

    def arrive(self, session: str, ip: str) -> Visit:
        """Begin with a client that connected."""
        return Visit(session, ip, trusted=ip in self._trusted)

    async def connected(self, visit: Visit) -> Verdict:
        """Say whether a client may speak at all."""
        return WELCOME

    def greeted(self, visit: Visit) -> None:
        """Begin to ask about a client that has said its name: who only looks asks nobody."""

    async def sender(self, visit: Visit, sender: Address | None) -> Verdict:
        """Say whether a client may begin a message of a sender, None: the null one."""
        return WELCOME

    async def recipient(
        self, visit: Visit, sender: Address | None, recipient: Address | None
    ) -> Verdict:
        """Say whether a message may be sent to a recipient, before any of it has arrived."""
        return WELCOME

    async def message(
        self, visit: Visit, inquiry: Inquiry, accounts: Sequence[AccountId]
    ) -> Decision:
        """Judge a message for all its recipients."""
        if visit.trusted:
            return Decision(TRUSTED, dict.fromkeys(accounts, TRUSTED), inquiry.raw)
        deadline = self._clock() + self._settings.time_limit
        findings = [*visit.findings]
        findings += await self._ask(
            {judge.name: judge.judge(inquiry, tuple(findings)) for judge in self._checks.judges},
            deadline,
        )
        verdict = self._weigh(findings)
        personal = {
            account: await self._weigh_for(account, inquiry, findings, deadline)
            for account in accounts
        }
        return self._decide(inquiry, verdict, personal)

    async def _weigh_for(
        self, account: AccountId, inquiry: Inquiry, findings: Sequence[Finding], deadline: float
    ) -> Verdict:
        more = await self._ask(
            {
                name: judge.judge_for(account, inquiry, findings)
                for name, judge in self._checks.personal.items()
            },
            deadline,
        )
        return self._weigh([*findings, *more])

    def _weigh(self, findings: Sequence[Finding]) -> Verdict:
        """Turn scores into an action; what a check demands is the least that happens."""
        score = sum(finding.score for finding in findings)
        reason = f"score {score:.1f}"
        if score >= self._settings.reject_score:
            action = Action.REJECT
        elif score >= self._settings.junk_score:
            action = Action.JUNK
        else:
            action = Action.ACCEPT
        for finding in findings:
            if finding.demand is not None and _SEVERITY[finding.demand] > _SEVERITY[action]:
                action = finding.demand
                reason = f"{finding.check}: {finding.reason}"
        return Verdict(action, reason, tuple(findings))

    def _decide(
        self, inquiry: Inquiry, verdict: Verdict, personal: Mapping[AccountId, Verdict]
    ) -> Decision:
        """Give one reply for all recipients: a message is refused when nobody wants it.

        Whoever would have refused a message that others get has it in Junk: nothing is dropped.
        """
        wanted = any(each.action.delivers for each in personal.values()) or not personal
        if not wanted:
            worst = max(personal.values(), key=lambda each: _SEVERITY[each.action])
            reply = Verdict(worst.action, worst.reason, verdict.findings, worst.status)
        else:
            reply = Verdict(Action.ACCEPT, verdict.reason, verdict.findings)
        placed = {
            account: each
            if each.action.delivers
            else Verdict(Action.JUNK, each.reason, each.findings)
            for account, each in personal.items()
        }
        top = fields.scores(verdict, self._settings.junk_score)
        edits = [edit for finding in verdict.findings for edit in finding.edits]
        return Decision(reply, placed, top + fields.without_forged(apply(inquiry.raw, edits)))

    async def _ask(
        self, checks: Mapping[str, Awaitable[Finding]], deadline: float
    ) -> list[Finding]:
        """Run checks side by side, each for as long as there is time."""
        return list(
            await asyncio.gather(
                *(self.guarded(name, check, deadline) for name, check in checks.items())
            )
        )

    async def guarded(self, name: str, check: Awaitable[Finding], deadline: float) -> Finding:
        """Return what a check finds; one that fails finds nothing, and that is noticed."""
        began = self._clock()
        try:
            async with asyncio.timeout(max(deadline - began, 0.001)):
                finding = await check
        except TimeoutError:
            finding = Finding(name, "error", "took too long")
        except Exception as error:
            log.exception("check crashed", extra={"check": name})
            finding = Finding(name, "error", f"failed with {type(error).__name__}")
        seconds = self._clock() - began
        self._metrics.checks.labels(name, finding.result).inc()
        self._metrics.check_seconds.labels(name).observe(seconds)
        if finding.result == "error":
            log.error(
                "check failed: messages are delivered without it",
                extra={"check": name, "reason": finding.reason, "seconds": round(seconds, 3)},
            )
        return replace(finding, check=name, seconds=seconds)
