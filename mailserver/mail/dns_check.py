"""What is wrong with the DNS records that a domain has for mail, and what to do about it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mailserver.dns import LookupFailed, Resolver
from mailserver.dns.records import CNAME, MX, SRV, TLSA
from mailserver.errors import MailError
from mailserver.mail import discovery, publishing
from mailserver.mail.publishing import Record

if TYPE_CHECKING:
    from mailserver.mail.context import Mail


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


Checked = Callable[[Record, Resolver], Awaitable[Check]]


Fetch = Callable[[str], Awaitable[str]]  # a domain: the policy of MTA-STS that others find


async def check(
    mail: "Mail", name: str, resolver: Resolver, fetch: Fetch | None = None
) -> list[Check]:
    """Compare what DNS has with what it should have; NotFound when the domain is not ours.

    With `fetch`, which raises what `fetch_policy` does, also the policy that others find.
    """
    wanted = await publishing.records(mail, name)
    names = dict.fromkeys((mail.config.server.hostname, discovery.host(mail.config)))
    hosts = [Record(host, "A", "", "the address of this server") for host in names]
    found = await asyncio.gather(*(_check(each, resolver) for each in [*hosts, *wanted]))
    checks = [each for some in found for each in some] + _unsigned(wanted)
    policy = discovery.policy(mail.config)
    if policy is not None and fetch is not None:
        checks.append(await _policy(wanted[0].name, policy, fetch))
    return checks


async def _policy(domain: str, policy: str, fetch: Fetch) -> Check:
    """Check that others find the policy of MTA-STS as it is here."""
    where = Record(f"https://mta-sts.{domain}", "policy", "", "how others send here, RFC 8461")
    try:
        there = await fetch(domain)
    except (MailError, OSError, TimeoutError) as error:
        reason = str(error) or "no answer in time"
        text = f"others do not find the policy: {reason}"
        return Check(where, Finding.WARN, text)
    if there.split() != policy.split():
        return Check(where, Finding.WARN, "another policy is found there: look at what serves it")
    return Check(where, Finding.OK, "")


def _unsigned(wanted: Sequence[Record]) -> list[Check]:
    """Warn when the domain has no keys, so that nothing of it is signed."""
    if any("._domainkey." in each.name for each in wanted):
        return []
    nothing = Record(f"_domainkey.{wanted[0].name}", "TXT", "", "the keys of signatures, RFC 6376")
    text = "the domain has no keys, its mail is not signed: `mailserver dkim rotate` makes some"
    return [Check(nothing, Finding.WARN, text)]


async def _check(wanted: Record, resolver: Resolver) -> list[Check]:
    try:
        if wanted.kind == "A":
            return await _host(wanted, resolver)
        return [await _CHECKS[wanted.kind](wanted, resolver)]
    except LookupFailed as failed:
        text = f"DNS gives no answer ({failed.reason}): try again; are the signatures right?"
        return [Check(wanted, Finding.FAIL, text)]


async def _host(wanted: Record, resolver: Resolver) -> list[Check]:
    """Check the addresses of the server, and that the name of each leads back to it."""
    there = await resolver.addresses(wanted.name)
    if not there.found:
        text = "the server has no address: no mail comes here, and others refuse what it sends"
        return [Check(wanted, Finding.FAIL, text)]
    found = [Record(wanted.name, "A", ", ".join(there.found), wanted.why)]
    checks = [Check(found[0], Finding.OK, "")]
    for address in there.found:
        names = (await resolver.ptr(address)).records
        reverse = Record(address, "PTR", f"{wanted.name}.", "others ask whose address it is")
        if wanted.name.lower() in names:
            checks.append(Check(reverse, Finding.OK, ""))
        else:
            called = f"is called {', '.join(names)}" if names else "has no name"
            text = f"the address {called}: many refuse its mail; ask who gave you the address"
            checks.append(Check(reverse, Finding.WARN, text))
    return checks


async def _mx(wanted: Record, resolver: Resolver) -> Check:
    there = (await resolver.lookup(wanted.name, MX)).records
    host = _last(wanted.value)
    others = [each.host for each in there if each.host != host]
    if len(others) == len(there):
        problem = f"MX names {', '.join(others) or 'nobody'}" if there else "there is no MX record"
        return Check(wanted, Finding.FAIL, f"{problem}: mail does not come here")
    text = f"mail may also go to {', '.join(others)}" if others else ""
    return Check(wanted, Finding.OK, text)


async def _srv(wanted: Record, resolver: Resolver) -> Check:
    there = (await resolver.lookup(wanted.name, SRV)).records
    port, host = int(wanted.value.split()[2]), _last(wanted.value)
    if any((each.port, each.host) == (port, host) for each in there):
        return Check(wanted, Finding.OK, "")
    problem = f"it names {there[0]}" if there else "it is missing"
    return Check(wanted, Finding.WARN, f"{problem}: {wanted.why}")


async def _cname(wanted: Record, resolver: Resolver) -> Check:
    """Check an alias; a name with the same addresses does as well."""
    there = (await resolver.lookup(wanted.name, CNAME)).records
    if _last(wanted.value) in there:
        return Check(wanted, Finding.OK, "")
    here = (await resolver.addresses(wanted.name)).found
    host = (await resolver.addresses(_last(wanted.value))).found
    if set(here) & set(host):
        return Check(wanted, Finding.OK, "")
    problem = f"it leads to {', '.join(here)}" if here else "it is missing"
    return Check(wanted, Finding.WARN, f"{problem}: {wanted.why}")


async def _tlsa(wanted: Record, resolver: Resolver) -> Check:
    answer = await resolver.lookup(wanted.name, TLSA)
    if not answer.records:
        return Check(wanted, Finding.WARN, f"it is missing: {wanted.why}")
    if wanted.value not in [str(each) for each in answer.records]:
        others = any(each.usage == 2 for each in answer.records)  # may be an authority's
        finding = Finding.WARN if others else Finding.FAIL
        return Check(wanted, finding, "it names another key: who checks it sends no mail here")
    if not answer.secure:
        text = "the answer is not signed, or dns.validating is off here: nobody believes it"
        return Check(wanted, Finding.WARN, text)
    return Check(wanted, Finding.OK, "")


async def _txt(wanted: Record, resolver: Resolver) -> Check:
    """Check the one record of its kind at a name: SPF, DKIM, DMARC, MTA-STS, TLS-RPT."""
    return _text(wanted, await resolver.texts(wanted.name, "TXT"))


def _text(wanted: Record, there: Sequence[str]) -> Check:
    version = wanted.value.split(";")[0].split(" ")[0].lower()
    same = [each for each in there if each.lower().startswith(version)]
    important = Finding.FAIL if version in ("v=spf1", "v=dkim1") else Finding.WARN
    if len(same) > 1:
        return Check(wanted, Finding.FAIL, f"there are {len(same)} of them: none counts")
    if not same:
        return Check(wanted, important, f"it is missing: {wanted.why}")
    finding, text = _VERSIONS.get(version, _nothing)(wanted.value, same[0])
    return Check(wanted, finding, text)


Judged = tuple[Finding, str]
_FINE: Judged = (Finding.OK, "")


def _nothing(_: str, __: str) -> Judged:
    return _FINE


def _dkim(wanted: str, there: str) -> Judged:
    if tag(there, "p") != tag(wanted, "p"):
        return Finding.FAIL, "it has another key: signatures do not verify"
    if "y" in tag(there, "t").split(":"):
        return Finding.WARN, "t=y says that signatures are only a test: take it out"
    return _FINE


def _spf(_: str, there: str) -> Judged:
    terms = there.lower().split()
    if "redirect=" in there.lower() and not any(term.endswith("all") for term in terms):
        return Finding.OK, "another record decides (redirect=)"
    if not terms[-1].endswith(("-all", "~all")):
        return Finding.WARN, "it lets anybody send: end it with -all or ~all"
    return _FINE


def _dmarc(_: str, there: str) -> Judged:
    if tag(there, "p") == "none":
        return Finding.OK, "p=none: forged mail is still delivered"
    return _FINE


def _sts(wanted: str, there: str) -> Judged:
    if tag(there, "id") != tag(wanted, "id"):
        return Finding.WARN, "it has another id: others go on with the policy that they know"
    return _FINE


def tag(text: str, name: str) -> str:
    """Return the value of a tag of a list of tags, without blanks; empty when there is none."""
    for part in text.split(";"):
        key, _, value = part.partition("=")
        if key.strip() == name:
            return "".join(value.split())
    return ""


def _last(value: str) -> str:
    return value.split()[-1].rstrip(".").lower()


_VERSIONS: dict[str, Callable[[str, str], Judged]] = {
    "v=spf1": _spf,
    "v=dkim1": _dkim,
    "v=dmarc1": _dmarc,
    "v=stsv1": _sts,
}
_CHECKS: dict[str, Checked] = {
    "MX": _mx,
    "TXT": _txt,
    "SRV": _srv,
    "CNAME": _cname,
    "TLSA": _tlsa,
}
