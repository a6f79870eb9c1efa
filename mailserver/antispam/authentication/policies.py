"""DMARC policies in DNS: what a record says, and which is that of a domain (RFC 9989 §4.7, §4.10).

`TreeWalk` looks for the organizational domain in DNS, `SuffixList` in the public suffix list, as
RFC 7489 has it.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mailserver.antispam.authentication.lookups import Lookups, texts_of_all
from mailserver.antispam.authentication.tags import MAX_LENGTH
from mailserver.dns import LookupFailed

MAX_LABELS = 8  # RFC 9989 §4.10: of a name for which its parent is the next to be asked
POLICIES = ("none", "quarantine", "reject")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s@:/]+", re.ASCII)
_VERSION = re.compile(r"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")


@dataclass(frozen=True, slots=True)
class Record:
    """A policy record; what is wrong in it has its default."""

    domain: str
    p: str | None  # None: absent or wrong
    sp: str | None
    np: str | None
    psd: str  # "y", "n", "u"
    strict_dkim: bool
    strict_spf: bool
    testing: bool  # `t=y`
    percent: int  # of RFC 7489
    has_reports: bool  # `rua=` has an address
    is_wrong: bool  # `p`, `sp` or `np` is there and no policy

    @property
    def says_nothing(self) -> bool:
        """Tell whether no policy can be taken from it (RFC 9989 §4.10.1)."""
        return (self.p is None or self.is_wrong) and not self.has_reports

    def policy_for(self, author: str, exists: bool) -> str:
        """Return what is asked for mail of a domain (RFC 9989 §4.10.1)."""
        if self.p is None or self.is_wrong:
            return "none"
        if author == self.domain:
            return self.p
        inherited = self.sp or self.p
        return inherited if exists else self.np or inherited


def read_record(domain: str, text: str) -> Record | None:
    """Read a text at `_dmarc.` of a domain; None when it is no policy."""
    if len(text) > MAX_LENGTH or not _VERSION.match(text):
        return None
    tags: dict[str, str] = {}
    for item in text.split(";")[1:]:
        name, equals, value = item.partition("=")
        if equals:
            tags.setdefault(name.strip().lower(), value.strip())
    policies = {name: tags[name].lower() for name in ("p", "sp", "np") if name in tags}
    valid = {name: value for name, value in policies.items() if value in POLICIES}
    percent = tags.get("pct", "100")
    psd = tags.get("psd", "u").lower()
    return Record(
        domain,
        valid.get("p"),
        valid.get("sp"),
        valid.get("np"),
        psd if psd in ("y", "n") else "u",
        tags.get("adkim", "r").lower() == "s",
        tags.get("aspf", "r").lower() == "s",
        tags.get("t", "n").lower() == "y",
        int(percent) if re.fullmatch(r"[0-9]{1,2}", percent) else 100,
        any(_URI.match(uri.strip()) for uri in tags.get("rua", "").split(",")),
        policies != valid,
    )


def _one(domain: str, texts: Sequence[str]) -> Record | None:
    """Return the record of one name; two of them are none (RFC 9989 §4.10)."""
    records = [record for text in texts if (record := read_record(domain, text))]
    return records[0] if len(records) == 1 else None


def _question(domain: str) -> tuple[str, str]:
    return f"_dmarc.{domain}", "TXT"


class Discovery(Protocol):
    """A way to find policies and organizational domains."""

    async def policy(self, author: str) -> Record | None:
        """Return the record that applies to an author's domain; LookupFailed."""
        ...

    async def organization(self, domain: str) -> str:
        """Return the organizational domain of a domain; LookupFailed."""
        ...


class TreeWalk:
    """The way of RFC 9989 §4.10: whoever publishes records says where an organization begins."""

    def __init__(self, resolver: Lookups) -> None:
        """Remember what is found, for one message."""
        self._resolver = resolver
        self._answers: dict[str, Record | LookupFailed | None] = {}

    async def policy(self, author: str) -> Record | None:
        """Return the record of the author's domain, its organization, or its public suffix."""
        await self._ask([author])
        own = self._answers[author]
        if isinstance(own, LookupFailed):
            raise own
        if own is not None:
            return own
        found = await self._walk(author)
        organization = _organization(author, found)
        if organization in found:
            return found[organization]
        return next((record for record in found.values() if record.psd == "y"), None)

    async def organization(self, domain: str) -> str:
        """Return the organizational domain (RFC 9989 §4.10.2)."""
        return _organization(domain, await self._walk(domain))

    async def _walk(self, domain: str) -> Mapping[str, Record]:
        """Return the records from a domain upwards, the longest name first."""
        names = walk_names(domain)
        await self._ask(names)
        found: dict[str, Record] = {}
        for name in names:
            answer = self._answers[name]
            if isinstance(answer, LookupFailed):
                raise answer
            if answer is None:
                continue
            found[name] = answer
            if answer.psd != "u":
                break  # what is above it does not count, nor whether it can be told
        return found

    async def _ask(self, domains: Sequence[str]) -> None:
        new = [domain for domain in domains if domain not in self._answers]
        if not new:
            return
        answers = await texts_of_all(self._resolver, [_question(domain) for domain in new])
        for domain, answer in zip(new, answers, strict=True):
            if not isinstance(answer, LookupFailed):
                self._answers[domain] = _one(domain, answer)
            else:
                self._answers[domain] = answer


def walk_names(domain: str) -> list[str]:
    """Return the names that are asked for a policy, eight at most."""
    labels = domain.split(".")
    parents = labels[1:] if len(labels) < MAX_LABELS else labels[1 - MAX_LABELS :]
    return [domain, *(".".join(parents[start:]) for start in range(len(parents)))]


def _organization(start: str, found: Mapping[str, Record]) -> str:
    for name, record in found.items():
        if record.psd == "n":
            return name
        if record.psd == "y" and name != start:
            depth = name.count(".") + 2
            return ".".join(start.split(".")[-depth:])
    return min(found, key=lambda name: name.count("."), default=start)


class SuffixList:
    """The way of RFC 7489 §3.2: the public suffix list says where an organization begins."""

    def __init__(self, resolver: Lookups) -> None:
        self._resolver = resolver

    async def policy(self, author: str) -> Record | None:
        """Return the record of the author's domain, or of its organization (RFC 7489 §6.6.3)."""
        own = _one(author, await self._resolver.texts(*_question(author)))
        organization = await self.organization(author)
        if own is not None or organization == author:
            return own
        return _one(organization, await self._resolver.texts(*_question(organization)))

    async def organization(self, domain: str) -> str:
        """Return the organizational domain."""
        return _suffixes().privatesuffix(domain) or domain


@functools.cache
def _suffixes() -> Any:
    """Load the list when somebody asks for it: it takes 33 ms and some megabytes."""
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()
