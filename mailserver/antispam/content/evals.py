"""Tests of rule files that are functions: those of SpamAssassin's `eval:` that need no network.

Each takes the views of a message and the arguments of the rule, and tells whether the rule is met.
"""

from mailserver.antispam.content.evals_body import BODY_EVALS
from mailserver.antispam.content.evals_header import HEADER_EVALS

EVALS = {**BODY_EVALS, **HEADER_EVALS}
