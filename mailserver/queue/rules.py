"""What becomes of a recipient after an attempt: pure, the one state machine of the queue.

Times are stored with the recipient and worked out here, when an attempt ends; nothing derives them
later from a count or a setting.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from mailserver.model import QueueState, ReportKind

RANKS = (0, 1, 2)  # of recipients: before all other mail, as all mail, after it
MAX_CRASHES = 3  # attempts without an outcome, then the recipient is set aside


def rank(priority: int) -> int:
    """Return the rank of a priority (RFC 6710): mail of a rank leaves in the order it is due."""
    if priority > 0:
        return RANKS[0]
    return RANKS[1] if priority == 0 else RANKS[2]


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """Until when a message has to be delivered, and what if it is not (RFC 2852 §4)."""

    at: datetime
    returns: bool  # by-mode R: it goes back then; N: the sender is told, and it stays
    traced: bool = False  # whoever relays it says so

    @property
    def mode(self) -> str:
        """Return the mode as it is stored and sent."""
        return f"{'R' if self.returns else 'N'}{'T' if self.traced else ''}"

    @classmethod
    def stored(cls, at: datetime | None, mode: str | None) -> "DeliverBy | None":
        """Return what was stored; None when there is no such wish."""
        return None if at is None or not mode else cls(at, mode[0] == "R", mode[1:] == "T")


class Result(Enum):
    """How an attempt ended."""

    DELIVERED = auto()  # into a mailbox here
    RELAYED = auto()  # to another server, which reports deliveries itself when it was asked to
    DEFERRED = auto()  # it may succeed later
    FAILED = auto()  # it never will
    CAUGHT = auto()  # kept and shown: nothing leaves this server


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, with the words of who ended it."""

    result: Result
    reply: str  # "550 5.1.1 No such user", or our own words in the same form
    status: str  # enhanced status code, RFC 3463
    remote: str | None = None  # the host that said it; None: this server
    reports: bool = False  # the other server took over NOTIFY (RFC 3461 §5.2.2)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to try again and when to give up."""

    first: timedelta = timedelta(minutes=5)
    longest: timedelta = timedelta(hours=4)
    expire_after: timedelta | None = None  # of a route; None: as stored with the recipient

    def delay(self, attempts: int, chance: float) -> timedelta:
        """Return the pause after so many attempts: it doubles, and varies by a tenth.

        `chance` is in [0, 1): recipients that failed together do not come back together.
        """
        doubled = self.first * (1 << min(max(attempts - 1, 0), 20))
        return min(doubled, self.longest) * (0.9 + 0.2 * chance)


@dataclass(frozen=True, slots=True)
class Attempted:
    """What is known of a recipient when its attempt ends."""

    attempts: int  # with this one
    received_at: datetime
    expires_at: datetime
    notify: str | None  # RFC 3461 §4.1
    null_sender: bool
    deliver_by: DeliverBy | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """What is stored of a recipient after an attempt."""

    state: QueueState
    next_attempt: datetime
    expires_at: datetime
    finished_at: datetime | None
    report: ReportKind | None
    reply: str
    status: str
    remote: str | None


_FINAL = {
    Result.DELIVERED: QueueState.DELIVERED,
    Result.RELAYED: QueueState.DELIVERED,
    Result.FAILED: QueueState.FAILED,
}


def after(
    recipient: Attempted, outcome: Outcome, schedule: Schedule, now: datetime, chance: float
) -> Next:
    """Return what becomes of a recipient: final, or another attempt, the last one at its expiry."""
    expires = recipient.expires_at
    if schedule.expire_after is not None:
        expires = recipient.received_at + schedule.expire_after
    by = recipient.deliver_by
    if by is not None and by.returns:
        expires = min(expires, by.at)
    reply, status, result = outcome.reply, outcome.status, outcome.result
    if result is Result.DEFERRED and now >= expires:
        result = Result.FAILED
        reply = f"{reply} (given up: tried for too long)"
        status = "5.4.7"  # delivery time expired
    state = _FINAL.get(result)
    due = now
    if state is None:
        state = QueueState.CAUGHT
        if result is Result.DEFERRED:
            state = QueueState.WAITING
            due = min(now + schedule.delay(recipient.attempts, chance), max(expires, now))
    return Next(
        state=state,
        next_attempt=due,
        expires_at=expires,
        finished_at=now if result in _FINAL else None,
        report=report_due(recipient, result, reports=outcome.reports),
        reply=reply,
        status=status,
        remote=outcome.remote,
    )


def report_due(recipient: Attempted, result: Result, *, reports: bool = False) -> ReportKind | None:
    """Return the report that a result asks for; never any to the null sender (RFC 3461 §6.1)."""
    if recipient.null_sender:
        return None
    wishes = None if recipient.notify is None else set(recipient.notify.upper().split(","))
    by = recipient.deliver_by
    if result is Result.RELAYED and by is not None and by.traced and wishes != {"NEVER"}:
        return ReportKind.RELAYED
    if result is Result.FAILED and (wishes is None or "FAILURE" in wishes):
        return ReportKind.FAILED
    if wishes is None or "SUCCESS" not in wishes:
        return None
    if result is Result.DELIVERED:
        return ReportKind.DELIVERED
    if result is Result.RELAYED and not reports:
        return ReportKind.RELAYED
    return None
