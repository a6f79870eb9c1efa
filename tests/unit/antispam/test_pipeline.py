"""One verdict of what all checks say."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import pytest

from mailserver.antispam.checks import Checks
from mailserver.antispam.evidence import Client, Finding, Inquiry, Symbol
from mailserver.antispam.lists import Lists, Ruling
from mailserver.antispam.pipeline import Pipeline
from mailserver.antispam.verdict import Action, Decision
from mailserver.config import Antispam
from mailserver.errors import Unavailable
from mailserver.metrics import Metrics
from mailserver.model import AccountId

ALICE, BOB = AccountId(1), AccountId(2)
RAW = b"Subject: hello\r\n\r\nbody\r\n"


@dataclass(frozen=True)
class Says:
    """A check that gives a score, to everybody or for one account."""

    score: float
    name: str = "content"
    account: AccountId | None = None

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        return Finding(self.name, "done", symbols=(Symbol("SAYS", self.score),))

    async def judge_for(
        self, account: AccountId, inquiry: Inquiry, findings: Sequence[Finding]
    ) -> Finding:
        score = self.score if account == self.account else 0
        return Finding("personal", "done", symbols=(Symbol("FOR_ME", score),))


@dataclass(frozen=True)
class Crashes:
    name: str = "broken"

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        raise RuntimeError("secret")


@dataclass(frozen=True)
class HasNoDatabase:
    name: str = "broken"

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        raise Unavailable("PostgreSQL: secret")


@dataclass(frozen=True)
class Hangs:
    name: str = "slow"

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        await asyncio.Event().wait()
        raise AssertionError


async def decide(checks: Checks, settings: Antispam = Antispam()) -> Decision:  # noqa: B008
    loop = asyncio.get_running_loop()
    pipeline = Pipeline(settings, checks, Metrics("test"), loop.time)
    visit = pipeline.arrive("s", "192.0.2.1", datetime.now(UTC))
    inquiry = Inquiry("s", Client("192.0.2.1"), None, (), RAW, datetime.now(UTC))
    return await pipeline.message(visit, inquiry, dict.fromkeys((ALICE, BOB), "example.test"))


@pytest.mark.parametrize(
    ("score", "action"),
    [
        (-3, Action.ACCEPT),
        (4.9, Action.ACCEPT),
        (5, Action.JUNK),
        (14.9, Action.JUNK),
        (15, Action.REJECT),
    ],
)
async def test_the_score_decides(score: float, action: Action) -> None:
    decision = await decide(Checks(judges=[Says(score)]))
    assert decision.verdict.action is (action if action is Action.REJECT else Action.ACCEPT)
    placed = Action.JUNK if action is Action.REJECT else action
    assert {each.action for each in decision.accounts.values()} == {placed}


async def test_personal_scores_choose_the_folder() -> None:
    decision = await decide(Checks(judges=[Says(3)], personal={"personal": Says(4, account=BOB)}))
    assert decision.verdict.action is Action.ACCEPT
    assert decision.accounts[ALICE].action is Action.ACCEPT
    assert decision.accounts[BOB].action is Action.JUNK


async def test_who_would_refuse_what_others_get_has_it_in_junk() -> None:
    decision = await decide(Checks(personal={"personal": Says(40, account=BOB)}))
    assert decision.verdict.action is Action.ACCEPT
    assert decision.accounts[BOB].action is Action.JUNK


@dataclass(frozen=True)
class IsAway:
    """A scanner without which nothing is delivered."""

    name: str = "clamav"

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        return Finding(self.name, "error", "no answer", demand=Action.DEFER)


@dataclass(frozen=True)
class Rules:
    """Lists with something to say for one account."""

    account: AccountId
    allowed: bool

    async def about(self, *_: object) -> dict[AccountId, Ruling]:
        return {self.account: Ruling(self.allowed, "the recipient's list")}


@pytest.mark.parametrize("allowed", [True, False])
async def test_without_a_scanner_that_must_see_it_a_message_comes_again(allowed: bool) -> None:
    people = cast(Lists, Rules(ALICE, allowed))
    decision = await decide(Checks(people=people, judges=[IsAway()]))
    assert decision.verdict.action is Action.DEFER
    assert decision.verdict.reason == "clamav cannot look at messages now"


@pytest.mark.parametrize("broken", [Crashes(), Hangs(), HasNoDatabase()])
async def test_a_check_that_fails_says_nothing_and_is_noticed(
    broken: Crashes | Hangs | HasNoDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    decision = await decide(Checks(judges=[broken, Says(5)]), Antispam(time_limit=0.05))
    assert {each.action for each in decision.accounts.values()} == {Action.JUNK}
    assert f"failed={broken.name}".encode() in decision.top
    assert b"secret" not in decision.top
    assert "check failed: messages are delivered without it" in caplog.messages
    assert ("check crashed" in caplog.messages) == isinstance(broken, Crashes)


async def test_trusted_networks_are_not_checked() -> None:
    pipeline = Pipeline(
        Antispam(trusted_networks="192.0.2.0/24"),
        Checks(judges=[Says(100)]),
        Metrics("test"),
        asyncio.get_running_loop().time,
    )
    visit = pipeline.arrive("s", "192.0.2.1", datetime.now(UTC))
    inquiry = Inquiry("s", visit.client(), None, (), RAW, datetime.now(UTC))
    decision = await pipeline.message(visit, inquiry, {ALICE: "example.test"})
    assert decision.accounts[ALICE].action is Action.ACCEPT
    assert decision.content == RAW


async def test_spam_that_would_only_go_on_to_elsewhere_is_refused() -> None:
    loop = asyncio.get_running_loop()
    pipeline = Pipeline(Antispam(), Checks(judges=[Says(20)]), Metrics("test"), loop.time)
    visit = pipeline.arrive("s", "192.0.2.1", datetime.now(UTC))
    inquiry = Inquiry("s", visit.client(), None, (), RAW, datetime.now(UTC))
    assert (await pipeline.message(visit, inquiry, {})).verdict.action is Action.REJECT
