"""Verification of DKIM signatures (RFC 6376 §6.1, RFC 8301, RFC 8463)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mailserver.address import normal_domain
from mailserver.antispam.authentication.content import Content
from mailserver.antispam.authentication.keys import (
    ALGORITHMS,
    GOOD_BITS,
    Key,
    Refused,
    find_keys,
)
from mailserver.antispam.authentication.lookups import Lookups, together
from mailserver.antispam.authentication.results import Signature
from mailserver.antispam.authentication.tags import (
    Malformed,
    decoded,
    number,
    parse_tags,
    shown,
    unspaced,
)
from mailserver.dns import LookupFailed
from mailserver.errors import Invalid
from mailserver.mime.headers import Field

MAX_SIGNATURES = 10  # of one message that are verified, from the top
MAX_SIGNED = 1000  # names in `h=`
SKEW = timedelta(hours=1)  # that the clock of a signer may be ahead
LARGE = 256 * 1024  # octets of a message that is hashed in a thread
FORMS = ("simple", "relaxed")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a signature field says; the same for DKIM-Signature and ARC-Message-Signature."""

    algorithm: str
    domain: str
    selector: str
    header_form: str
    body_form: str
    names: tuple[str, ...]  # in lower case
    length: int | None
    body_hash: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class _Ready:
    """A signature that can be verified: all but its octets has been looked at."""

    field: Field
    terms: Terms
    keys: list[Key]
    found: Signature


async def check_dkim(resolver: Lookups, content: Content, now: datetime) -> tuple[Signature, ...]:
    """Verify the signatures of a message, each by itself."""
    fields = content.named("dkim-signature")[:MAX_SIGNATURES]
    if not content.is_whole:
        return tuple(Signature("policy", reason="the header is too long") for _ in fields)
    if fields and len(content.named("from")) != 1:  # RFC 6376 §8.15
        return (Signature("permerror", reason="not exactly one From"),)
    prepared = await together(*(_prepare(resolver, content, each, now) for each in fields))
    if content.size > LARGE:
        return await asyncio.to_thread(_outcomes, content, prepared)
    return _outcomes(content, prepared)


def _outcomes(content: Content, prepared: Sequence[_Ready | Signature]) -> tuple[Signature, ...]:
    return tuple(
        each if isinstance(each, Signature) else _outcome(content, each) for each in prepared
    )


def _outcome(content: Content, ready: _Ready) -> Signature:
    try:
        proof = prove(content, ready.field, ready.terms, ready.keys)
    except Malformed as error:
        return replace(ready.found, result=_result(error), reason=str(error))
    return replace(
        ready.found, result="pass", reason=", ".join(proof.weak), partial=proof.is_partial
    )


async def _prepare(
    resolver: Lookups, content: Content, field: Field, now: datetime
) -> _Ready | Signature:
    found = Signature("permerror")
    try:
        tags = parse_tags(field.value)
        found = _described(tags)
        terms, identity = _read(tags, now)
        found = replace(found, domain=terms.domain, identity=identity)
        keys = await find_keys(resolver, terms.selector, terms.domain, terms.algorithm)
        found = replace(found, testing="y" in keys[0].flags)
        if "s" in keys[0].flags and identity.rpartition("@")[2] != terms.domain:
            raise Refused("the key is not for subdomains")
    except Malformed as error:
        return replace(found, result=_result(error), reason=str(error))
    except LookupFailed:
        return replace(found, result="temperror", reason="no answer about its key")
    return _Ready(field, terms, keys, found)


def _result(error: Malformed) -> str:
    return next(word for kind, word in _RESULTS.items() if isinstance(error, kind))


class Wrong(Malformed):
    """The signature is not of this message, or not any more."""


_RESULTS: dict[type[Malformed], str] = {Wrong: "fail", Refused: "policy", Malformed: "permerror"}


@dataclass(frozen=True, slots=True)
class Proof:
    """A signature that holds, and what is weak about it."""

    weak: tuple[str, ...] = ()
    is_partial: bool = False


def prove(content: Content, field: Field, terms: Terms, keys: Sequence[Key]) -> Proof:
    """Verify the hash and the signature of a field; Wrong, Malformed."""
    length = content.body_length(terms.body_form) if terms.length is not None else 0
    if terms.length is not None and terms.length > length:
        raise Malformed("l= is more than there is")
    if content.body_hash(terms.body_form, terms.length) != terms.body_hash:
        raise Wrong("the body was changed")
    octets = content.signed_octets(terms.header_form, terms.names, field)
    key = next((key for key in keys if key.verifies(terms.signature, octets)), None)
    if key is None:
        raise Wrong("the header was changed, or the key is another")
    weak = [f"key of {key.bits} bits"] if key.kind == "rsa" and key.bits < GOOD_BITS else []
    is_partial = terms.length is not None and terms.length < length
    if is_partial:
        weak.append("not all of the body is signed")
    return Proof(tuple(weak), is_partial)


def _described(tags: dict[str, str]) -> Signature:
    """Return what a signature says of itself, for reports, whether it is good or not."""
    return Signature(
        "permerror",
        shown(unspaced(tags.get("d", "")).lower()),
        shown(unspaced(tags.get("s", "")).lower()),
        shown(tags.get("i", "")),
        shown(tags.get("a", "").lower()),
    )


def _read(tags: dict[str, str], now: datetime) -> tuple[Terms, str]:
    """Read a DKIM-Signature, and whom it is for; Wrong, Refused, Malformed."""
    if tags.get("v") != "1":
        raise Malformed("the signature is of another version")
    if "dns/txt" not in unspaced(tags.get("q", "dns/txt")).lower().split(":"):
        raise Malformed("the key is not in DNS")
    terms = read_terms(tags)
    if "from" not in terms.names:
        raise Malformed("From is not signed")
    if not all(terms.names):
        raise Malformed("h= is not a list of names")
    identity = unspaced(tags.get("i", "")) or f"@{terms.domain}"
    local_part, _, domain = identity.rpartition("@")
    domain = _domain(domain, "i")
    if domain != terms.domain and not domain.endswith("." + terms.domain):
        raise Malformed("i= is not in d=")
    signed, expires = number(tags, "t"), number(tags, "x")
    seconds = now.timestamp()
    if signed is not None and expires is not None and expires <= signed:
        raise Malformed("x= is before t=")
    if expires is not None and expires < seconds:
        raise Wrong("the signature has expired")
    if signed is not None and signed > seconds + SKEW.total_seconds():
        raise Wrong("the signature is from the future")
    return terms, f"{local_part}@{domain}"


def read_terms(tags: dict[str, str], form: str = "simple/simple") -> Terms:
    """Read what DKIM and ARC have in common; `form` is for those without `c=`."""
    algorithm = tags.get("a", "").lower()
    if algorithm == "rsa-sha1":
        raise Refused("rsa-sha1 is not accepted")  # RFC 8301 §3.1
    if algorithm not in ALGORITHMS:
        raise Malformed("an unknown algorithm")
    header_form, _, body_form = tags.get("c", form).lower().partition("/")
    body_form = body_form or "simple"
    if header_form not in FORMS or body_form not in FORMS:
        raise Malformed("an unknown c=")
    names = tuple(unspaced(tags.get("h", "")).lower().split(":"))
    if len(names) > MAX_SIGNED:
        raise Malformed("h= has too many names")
    return Terms(
        algorithm,
        domain_of(tags),
        selector_of(tags),
        header_form,
        body_form,
        names,
        number(tags, "l"),
        decoded(tags, "bh"),
        decoded(tags, "b"),
    )


def domain_of(tags: dict[str, str]) -> str:
    """Return the domain of a signature; Malformed."""
    return _domain(unspaced(tags.get("d", "")), "d")


def selector_of(tags: dict[str, str]) -> str:
    """Return the selector of a signature; Malformed."""
    return _domain(unspaced(tags.get("s", "")), "s")


def _domain(text: str, tag: str) -> str:
    try:
        domain = normal_domain(text)
    except Invalid:
        raise Malformed(f"{tag}= is not a domain") from None
    if domain.startswith("["):
        raise Malformed(f"{tag}= is not a domain")
    return domain
