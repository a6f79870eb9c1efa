"""Whether a message is from whom it says: SPF, DKIM, DMARC, ARC and iprev (RFC 8601)."""

from mailserver.antispam.authentication.checks import Rules, authenticate
from mailserver.antispam.authentication.headers import (
    authentication_results,
    received_spf,
    without_forged,
)
from mailserver.antispam.authentication.iprev import check_iprev
from mailserver.antispam.authentication.results import Authentication

__all__ = [
    "Authentication",
    "Rules",
    "authenticate",
    "authentication_results",
    "check_iprev",
    "received_spf",
    "without_forged",
]
