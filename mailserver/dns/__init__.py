"""Questions to DNS: cached as long as the answers allow, asked once at a time, within limits."""

from mailserver.dns.records import (
    Addresses,
    Answer,
    LookupFailed,
    MailExchanger,
    Service,
    TlsaRecord,
)
from mailserver.dns.resolver import Resolver

__all__ = [
    "Addresses",
    "Answer",
    "LookupFailed",
    "MailExchanger",
    "Resolver",
    "Service",
    "TlsaRecord",
]
