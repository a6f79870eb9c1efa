"""Which sessions with other servers were encrypted as their policy wants (RFC 8460 §4.3)."""

import ssl
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from mailserver.dns import TlsaRecord
from mailserver.feedback.model import Kind
from mailserver.feedback.tally import Tally
from mailserver.smtp.outbound.connection import Connection, ConnectionFailed, NoTls, TlsFailed
from mailserver.smtp.outbound.route import Hop
from mailserver.smtp.protocol.sts import Mode, Policy

MAX_REASON = 200  # characters

# Codes of OpenSSL's verification (x509_vfy.h).
_CODES = {
    10: "certificate-expired",
    62: "certificate-host-mismatch",
    18: "certificate-not-trusted",
    19: "certificate-not-trusted",
    20: "certificate-not-trusted",
    21: "certificate-not-trusted",
}


@dataclass(slots=True)
class TlsResults:
    """Counts the sessions with the servers of one domain."""

    tally: Tally
    domain: str
    counting: bool = False  # not where a route of ours decides how mail leaves
    policy: Policy | None = None  # of MTA-STS, that sessions are under

    @property
    def testing(self) -> bool:
        """Whether a policy only wants to hear what it would have prevented."""
        return self.policy is not None and self.policy.mode is Mode.TESTING

    async def counted(
        self, opening: Awaitable[Connection], hop: Hop, records: Sequence[TlsaRecord] = ()
    ) -> Connection:
        """Return the connection, and count what became of it."""
        try:
            connection = await opening
        except ConnectionFailed as error:
            kind = result_type(error)
            if kind:  # what has nothing to do with TLS is not counted
                self._add(kind, hop, error.text, records)
            raise
        if not connection.tls:
            self._add("starttls-not-supported", hop, "", records)
        elif not records and self.policy is not None and not self.policy.allows(hop.host):
            self.outside(hop)
        else:
            self._add("", hop, "", records)
        return connection

    def outside(self, hop: Hop) -> None:
        """Count a session with a server that the policy does not name."""
        self._add("validation-failure", hop, "the policy does not name the host", ())

    def unsigned(self, hop: Hop) -> None:
        """Count a session that could not be, for DNS did not say how it should be."""
        self._add("dnssec-invalid", hop, "no answer for its TLSA records", (), tlsa=True)

    def _add(
        self,
        result: str,
        hop: Hop,
        reason: str,
        records: Sequence[TlsaRecord],
        *,
        tlsa: bool = False,
    ) -> None:
        if not self.counting:
            return
        policy = self.policy
        lines: list[str] = []
        kind = "no-policy-found"
        if records or tlsa:
            kind, lines = "tlsa", [str(record) for record in records]
        elif policy is not None:
            kind = "sts"
            lines = ["version: STSv1", f"mode: {policy.mode.value}"]
            lines += [*(f"mx: {host}" for host in policy.hosts), f"max_age: {policy.max_age}"]
        self.tally.add(
            Kind.TLS,
            self.domain,
            {
                "type": kind,
                "policy": lines,
                "hosts": list(policy.hosts) if kind == "sts" and policy is not None else [],
                "result": result,
                "host": hop.host if result else "",
                "ip": hop.address if result else "",
                "reason": " ".join(reason[:MAX_REASON].split()),
            },
        )


def result_type(error: ConnectionFailed) -> str:
    """Return the word of RFC 8460 §4.3 for an error; empty for one that is not about TLS."""
    if isinstance(error, NoTls):
        return "starttls-not-supported"
    if not isinstance(error, TlsFailed):
        return ""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _CODES.get(cause.verify_code, "validation-failure")
    return "validation-failure"
