"""The way of a message through all checks, from the connection to the verdict.

A check that fails or takes too long says nothing: the message goes on as if it had not been asked,
and an alarm is logged. So a filter that is broken never loses mail and never makes all of it spam.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from mailserver.antispam import authentication, fields
from mailserver.antispam.authentication import Authentication
from mailserver.antispam.authors import authors
from mailserver.antispam.checks import Checks, Guard
from mailserver.antispam.door import Door
from mailserver.antispam.edits import apply
from mailserver.antispam.evidence import Finding, Inquiry
from mailserver.antispam.lists import Ruling
from mailserver.antispam.stretches import header_size
from mailserver.antispam.verdict import Action, Decision, Verdict
from mailserver.antispam.visit import Visit
from mailserver.config import Antispam
from mailserver.metrics import Metrics
from mailserver.model import AccountId
from mailserver.networks import Networks

TRUSTED = Verdict(Action.ACCEPT, "comes from a trusted network")
LARGE_HEADER = 64 * 1024  # octets of one that is looked through in a thread
HARMFUL = "virus"  # the result that whoever is allowed may not send, whatever it scores


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
        self.checks = checks
        self._guard = Guard(metrics, clock)
        self._trusted = Networks(settings.trusted_networks)
        self.door = Door(settings, checks, self._guard)

    def arrive(self, session: str, ip: str, now: datetime) -> Visit:
        """Begin with a client that connected."""
        return Visit(session, ip, now, trusted=ip in self._trusted)

    async def message(
        self, visit: Visit, inquiry: Inquiry, accounts: Mapping[AccountId, str]
    ) -> Decision:
        """Judge a message for all its recipients: accounts, each with its domain."""
        if visit.trusted:
            return Decision(TRUSTED, dict.fromkeys(accounts, TRUSTED), inquiry.raw)
        deadline = self._guard.clock() + self._settings.time_limit
        done = await self._authenticate(inquiry, deadline)
        findings = [each for each in visit.findings if done is None or each.check != "iprev"]
        findings += done.findings if done else ()
        known = tuple(findings)
        findings += await self._guard.ask(
            {judge.name: judge.judge(inquiry, known) for judge in self.checks.judges}, deadline
        )
        rulings = await self._rulings(inquiry, done, accounts)
        personal = dict(
            zip(
                accounts,
                await asyncio.gather(
                    *(
                        self._for_account(
                            account, inquiry, findings, done, rulings.get(account), deadline
                        )
                        for account in accounts
                    )
                ),
                strict=True,
            )
        )
        verdict = self._weigh(findings, done)
        content = await self._cleaned(inquiry, verdict)
        decision = self._decide(inquiry, content, verdict, personal, done)
        if decision.verdict.action.delivers:
            self.door.took(inquiry.sender, inquiry.recipients)
        if decision.verdict.action is Action.ACCEPT and verdict.action is Action.ACCEPT:
            self.door.sent_good_mail(visit, inquiry.sender, done)
        if done is not None and self.checks.results is not None:
            delivered = decision.verdict.action.delivers
            whole = verdict if delivered else decision.verdict
            self.checks.results.record(inquiry, done, whole, delivered=delivered)
        return decision

    async def _authenticate(self, inquiry: Inquiry, deadline: float) -> Authentication | None:
        """Return whether the message is from whom it says; None when nobody can tell."""
        if self.checks.authentication is None:
            return None
        resolver, rules = self.checks.authentication
        found: list[Authentication] = []

        async def check() -> Finding:
            done = await authentication.authenticate(resolver, inquiry, rules, self._guard.clock)
            found.append(done)
            if self.checks.patience is not None:
                found[0] = await self.checks.patience.judged(inquiry, done)
            return Finding("authentication", "done")

        await self._guard.one("authentication", check(), deadline)
        for finding in found[0].findings if found else ():
            self._guard.note(finding, finding.seconds)
        return found[0] if found else None

    async def _rulings(
        self, inquiry: Inquiry, done: Authentication | None, accounts: Mapping[AccountId, str]
    ) -> Mapping[AccountId, Ruling]:
        """Return what the lists of the recipients say about the authors and the sender."""
        if self.checks.people is None:
            return {}
        passed = done is not None and done.dmarc.result == "pass"
        senders = [*authors(inquiry.raw), *([inquiry.sender] if inquiry.sender else [])]
        verified = done.dmarc.domain if done is not None and passed else ""
        return await self.checks.people.about(accounts, senders, verified)

    async def _for_account(
        self,
        account: AccountId,
        inquiry: Inquiry,
        findings: Sequence[Finding],
        done: Authentication | None,
        ruling: Ruling | None,
        deadline: float,
    ) -> Verdict:
        """Say what one account thinks of a message."""
        if ruling is not None:
            harmful = next((each for each in findings if _may_harm(each)), None)
            if not ruling.allowed:
                return Verdict(Action.REJECT, ruling.reason, tuple(findings))
            if harmful is None:
                return Verdict(Action.ACCEPT, ruling.reason, tuple(findings))
        more = await self._guard.ask(
            {
                name: judge.judge_for(account, inquiry, findings)
                for name, judge in self.checks.personal.items()
            },
            deadline,
        )
        return self._weigh([*findings, *more], done)

    def _weigh(self, findings: Sequence[Finding], done: Authentication | None) -> Verdict:
        """Turn scores into an action; what a check demands is the least that happens."""
        score = sum(finding.score for finding in findings)
        action, reason, status = Action.ACCEPT, f"score {score:.1f}", ""
        if score >= self._settings.reject_score:
            action, reason = Action.REJECT, f"looks like spam, {reason}"
        elif score >= self._settings.junk_score:
            action = Action.JUNK
        for finding in findings:
            if finding.demand is not None and finding.demand.severity > action.severity:
                action = finding.demand
                reason = f"{finding.check}: {finding.reason}"
                if finding.result == "error":  # where an engine is, is nobody's business
                    reason = f"{finding.check} cannot look at messages now"
        if done is not None and done.dmarc.action.severity > action.severity:
            action = done.dmarc.action
            reason, status = _about_dmarc(done)
        return Verdict(action, reason, tuple(findings), status)

    async def _cleaned(self, inquiry: Inquiry, verdict: Verdict) -> bytes:
        """Return the message as engines changed it, without fields that claim to be ours."""
        raw = apply(inquiry.raw, [edit for finding in verdict.findings for edit in finding.edits])
        if header_size(raw) > LARGE_HEADER:
            return await asyncio.to_thread(self._without_forged, raw)
        return self._without_forged(raw)

    def _without_forged(self, raw: bytes) -> bytes:
        content = fields.without_forged(raw)
        if self.checks.authentication is None:
            return content
        _, rules = self.checks.authentication
        return authentication.without_forged(content, [rules.authserv_id])

    def _decide(
        self,
        inquiry: Inquiry,
        content: bytes,
        verdict: Verdict,
        personal: Mapping[AccountId, Verdict],
        done: Authentication | None,
    ) -> Decision:
        """Give one reply for all recipients: a message is refused when nobody wants it.

        Whoever would have refused a message that others get has it in Junk: nothing is dropped.
        """
        opinions = list(personal.values()) or [verdict]  # of mail that only goes on to elsewhere
        if not any(each.action.delivers for each in opinions):
            # put off rather than refused: who cannot be answered now may want the message later
            mildest = min(opinions, key=lambda each: each.action.severity)
            reply = Verdict(mildest.action, mildest.reason, verdict.findings, mildest.status)
        else:
            reply = Verdict(Action.ACCEPT, verdict.reason, verdict.findings)
        placed = {
            account: each
            if each.action.delivers
            else Verdict(Action.JUNK, each.reason, each.findings)
            for account, each in personal.items()
        }
        top = b""
        if done is not None and self.checks.authentication is not None:
            _, rules = self.checks.authentication
            top = authentication.authentication_results(done, rules.authserv_id)
            top += authentication.received_spf(done, inquiry, rules.authserv_id)
        top += fields.scores(verdict, self._settings.junk_score)
        return Decision(reply, placed, content, top, verdict.action)


def _may_harm(finding: Finding) -> bool:
    """Tell whether a message is harmful, or may be, for a scanner that has to see it did not."""
    unseen = finding.result == "error" and finding.demand is not None
    return finding.result == HARMFUL or unseen


def _about_dmarc(done: Authentication) -> tuple[str, str]:
    """Return a reason and its enhanced status code (RFC 7372 §3.2)."""
    dmarc = done.dmarc
    if dmarc.action is Action.DEFER:
        return f"cannot check the DMARC policy of {dmarc.domain} now", "4.7.0"
    return f"fails the DMARC policy of {dmarc.policy_domain or dmarc.domain}", "5.7.26"
