"""Verification of Authenticated Received Chains (RFC 8617 §5.2)."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mailserver.antispam.authentication.content import Content
from mailserver.antispam.authentication.dkim import (
    LARGE,
    Terms,
    domain_of,
    prove,
    read_terms,
    selector_of,
)
from mailserver.antispam.authentication.keys import ALGORITHMS, Key, find_keys
from mailserver.antispam.authentication.lookups import Lookups
from mailserver.antispam.authentication.results import Arc
from mailserver.antispam.authentication.tags import Malformed, decoded, number, parse_tags
from mailserver.dns import LookupFailed
from mailserver.mime.headers import Field

MAX_SETS = 50  # RFC 8617 §4.2.1
SEAL, SIGNATURE, RESULTS = "arc-seal", "arc-message-signature", "arc-authentication-results"
_INSTANCE = re.compile(rb"[ \t\r\n]*+i[ \t\r\n]*+=[ \t\r\n]*+(\d{1,3})[ \t\r\n]*+;", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Seal:
    cv: str
    algorithm: str
    domain: str
    selector: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class _Set:
    """What one server added."""

    results: Field
    signature: Field
    seal: Field
    sealed: _Seal


async def check_arc(resolver: Lookups, content: Content) -> Arc:
    """Verify the chain of a message; every error is a "fail" (RFC 8617 §5.2.1)."""
    if not any(content.named(name) for name in (SEAL, SIGNATURE, RESULTS)):
        return Arc("none")
    try:
        sets = _sets(content)
    except Malformed as error:
        return Arc("fail", reason=str(error))
    sealers = tuple(each.sealed.domain for each in sets)
    results = tuple(each.results.value for each in sets)
    found = Arc("fail", len(sets), sealers[-1], sealers, results=results)
    try:
        oldest_pass = await _verify(resolver, content, sets)
    except Malformed as error:
        return replace(found, reason=str(error))
    except LookupFailed:
        return replace(found, reason="no answer about a key")
    return replace(found, result="pass", oldest_pass=oldest_pass)


def _sets(content: Content) -> list[_Set]:
    """Return the sets, the oldest first, if they form a chain; Malformed."""
    if not content.is_whole:
        raise Malformed("the header is too long")
    by_name = {name: _by_instance(content.named(name)) for name in (SEAL, SIGNATURE, RESULTS)}
    count = len(by_name[SEAL])
    if not 0 < count <= MAX_SETS:
        raise Malformed("no seal, or too many")
    wanted = set(range(1, count + 1))
    if any(set(fields) != wanted for fields in by_name.values()):
        raise Malformed("the sets are not complete")
    sets = []
    for instance in range(1, count + 1):
        seal = by_name[SEAL][instance]
        sealed = _read_seal(seal)
        if sealed.cv != ("none" if instance == 1 else "pass"):
            raise Malformed(f"seal {instance} says cv={sealed.cv}")
        sets.append(_Set(by_name[RESULTS][instance], by_name[SIGNATURE][instance], seal, sealed))
    return sets


def _by_instance(fields: Sequence[Field]) -> dict[int, Field]:
    found: dict[int, Field] = {}
    for field in fields:
        instance = _instance(field)
        if instance in found:
            raise Malformed(f"two {field.name} of {instance}")
        found[instance] = field
    return found


def _instance(field: Field) -> int:
    if field.name.lower() == RESULTS:
        match = _INSTANCE.match(field.value)
        if match is None:
            raise Malformed("results without i=")
        return int(match[1])
    instance = number(parse_tags(field.value), "i")
    if instance is None:
        raise Malformed(f"{field.name} without i=")
    return instance


def _read_seal(field: Field) -> _Seal:
    tags = parse_tags(field.value)
    if "h" in tags:
        raise Malformed("a seal with h=")  # RFC 8617 §4.1.3
    if tags.get("a", "").lower() not in ALGORITHMS:
        raise Malformed("an unknown algorithm")
    cv = tags.get("cv", "").lower()
    number(tags, "t")
    signature = decoded(tags, "b")
    return _Seal(cv, tags["a"].lower(), domain_of(tags), selector_of(tags), signature)


async def _verify(resolver: Lookups, content: Content, sets: Sequence[_Set]) -> int:
    """Verify all; return the oldest signature that still holds, 0 for all of them; Malformed."""
    seal_keys = await asyncio.gather(
        *(
            find_keys(resolver, each.sealed.selector, each.sealed.domain, each.sealed.algorithm)
            for each in sets
        )
    )
    newest = await _signature_keys(resolver, sets[-1].signature)
    older = await asyncio.gather(
        *(_signature_keys(resolver, each.signature) for each in sets[:-1]), return_exceptions=True
    )

    def prove_all() -> int:
        prove(content, sets[-1].signature, *newest)
        _prove_seals(content, sets, seal_keys)
        return _oldest_pass(content, sets, older)

    if content.size > LARGE:
        return await asyncio.to_thread(prove_all)
    return prove_all()


async def _signature_keys(resolver: Lookups, field: Field) -> tuple[Terms, list[Key]]:
    tags = parse_tags(field.value)
    terms = read_terms(tags, "relaxed/relaxed")
    number(tags, "t")
    if SEAL in terms.names:
        raise Malformed("a seal is signed")  # RFC 8617 §4.1.2
    if terms.length is not None:
        raise Malformed("not all of the body is signed")
    return terms, await find_keys(resolver, terms.selector, terms.domain, terms.algorithm)


def _prove_seals(content: Content, sets: Sequence[_Set], keys: Sequence[list[Key]]) -> None:
    """Verify each seal: over its set and all before it (RFC 8617 §5.1.1)."""
    before = b""
    for instance, (each, candidates) in enumerate(zip(sets, keys, strict=True), start=1):
        before += content.relaxed(each.results) + content.relaxed(each.signature)
        octets = before + content.unsigned("relaxed", each.seal)
        if not any(key.verifies(each.sealed.signature, octets) for key in candidates):
            raise Malformed(f"seal {instance} does not hold")
        before += content.relaxed(each.seal)


def _oldest_pass(
    content: Content,
    sets: Sequence[_Set],
    keys: Sequence[tuple[Terms, list[Key]] | BaseException],
) -> int:
    for index in range(len(sets) - 2, -1, -1):
        found = keys[index]
        if isinstance(found, BaseException):
            if not isinstance(found, Malformed | LookupFailed):
                raise found
            return index + 2
        try:
            prove(content, sets[index].signature, *found)
        except Malformed:
            return index + 2
    return 0
