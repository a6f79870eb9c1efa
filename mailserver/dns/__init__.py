"""Questions to DNS: cached as long as the answers allow, asked once at a time, within limits."""

from mailserver.dns.records import Answer, LookupFailed, MailExchanger, Service, TlsaRecord
from mailserver.dns.resolver import Resolver

__all__ = ["Answer", "LookupFailed", "MailExchanger", "Resolver", "Service", "TlsaRecord"]
