"""The content filter as the pipeline sees it: rules, what was learned, and who the sender is."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from mailserver.antispam.content import calibration, reputation, rulefile
from mailserver.antispam.content.engine import Engine
from mailserver.antispam.content.model import Counts, evidence, margin, probability
from mailserver.antispam.content.patterns import Budget, Compile
from mailserver.antispam.content.reputation import Reputation
from mailserver.antispam.content.tokens import JUDGED_WORDS, Features, features
from mailserver.antispam.content.views import Views
from mailserver.antispam.evidence import Client, Finding, Inquiry, Symbol
from mailserver.errors import MailError, Unavailable
from mailserver.metrics import Metrics
from mailserver.model import AccountId

log = logging.getLogger(__name__)

OWN_RULES = Path(__file__).parent / "rules"
TIME_BUDGET = 0.5  # seconds for the rules of one message
SMALL = 64 * 1024  # octets of a message that is looked at on the event loop
ON_LOOP = 0.05  # seconds for its rules there; one that takes longer is looked at in a thread
PROBE_TIME = 10.0  # seconds for those of the test pattern: a busy machine is no broken filter
SPAM = 5.0  # the score from which on a message counts as spam in the history of its sender
PERSONAL = "user"  # the name of what depends on who gets a message, in traces and metrics
RETRY = 60.0  # seconds after which a filter that does not work is loaded again
RECENT = 64  # messages whose features are kept until each recipient was asked for
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
_PROBE = b"From: probe@example.com\r\nSubject: probe\r\n\r\n" + GTUBE + b"\r\n"


Compiler = Callable[[], AbstractContextManager[Compile | None]]


class FilterBroken(MailError):
    """The filter does not find what it must find."""


class Learned(Protocol):
    """What was learned, as `Models` knows it."""

    @property
    def server(self) -> Counts:
        """What all accounts share."""
        ...

    async def refresh(self) -> None:
        """Look for what is new of it."""
        ...

    async def of_account(self, account: AccountId) -> Counts | None:
        """Return what an account taught."""
        ...


class Looked(NamedTuple):
    """What was found in a message whoever gets it."""

    inquiry: Inquiry  # its identity says whether it is the same message
    views: Views
    features: Features
    margin: float | None  # None: too little was learned
    symbols: tuple[Symbol, ...]
    complete: bool


class ContentFilter:
    """A `Judge` and a `PersonalJudge`."""

    name = "content"

    def __init__(
        self,
        folders: Sequence[Path] = (),
        *,
        models: Learned | None = None,
        reputation: Reputation | None = None,
        metrics: Metrics | None = None,
        minimum: int = calibration.MINIMUM,
        clock: Callable[[], float] = time.monotonic,
        budget: float = TIME_BUDGET,
        compiler: Compiler | None = None,
    ) -> None:
        """Take the folders with rules, besides those that come with the server.

        `minimum` is from how many lessons on what an account taught counts; `compiler` is there
        while rules are compiled, in this process when there is none.
        """
        self._folders = (OWN_RULES, *folders)
        self._models = models
        self._reputation = reputation
        self._metrics = metrics
        self._minimum = minimum
        self._clock = clock
        self._budget = budget
        self._compiler = compiler or nullcontext
        self._engine: Engine | None = None
        self._nothing = Counts(1)
        self._loading: asyncio.Task[bool] | None = None
        self._recent: OrderedDict[int, Looked] = OrderedDict()

    @property
    def engine(self) -> Engine:
        """The rules; FilterBroken before `load`."""
        if self._engine is None:
            raise FilterBroken("the rules are not loaded")
        return self._engine

    async def run(self) -> None:
        """Load; a filter that does not work is tried again, and until then finds nothing."""
        while not await self._ready():
            await asyncio.sleep(RETRY)
            self._loading = None

    async def _ready(self) -> bool:
        """Wait until it is known whether the filter works; the first who asks loads it."""
        if self._loading is None:
            self._loading = asyncio.create_task(self._works(), name="content filter")
        return await asyncio.shield(self._loading)

    async def _works(self) -> bool:
        try:
            await self.load()
        except (MailError, OSError) as error:
            log.error("the content filter does not work", extra={"reason": str(error)})
            self._tell(works=False)
            return False
        return True

    async def load(self) -> None:
        """Read and compile the rules, then see that they work.

        Raises FilterBroken when they do not: better no filter than one that finds nothing. What was
        learned may come later: the teacher brings it up to date all the time.
        """
        engine = await asyncio.to_thread(self._compiled)
        if self._models is not None:
            try:
                await self._models.refresh()
            except Unavailable as error:
                log.warning("only rules at first", extra={"reason": str(error)})
        self._engine = engine
        self.check(datetime.now().astimezone())

    def check(self, now: datetime) -> None:
        """Put the test pattern through the whole filter; FilterBroken when it is not found."""
        probe = Inquiry("probe", Client("192.0.2.1"), None, (), _PROBE, now)
        looked = self._look(probe, (), max(self._budget, PROBE_TIME))
        works = "GTUBE" in [each.name for each in looked.symbols]
        self._tell(works=works)
        if not works:
            self._engine = None
            raise FilterBroken("the content filter does not find its test pattern")

    def _tell(self, *, works: bool) -> None:
        if self._metrics is not None:
            self._metrics.content_filter_broken.set(not works)

    def _compiled(self) -> Engine:
        with self._compiler() as compile_rows:
            engine = Engine(rulefile.load(self._folders), compile_rows=compile_rows)
        log.info("rules loaded", extra={"rules": len(engine), "unusable": len(engine.unusable)})
        return engine

    # Judging -----------------------------------------------------------------------------------

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        """Say what rules, classifier and the history of the sender find in a message."""
        looked = await self._looked(inquiry, findings)
        symbols = list(looked.symbols)
        if self._reputation is not None:
            origin = reputation.names(looked.views, findings)
            symbols += await self._reputation.symbols(origin)
            self._reputation.saw(origin, spam=_total(looked.symbols) >= SPAM)
        score = _total(symbols)
        result = "spam" if score >= SPAM else "ham" if score <= 0 else "unsure"
        reason = "" if looked.complete else "no time for all rules"
        if not looked.complete and self._metrics is not None:
            self._metrics.content_timeouts.inc()
        return Finding(self.name, result, reason, tuple(symbols))

    async def judge_for(
        self, account: AccountId, inquiry: Inquiry, findings: Sequence[Finding]
    ) -> Finding:
        """Say what this account's own lessons and acquaintances change."""
        looked = await self._looked(inquiry, findings)
        symbols = []
        if self._reputation is not None:
            known = await self._reputation.knows(account, looked.views, findings)
            symbols += [known] if known is not None else []
        if self._models is not None:
            own = await self._models.of_account(account)
            if own is not None and own.lessons >= self._minimum:
                symbols += self._taught(looked, own)
        result = "none" if not symbols else "spam" if _total(symbols) > 0 else "ham"
        return Finding(PERSONAL, result, "", tuple(symbols))

    def _taught(self, looked: Looked, own: Counts) -> list[Symbol]:
        """Return by how much the score is another with what the account taught."""
        server = self._server()
        if not _enough(server, own):
            return []
        theirs = margin(evidence(looked.features, server, own, calibration.OWN_WEIGHT))
        before = 0.0 if looked.margin is None else _score(looked.margin, server, None)
        change = round(_score(theirs, server, own) - before, 2)
        if not change:
            return []
        text = f"{probability(theirs):.0%} likely to be spam by what the user taught"
        return [Symbol("TAUGHT", change, text)]

    def _server(self) -> Counts:
        return self._models.server if self._models is not None else self._nothing

    async def _looked(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Looked:
        """Look at a message, once for all who get it."""
        if self._engine is None:  # messages that come while rules are compiled wait
            await self._ready()
        known = self._recent.get(id(inquiry))
        if known is not None and known.inquiry is inquiry:
            return known
        looked = None
        if len(inquiry.raw) <= SMALL:
            looked = self._look(inquiry, findings, min(ON_LOOP, self._budget))
        if looked is None or not looked.complete:
            looked = await asyncio.to_thread(self._look, inquiry, findings, self._budget)
        self._recent[id(inquiry)] = looked
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        return looked

    def _look(self, inquiry: Inquiry, findings: Sequence[Finding], seconds: float) -> Looked:
        views = Views(_with_name(inquiry, findings))
        facts = [f"__AUTH_{each.check}_{each.result}".upper() for each in findings]
        outcome = self.engine.run(views, Budget(seconds, self._clock), facts)
        symbols = list(outcome.symbols)
        found = features(views, JUDGED_WORDS)
        server, value = self._server(), None
        if _enough(server, None):
            value = margin(evidence(found, server))
            text = f"{probability(value):.0%} likely to be spam by what was learned"
            symbols.append(Symbol("CLASSIFIER", _score(value, server, None), text))
        return Looked(inquiry, views, found, value, tuple(symbols), outcome.complete)


def _total(symbols: Sequence[Symbol]) -> float:
    return sum(each.score for each in symbols)


def _lessons(server: Counts, own: Counts | None) -> int:
    """Return how much was learned of spam or of other mail, whichever is less."""
    ham, spam = server.ham_lessons, server.spam_lessons
    if own is not None:
        ham += own.ham_lessons * calibration.OWN_WEIGHT
        spam += own.spam_lessons * calibration.OWN_WEIGHT
    return min(ham, spam)


def _enough(server: Counts, own: Counts | None) -> bool:
    """Tell whether enough was learned of spam and of other mail to say anything."""
    return _lessons(server, own) >= calibration.MINIMUM_EACH


def _score(margin: float, server: Counts, own: Counts | None) -> float:
    """Return what a margin gives; who has learned little is believed little."""
    trust = min(1.0, _lessons(server, own) / calibration.TRUSTED)
    return round(calibration.score(margin) * trust, 2)


def _with_name(inquiry: Inquiry, findings: Sequence[Finding]) -> Inquiry:
    """Give the client the name that was found for its address."""
    if inquiry.client.name:
        return inquiry
    name = next((f.reason for f in findings if f.check == "iprev" and f.result == "pass"), "")
    return replace(inquiry, client=replace(inquiry.client, name=name)) if name else inquiry
