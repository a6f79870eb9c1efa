"""What becomes of a message: one decision, with its reasons."""

import enum
from dataclasses import dataclass

from mailserver.antispam.evidence import Finding


class Action(enum.StrEnum):
    """What is done with a message, the mildest first."""

    ACCEPT = "accept"
    JUNK = "junk"  # delivered, but to the Junk mailbox
    DEFER = "defer"  # the sender is asked to come again
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one answer of the pipeline."""

    action: Action
    reason: str  # in words: which check or rule decided
    findings: tuple[Finding, ...] = ()

    @property
    def score(self) -> float:
        """Return the sum over all findings."""
        return sum(finding.score for finding in self.findings)
