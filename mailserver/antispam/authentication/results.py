"""What the authentication of a message came to; the words are those of RFC 8601 §2.7."""

from dataclasses import dataclass, field

from mailserver.antispam.evidence import Finding
from mailserver.antispam.verdict import Action


@dataclass(frozen=True, slots=True)
class Iprev:
    """Whether the name of an address leads back to it (RFC 8601 §3)."""

    result: str  # "pass", "fail", "temperror", "permerror"
    ip: str
    name: str = ""  # the one that leads back


@dataclass(frozen=True, slots=True)
class Spf:
    """Whether a domain lets the client send in its name (RFC 7208 §2.6)."""

    result: str  # "none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"
    identity: str  # "helo" or "mailfrom"
    domain: str = ""
    mechanism: str = ""  # that decided
    reason: str = ""  # of an error; of "fail": what the domain says about it


@dataclass(frozen=True, slots=True)
class Signature:
    """One DKIM signature (RFC 6376 §6.1)."""

    result: str  # "pass", "fail", "policy", "neutral", "temperror", "permerror"
    domain: str = ""
    selector: str = ""
    identity: str = ""  # `i=`
    algorithm: str = ""
    reason: str = ""  # why it is no "pass", or what is weak about one
    testing: bool = False  # `t=y`: the domain only tries out signing
    partial: bool = False  # something was put behind the part of the body that is signed (`l=`)


@dataclass(frozen=True, slots=True)
class Arc:
    """What servers on the way vouch for (RFC 8617 §5.2)."""

    result: str  # "none", "pass", "fail"
    instances: int = 0
    sealer: str = ""  # domain of the newest seal
    sealers: tuple[str, ...] = ()  # of all seals, the oldest first
    oldest_pass: int = 0  # 0: every signature of the chain still holds
    results: tuple[bytes, ...] = ()  # the values of ARC-Authentication-Results, likewise
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Dmarc:
    """What the domain in From asks for, and whether the message is from it (RFC 9989 §5)."""

    result: str  # "none", "pass", "fail", "temperror", "permerror"
    domain: str = ""  # in From
    policy_domain: str = ""  # where the record is
    policy: str = ""  # asked for mail that fails: "none", "quarantine", "reject"
    aligned: tuple[str, ...] = ()  # "spf", "dkim": what made it pass
    disposition: str = "none"  # what is done: as the policy, or milder with an override
    override: str = (
        ""  # "trusted_forwarder", "policy_test_mode" (RFC 9990), "sampled_out" (RFC 7489)
    )
    reason: str = ""
    testing: bool = False  # `t=y`
    percent: int = 100  # of mail that the policy is for (RFC 7489)
    overdue: bool = False  # nobody could tell for so long that the message is not put off again

    @property
    def action(self) -> Action:
        """Return what this check alone says is to be done with the message."""
        if self.result == "temperror":
            return Action.ACCEPT if self.overdue else Action.DEFER
        return _ACTIONS[self.disposition]


_ACTIONS = {"none": Action.ACCEPT, "quarantine": Action.JUNK, "reject": Action.REJECT}

# The first that any signature has is that of all.
_SIGNATURE_ORDER = ("pass", "temperror", "fail", "policy", "neutral", "permerror")


@dataclass(frozen=True, slots=True)
class Authentication:
    """All that was checked about where a message comes from."""

    iprev: Iprev
    helo: Spf
    mail_from: Spf  # of postmaster@ the HELO name for the null sender (RFC 7208 §2.4)
    signatures: tuple[Signature, ...] = ()
    arc: Arc = Arc("none")
    dmarc: Dmarc = Dmarc("none")
    seconds: dict[str, float] = field(default_factory=dict)  # by the name of the check

    @property
    def dkim(self) -> str:
        """Return the best result of all signatures, "none" without one."""
        found = {signature.result for signature in self.signatures}
        return next((word for word in _SIGNATURE_ORDER if word in found), "none")

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return a finding for each check, in the order in which they are made."""
        rows = (
            ("iprev", self.iprev.result, self.iprev.name),
            ("spf_helo", self.helo.result, _spf_reason(self.helo)),
            ("spf", self.mail_from.result, _spf_reason(self.mail_from)),
            ("dkim", self.dkim, "; ".join(map(_signature_reason, self.signatures))),
            ("arc", self.arc.result, self.arc.reason or self.arc.sealer),
            ("dmarc", self.dmarc.result, self.dmarc.reason or self.dmarc.policy_domain),
        )
        return tuple(
            Finding(check, result, reason, seconds=self.seconds.get(check, 0.0))
            for check, result, reason in rows
        )


def _spf_reason(spf: Spf) -> str:
    return ": ".join(part for part in (spf.domain, spf.reason or spf.mechanism) if part)


def _signature_reason(signature: Signature) -> str:
    domain = signature.domain or "?"
    why = f" ({signature.reason})" if signature.reason else ""
    return f"{domain} {signature.result}{why}"
