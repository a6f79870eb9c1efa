"""What stands between the sessions of SMTP and the mailboxes."""

from dataclasses import dataclass

from mailserver.antispam.pipeline import Pipeline
from mailserver.antispam.ratelimit import Rates
from mailserver.antispam.trace import Journal


@dataclass(frozen=True, slots=True)
class Gate:
    """The checks, and the journal of what became of each message; each may be missing."""

    pipeline: Pipeline | None = None
    journal: Journal | None = None
    rates: Rates | None = None  # counts that all processes share


OPEN = Gate()
