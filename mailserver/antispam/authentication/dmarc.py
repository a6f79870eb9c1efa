"""Is a message from the domain in From, and what that domain asks for if it is not (RFC 9989)?"""

import re
from collections.abc import Sequence
from dataclasses import replace

from mailserver.address import normal_domain
from mailserver.antispam.authentication.content import Content
from mailserver.antispam.authentication.lookups import Lookups
from mailserver.antispam.authentication.policies import (
    POLICIES,
    Discovery,
    Record,
    SuffixList,
    TreeWalk,
)
from mailserver.antispam.authentication.results import Arc, Dmarc, Signature, Spf
from mailserver.dns import LookupFailed
from mailserver.errors import Invalid
from mailserver.mime import addresses

MAX_AUTHORS = 5  # domains in From that are checked; more are nobody's mail
_RESULT_WORDS = ("pass", "none", "permerror", "temperror", "fail")  # the mildest first
_QUOTED = re.compile(rb'"(?>(?:[^"\\]|\\.)*)"', re.DOTALL)
_COMMENT = re.compile(rb"\((?>(?:[^()\\]|\\.)*)\)", re.DOTALL)
_PASS = re.compile(rb"[ \t\r\n]*+dmarc[ \t\r\n]*+=[ \t\r\n]*+pass(?![a-z])", re.IGNORECASE)
_FROM = re.compile(rb"[ \t\r\n]header\.from[ \t\r\n]*+=[ \t\r\n]*+([^\s;]++)", re.IGNORECASE)


class Evidence:
    """What was found out about a message before DMARC is asked."""

    __slots__ = ("arc", "signatures", "spf")

    def __init__(self, spf: Spf, signatures: Sequence[Signature], arc: Arc) -> None:
        self.spf = spf
        self.signatures = signatures
        self.arc = arc


async def check_dmarc(
    resolver: Lookups,
    content: Content,
    evidence: Evidence,
    *,
    trusted_sealers: frozenset[str] = frozenset(),
    suffix_list: bool = False,
) -> Dmarc:
    """Check the domain in From; of several ones the strictest outcome counts."""
    authors = author_domains(content)
    if not authors:
        return Dmarc("permerror", reason="no domain in From")
    if len(authors) > MAX_AUTHORS:
        return Dmarc(
            "permerror", authors[0], disposition="quarantine", reason="many domains in From"
        )
    discovery = SuffixList(resolver) if suffix_list else TreeWalk(resolver)
    found = [
        await _check(resolver, discovery, author, evidence, trusted_sealers) for author in authors
    ]
    strictest = max(found, key=_severity)
    return _sampled(strictest, content) if suffix_list else strictest


def author_domains(content: Content) -> list[str]:
    """Return the domains of all addresses in From, each once (RFC 9989 §5.3.1)."""
    domains: dict[str, None] = {}
    for field in content.named("from"):
        for mailbox in addresses.parse(field.value):
            try:
                domains[normal_domain((mailbox.domain or b"").decode())] = None
            except (Invalid, UnicodeDecodeError):
                continue
    return list(domains)


def _severity(found: Dmarc) -> tuple[int, int]:
    return POLICIES.index(found.disposition), _RESULT_WORDS.index(found.result)


async def _check(
    resolver: Lookups,
    discovery: Discovery,
    author: str,
    evidence: Evidence,
    trusted_sealers: frozenset[str],
) -> Dmarc:
    try:
        record = await discovery.policy(author)
        if record is None or record.says_nothing:
            return Dmarc("none", author)
        exists = record.np is None or record.domain == author or (await resolver.a(author)).exists
    except LookupFailed:
        return _without_policy(author, evidence)
    policy = record.policy_for(author, exists)
    found = Dmarc(
        "fail", author, record.domain, policy, testing=record.testing, percent=record.percent
    )
    aligned, is_unclear = await _aligned(discovery, author, record, evidence)
    if aligned:
        return replace(found, result="pass", aligned=aligned)
    if is_unclear and policy != "none":
        return replace(found, result="temperror", reason="no answer that decides")
    return _disposed(found, record, evidence.arc, trusted_sealers)


def _without_policy(author: str, evidence: Evidence) -> Dmarc:
    """Say what is known when nobody can tell the policy: a domain's own mail passes any policy."""
    spf = ["spf"] if (evidence.spf.result, evidence.spf.domain) == ("pass", author) else []
    own = any(each.domain == author for each in _passing(evidence))
    aligned = (*spf, *(["dkim"] if own else []))
    if aligned:
        return Dmarc("pass", author, aligned=aligned, reason="no answer about its policy")
    return Dmarc("temperror", author, reason="no answer about its policy")


def _passing(evidence: Evidence) -> list[Signature]:
    """Return the signatures that say who wrote all of the message."""
    return [each for each in evidence.signatures if each.result == "pass" and not each.partial]


async def _aligned(
    discovery: Discovery, author: str, record: Record, evidence: Evidence
) -> tuple[tuple[str, ...], bool]:
    """Return what is aligned, and whether an answer is missing that could change it."""
    spf = evidence.spf
    rows = [("spf", spf.result, spf.domain, record.strict_spf)] if spf.domain else []
    rows += [
        ("dkim", each.result, each.domain, record.strict_dkim)
        for each in evidence.signatures
        if not each.partial
    ]
    aligned: list[str] = []
    is_unclear = False
    for method, result, domain, strict in rows:
        if result not in ("pass", "temperror") or method in aligned:
            continue
        try:
            is_aligned = await _same(discovery, author, domain.lower().removesuffix("."), strict)
        except LookupFailed:
            is_unclear = True
            continue
        if is_aligned and result == "pass":
            aligned.append(method)
        is_unclear = is_unclear or is_aligned
    return tuple(aligned), is_unclear


async def _same(discovery: Discovery, author: str, domain: str, strict: bool) -> bool:
    """Tell whether two domains are aligned (RFC 9989 §4.10.2)."""
    if strict or author == domain:
        return author == domain
    if author.rpartition(".")[2] != domain.rpartition(".")[2]:
        return False  # no organization has names under two top-level domains
    return await discovery.organization(author) == await discovery.organization(domain)


def _disposed(found: Dmarc, record: Record, arc: Arc, trusted_sealers: frozenset[str]) -> Dmarc:
    """Decide what is done with a message that fails: what is asked, or less, and why."""
    if found.policy == "none":
        return found
    sealer = vouching(arc, found.domain, trusted_sealers)
    if sealer:
        reason = f"{sealer}, which is trusted, found that it passes"
        return replace(found, override="trusted_forwarder", reason=reason)
    if record.testing:
        return replace(found, disposition=_milder(found.policy), override="policy_test_mode")
    return replace(found, disposition=found.policy)


def _milder(policy: str) -> str:
    return POLICIES[POLICIES.index(policy) - 1]


def _sampled(found: Dmarc, content: Content) -> Dmarc:
    """Keep to the share of mail that a policy is for (RFC 7489 §6.6.4).

    The message itself draws the lot, so that another attempt has the same outcome.
    """
    if found.percent == 100 or found.disposition == "none":
        return found
    lot = int.from_bytes(content.body_hash("simple", None)[:4], "big") % 100
    if lot < found.percent:
        return found
    return replace(found, disposition=_milder(found.disposition), override="sampled_out")


def vouching(arc: Arc, author: str, trusted_sealers: frozenset[str]) -> str:
    """Return the trusted server that found, before a change on the way, that DMARC passes.

    Only servers that are trusted may have had the message after it.
    """
    if arc.result != "pass":
        return ""
    for sealer, results in zip(reversed(arc.sealers), reversed(arc.results), strict=True):
        if sealer not in trusted_sealers:
            return ""
        if _says_pass(results, author):
            return sealer
    return ""


def _says_pass(results: bytes, author: str) -> bool:
    plain = _COMMENT.sub(b" ", _QUOTED.sub(b" ", results))
    for clause in plain.split(b";"):
        if _PASS.match(clause):
            header_from = _FROM.search(clause)
            return (
                header_from is None or header_from[1].decode("ascii", "replace").lower() == author
            )
    return False
