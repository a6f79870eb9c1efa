"""What reports say: DMARC (RFC 9990 §3) and SMTP TLS (RFC 8460 §4); pure."""

from dataclasses import dataclass, field
from enum import IntEnum


class Kind(IntEnum):
    """Kinds of reports; the numbers are stored."""

    DMARC = 1
    TLS = 2


@dataclass(frozen=True, slots=True)
class AuthResult:
    """One result of DKIM or SPF, whatever it means for DMARC."""

    method: str  # "dkim" or "spf"
    domain: str
    result: str
    selector: str = ""  # of DKIM


@dataclass(frozen=True, slots=True)
class DmarcRow:
    """Messages that are alike."""

    source_ip: str
    count: int
    disposition: str  # "none", "pass", "quarantine", "reject"
    dkim: str  # aligned: "pass" or "fail"
    spf: str
    header_from: str
    envelope_from: str = ""
    reasons: tuple[tuple[str, str], ...] = ()  # of an override: its type and a comment
    results: tuple[AuthResult, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether DMARC passed."""
        return "pass" in (self.dkim, self.spf)


@dataclass(frozen=True, slots=True)
class Report:
    """What both kinds begin with."""

    organization: str
    contact: str
    report_id: str
    begins: int  # seconds since 1970
    ends: int


@dataclass(frozen=True, slots=True)
class DmarcReport(Report):
    """An aggregate report about one domain."""

    domain: str
    policy: dict[str, str] = field(default_factory=dict)  # as published: p, sp, np, adkim, ...
    rows: tuple[DmarcRow, ...] = ()

    @property
    def passed(self) -> int:
        """Messages that passed DMARC."""
        return sum(row.count for row in self.rows if row.passed)

    @property
    def failed(self) -> int:
        """Messages that did not."""
        return sum(row.count for row in self.rows if not row.passed)


@dataclass(frozen=True, slots=True)
class TlsFailure:
    """Sessions that failed in the same way."""

    result_type: str  # RFC 8460 §4.3
    count: int
    receiving_host: str = ""
    receiving_ip: str = ""
    sending_ip: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """The sessions under one policy."""

    policy_type: str  # "tlsa", "sts", "no-policy-found"
    domain: str
    succeeded: int
    failed: int
    policy: tuple[str, ...] = ()  # its lines
    hosts: tuple[str, ...] = ()
    failures: tuple[TlsFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsReport(Report):
    """A report about one domain or more."""

    policies: tuple[TlsPolicy, ...] = ()

    @property
    def domain(self) -> str:
        """The domains that it is about, a word each."""
        return " ".join(dict.fromkeys(policy.domain for policy in self.policies))

    @property
    def passed(self) -> int:
        """Sessions that were as the policy wants."""
        return sum(policy.succeeded for policy in self.policies)

    @property
    def failed(self) -> int:
        """Sessions that were not."""
        return sum(policy.failed for policy in self.policies)
