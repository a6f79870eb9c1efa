"""The DNS records that a domain needs for mail, and what is wrong with those that it has."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mailserver.address import normal_domain
from mailserver.errors import NotFound
from mailserver.mail import dkim
from mailserver.mime.dkim import record
from mailserver.storage import accounts

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

TTL = 3600  # seconds
Lookup = Callable[[str, str], Awaitable[list[str]]]  # name and type: the records as text


@dataclass(frozen=True, slots=True)
class Record:
    """One record to publish."""

    name: str  # without the last dot
    kind: str
    value: str  # as in a zone file, TXT without quotes
    why: str


class Finding(StrEnum):
    """How a record in DNS compares with what it should be."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of one record."""

    record: Record
    finding: Finding
    text: str  # what to do


async def records(mail: "Mail", name: str) -> list[Record]:
    """Return the records of a domain; NotFound when it is not ours."""
    domain = normal_domain(name)
    if not await accounts.domain_exists(mail.database, domain):
        raise NotFound(f"domain {domain}")
    host = mail.config.server.hostname
    found = [
        Record(domain, "MX", f"10 {host}.", "mail for the domain comes here"),
        Record(domain, "TXT", "v=spf1 mx -all", "only its mail servers send for it, RFC 7208"),
    ]
    now = mail.now()
    found += [
        Record(
            f"{key.selector}._domainkey.{domain}",
            "TXT",
            record(key.algorithm, key.public),
            f"the key of signatures, {key.algorithm}, RFC 6376",
        )
        for key in await dkim.keys(mail, domain)
        if key.signs_until is None or key.signs_until + dkim.KEPT_IN_DNS > now
    ]
    report = f"mailto:postmaster@{domain}"
    found += [
        Record(
            f"_dmarc.{domain}",
            "TXT",
            f"v=DMARC1; p=none; rua={report}",
            "what others do with forged mail: later p=quarantine or p=reject, RFC 7489",
        ),
        Record(
            f"_smtp._tls.{domain}",
            "TXT",
            f"v=TLSRPTv1; rua={report}",
            "where others report failures of TLS, RFC 8460",
        ),
    ]
    services = (
        ("_submissions", 465, "clients find where to send, RFC 8314"),
        ("_submission", 587, "clients find where to send, RFC 6186"),
        ("_imaps", 993, "clients find their mail, RFC 6186"),
        ("_jmap", 443, "clients find their mail, RFC 8620"),
    )
    found += [
        Record(f"{service}._tcp.{domain}", "SRV", f"0 1 {port} {host}.", why)
        for service, port, why in services
    ]
    return found


async def check(mail: "Mail", name: str, lookup: Lookup) -> list[Check]:
    """Compare what DNS has with what it should have."""
    return [await _check(each, lookup) for each in await records(mail, name)]


async def _check(wanted: Record, lookup: Lookup) -> Check:
    there = await lookup(wanted.name, wanted.kind)
    if wanted.kind == "TXT":
        return _text(wanted, there)
    if wanted.value.lower() in [each.lower() for each in there]:
        return Check(wanted, Finding.OK, "")
    if wanted.kind == "MX":
        host = wanted.value.split()[-1].lower()
        if any(each.lower().split()[-1] == host for each in there):
            return Check(wanted, Finding.OK, "")
        problem = f"MX names {', '.join(there)}" if there else "there is no MX record"
        return Check(wanted, Finding.FAIL, f"{problem}: mail does not come here")
    missing = "differs" if there else "is missing"
    return Check(wanted, Finding.WARN, f"it {missing}: {wanted.why}")


def _text(wanted: Record, there: Sequence[str]) -> Check:
    """Check the one record of its kind at a name: SPF, DKIM, DMARC, TLS-RPT."""
    version = wanted.value.split(";")[0].split(" ")[0].lower()
    same = [each for each in there if each.lower().startswith(version)]
    important = Finding.FAIL if version in ("v=spf1", "v=dkim1") else Finding.WARN
    if len(same) > 1:
        return Check(wanted, Finding.FAIL, f"there are {len(same)} of them: none counts")
    if not same:
        return Check(wanted, important, f"it is missing: {wanted.why}")
    if version == "v=dkim1" and _tag(same[0], "p") != _tag(wanted.value, "p"):
        return Check(wanted, Finding.FAIL, "it has another key: signatures do not verify")
    if version == "v=spf1" and not same[0].rstrip().endswith(("-all", "~all")):
        return Check(wanted, Finding.WARN, "it lets anybody send: end it with -all or ~all")
    if version == "v=dmarc1" and _tag(same[0], "p") == "none":
        return Check(wanted, Finding.OK, "p=none: forged mail is still delivered")
    return Check(wanted, Finding.OK, "")


def _tag(text: str, name: str) -> str:
    for part in text.split(";"):
        key, _, value = part.partition("=")
        if key.strip() == name:
            return "".join(value.split())
    return ""
