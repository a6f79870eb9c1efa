"""Results of DMARC, counted for reports to the domains that mail claims to be from.

Spam is not counted: whoever sends it must not make this server write to anybody. Nor is mail to the
addresses that get reports here, or two servers would report about reports for ever.
"""

from mailserver.address import Address, parse_address
from mailserver.antispam.authentication import Authentication
from mailserver.antispam.evidence import Inquiry
from mailserver.antispam.verdict import Action, Verdict
from mailserver.config import Reports
from mailserver.feedback.model import AuthResult, DmarcRow, Kind
from mailserver.feedback.tally import Detail, Tally

MAX_SIGNATURES = 8  # of one message that are named
_SPF_WORDS = frozenset(
    {"none", "pass", "fail", "softfail", "policy", "neutral", "temperror", "permerror"}
)


class DmarcResults:
    """Takes the result of each message."""

    def __init__(self, tally: Tally, settings: Reports, separator: str, junk_score: float) -> None:
        self._tally = tally
        self._separator = separator
        self._junk_score = junk_score
        addresses = (settings.addresses + " " + settings.sender).split()
        self._own = {self._plain(parse_address(word)) for word in addresses}

    def record(
        self, inquiry: Inquiry, done: Authentication, verdict: Verdict, *, delivered: bool
    ) -> None:
        """Count a message whose domain has a policy, unless it must not be."""
        if done.dmarc.policy_domain and self._counts(inquiry, done, verdict):
            self._tally.add(Kind.DMARC, done.dmarc.policy_domain, detail(inquiry, done, delivered))

    def _counts(self, inquiry: Inquiry, done: Authentication, verdict: Verdict) -> bool:
        if done.dmarc.result not in ("pass", "fail"):
            return False
        if verdict.score >= self._junk_score:
            return False
        if verdict.action is not Action.ACCEPT and verdict.action is not done.dmarc.action:
            return False  # something else refused it: a virus, a list
        return not any(self._plain(address) in self._own for address in inquiry.recipients)

    def _plain(self, address: Address) -> str:
        return str(address.without_subaddress(self._separator))


def detail(inquiry: Inquiry, done: Authentication, delivered: bool) -> Detail:
    """Return what a message has in common with others that are counted together."""
    dmarc = done.dmarc
    disposition, override = dmarc.disposition, dmarc.override
    if (
        delivered and disposition == "reject"
    ):  # somebody here wants mail of that sender all the same
        disposition, override = "none", "local_policy"
    if dmarc.result == "pass":
        disposition = "none" if dmarc.policy in ("", "none") else "pass"  # RFC 9990 §3.1.1.10
    return {
        "ip": inquiry.client.ip,
        "disposition": disposition,
        "dkim": "pass" if "dkim" in dmarc.aligned else "fail",
        "spf": "pass" if "spf" in dmarc.aligned else "fail",
        "header_from": dmarc.domain,
        "envelope_from": inquiry.sender.domain if inquiry.sender is not None else "",
        "override": override,
        "signatures": [
            [each.domain, each.selector, each.result] for each in done.signatures[:MAX_SIGNATURES]
        ],
        "spf_result": [done.mail_from.domain, done.mail_from.result],
    }


_OVERRIDES = frozenset(
    {"local_policy", "mailing_list", "other", "policy_test_mode", "trusted_forwarder"}
)


def row(counted: Detail, times: int) -> DmarcRow:
    """Return the row of a report for what was counted."""
    signatures, spf = counted["signatures"], counted["spf_result"]
    assert isinstance(signatures, list)
    assert isinstance(spf, list)
    results = [
        AuthResult("dkim", str(domain), str(result), str(selector))
        for domain, selector, result in signatures
        if domain
    ]
    if spf[0] and spf[1] in _SPF_WORDS:
        results.append(AuthResult("spf", str(spf[0]), str(spf[1])))
    override = str(counted["override"])
    word = override if override in _OVERRIDES else "other"
    return DmarcRow(
        str(counted["ip"]),
        times,
        str(counted["disposition"]),
        str(counted["dkim"]),
        str(counted["spf"]),
        str(counted["header_from"]),
        str(counted["envelope_from"]),
        ((word, "" if word == override else override),) if override else (),
        tuple(results),
    )
