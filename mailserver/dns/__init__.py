"""Questions to DNS: cached as long as the answers allow, asked once at a time, within limits."""

from mailserver.dns.records import (
    Addresses,
    Answer,
    LookupFailed,
    MailExchanger,
    Service,
    TlsaRecord,
)
from mailserver.dns.resolver import Outcome, Resolver

__all__ = [
    "Addresses",
    "Answer",
    "LookupFailed",
    "MailExchanger",
    "Outcome",
    "Resolver",
    "Service",
    "TlsaRecord",
]
