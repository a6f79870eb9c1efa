"""What becomes of a message: one decision, with its reasons."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from mailserver.antispam.evidence import Finding
from mailserver.model import AccountId


class Action(enum.StrEnum):
    """What is done with a message, the mildest first."""

    ACCEPT = "accept"
    JUNK = "junk"  # delivered, but to the Junk mailbox
    DEFER = "defer"  # the sender is asked to come again
    REJECT = "reject"

    @property
    def delivers(self) -> bool:
        """Whether a recipient gets the message."""
        return self in (Action.ACCEPT, Action.JUNK)

    @property
    def severity(self) -> int:
        """Return its place in the order of these."""
        return _ORDER[self]


_ORDER = {action: place for place, action in enumerate(Action)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one answer of the pipeline."""

    action: Action
    reason: str  # in words: which check or rule decided
    findings: tuple[Finding, ...] = ()
    status: str = ""  # enhanced status code of a refusal, RFC 3463; empty: that of a policy

    @property
    def score(self) -> float:
        """Return the sum over all findings."""
        return sum(finding.score for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a message with all its recipients: one reply, and a place for each."""

    verdict: Verdict  # what the sender is told
    accounts: Mapping[AccountId, Verdict]  # where it goes when it is delivered: ACCEPT or JUNK
    content: bytes  # without fields that only look like ours
    top: bytes = b""  # fields that say what was found, for the top of the header
    message: Action = Action.ACCEPT  # what it deserves by itself, whomever it is for
