"""Sender Policy Framework: may this client send in the name of that domain (RFC 7208)?

pyspf knows the rules and asks DNS as if answers were there at once. A check here asks a table of
answers; where one is missing it stops, the answer is awaited, and the check is made again.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import spf

from mailserver.antispam.authentication.lookups import Lookups, texts_of_all
from mailserver.antispam.authentication.results import Spf
from mailserver.antispam.authentication.tags import shown
from mailserver.dns import LookupFailed

TIME_LIMIT = 20.0  # seconds of one check, RFC 7208 §4.6.4
MAX_RECORD = 4096  # octets; pyspf takes time that grows with the square of what it reads
MAX_TERM = 512
MAX_EXPLANATION = 255  # characters of what a domain says about a "fail"
MAX_NAME = 255  # octets of a HELO name or sender that are looked at

Key = tuple[str, str]  # name and type of a question
Records = tuple[Any, ...] | None  # None: the lookup failed


class _Missing(BaseException):
    """An answer is not in the table; no `except Exception` of pyspf may swallow it."""


class _Check(spf.query):  # type: ignore[misc]
    """One run of pyspf over the answers that are known."""

    def __init__(
        self,
        resolver: Lookups,
        answers: dict[Key, Records],
        ip: str,
        sender: str,
        helo: str,
        receiver: str,
        seconds: int,
        explain: bool,
    ) -> None:
        super().__init__(i=ip, s=sender, h=helo, receiver=receiver)
        self.t = str(seconds)
        self.missing: list[Key] = []
        self.can_explain = False
        self._resolver = resolver
        self._answers = answers
        self._explain = explain

    def dns(
        self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False
    ) -> Sequence[Any]:
        """Return records in the form that pyspf wants; replaces the only method that asks DNS."""
        name = str(name).removesuffix(".").lower()
        if not all(0 < len(label) < 64 for label in name.split(".")) or not name.isascii():
            return []
        self._need((name, qtype))
        records = self._answers[name, qtype]
        if records is None:
            raise spf.TempError(f"no answer for {qtype} of {name}")
        if not records and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError(f"more than {spf.MAX_VOID_LOOKUPS} lookups without an answer")
        if qtype in ("MX", "PTR"):  # so that the addresses of all are asked for at once
            hosts = [each[1] if qtype == "MX" else each for each in records]
            if len(hosts) <= spf.MAX_MX or qtype == "PTR":
                self._need(*((host.lower(), self.A) for host in hosts[: spf.MAX_PTR] if host))
        return list(records)

    def _need(self, *keys: Key) -> None:
        # noted also because pyspf drops whatever is raised while it reads an explanation
        for key in keys:
            if key not in self._answers:
                known = self._known(key)
                if known is None:
                    self.missing.append(key)
                else:
                    self._answers[key] = _records(key[1], known)
        if self.missing:
            raise _Missing

    def _known(self, key: Key) -> list[str] | LookupFailed | None:
        try:
            return self._resolver.known(*key)
        except LookupFailed as error:
            return error

    def dns_spf(self, domain: str) -> str | None:
        """Return the record of a domain; one that no honest domain has is an error."""
        record: str | None = super().dns_spf(domain)
        if record is not None and (
            len(record) > MAX_RECORD or any(len(term) > MAX_TERM for term in record.split(" "))
        ):
            raise spf.PermError("the record is too long")
        return record

    def get_explanation(self, spec: str) -> str | None:
        """Return what a domain says about a "fail"; asked for only once it is known to be one."""
        self.can_explain = True
        if not self._explain:
            return None
        texts = self.dns_txt(spec, ignore_void=True)
        if len(texts) != 1 or len(texts[0]) > MAX_EXPLANATION:
            return None
        explanation: str | None = super().get_explanation(spec)
        return explanation


async def check_spf(
    resolver: Lookups,
    *,
    ip: str,
    sender: str,
    helo: str,
    receiver: str = "unknown",
    now: datetime,
    limit: float = TIME_LIMIT,
) -> Spf:
    """Check the domain of a sender, or the HELO name when the sender is empty."""
    identity = "mailfrom" if sender else "helo"
    domain = sender.rpartition("@")[2] if sender else helo
    if len(sender) > 2 * MAX_NAME or len(helo) > MAX_NAME:
        return Spf("none", identity, reason="the name is too long")
    if not is_domain(domain):
        return Spf("none", identity, domain)  # RFC 7208 §4.3
    answers: dict[Key, Records] = {}
    explain = False
    try:
        async with asyncio.timeout(limit):
            while True:
                try:
                    seconds = int(now.timestamp())
                    run = _Check(resolver, answers, ip, sender, helo, receiver, seconds, explain)
                except spf.PermError as error:
                    return Spf("none", identity, domain, reason=str(error))  # no IP address
                with suppress(_Missing):
                    outcome = run.check()
                    if not run.missing:
                        explain = outcome[0] == "fail" and run.can_explain and not explain
                        if not explain:
                            return _result(run, identity, domain, outcome)
                found = await texts_of_all(resolver, run.missing)
                for key, texts in zip(run.missing, found, strict=True):
                    answers[key] = _records(key[1], texts)
    except TimeoutError:
        return Spf("temperror", identity, domain, reason="DNS took too long")


def is_domain(name: str) -> bool:
    """Tell whether DNS can have such a name: at least two labels, and no address literal."""
    labels = name.removesuffix(".").split(".")
    return len(labels) > 1 and "[" not in name and all(0 < len(label) < 64 for label in labels)


def _result(run: _Check, identity: str, domain: str, outcome: tuple[str, int, str]) -> Spf:
    result, _, explanation = outcome
    mechanism = shown(str(run.mechanism or ""))
    if result in ("temperror", "permerror"):
        return Spf(result, identity, domain, mechanism, shown(str(run.prob)))
    said = explanation if result == "fail" and explanation != spf.EXPLANATIONS["fail"] else ""
    return Spf(result, identity, domain, mechanism, shown(said))


def _records(kind: str, texts: list[str] | LookupFailed) -> Records:
    """Return an answer as pyspf has it."""
    if isinstance(texts, LookupFailed):
        return None
    return tuple(_record(kind, text) for text in texts)


def _record(kind: str, text: str) -> object:
    """Return a record as pyspf has it."""
    if kind == "TXT":
        return (text.encode(),)
    if kind == "MX":
        preference, _, host = text.partition(" ")
        return int(preference), host.removesuffix(".")
    return text.removesuffix(".")
