"""The fields on top of a message that say what was checked (RFC 8601, RFC 7208 §9.1)."""

import re
from collections.abc import Collection, Iterable

import authres
from authres.core import AuthenticationResult, AuthenticationResultProperty

from mailserver.antispam.authentication.results import Arc, Authentication, Dmarc, Signature, Spf
from mailserver.antispam.evidence import Inquiry
from mailserver.antispam.stretches import stretches
from mailserver.mime.authserv import authserv_id

MAX_VALUE = 255  # characters of anything that a peer said
MAX_LINE = 78
MAX_FIELDS = 1000  # results of others that are read; what is beyond goes as if it could not be
_HEADER_END = re.compile(rb"\n\r?\n")
_RESULTS = re.compile(
    rb"(?im)^authentication-results[ \t]*+:([^\n]*+(?>(?:\n[ \t][^\n]*+)*))(?:\n|\Z)"
)
_UNSAFE = re.compile(r"[^!#-'*-\[\]-~]")  # might end a value, a comment or a quoted string
_UNSAFE_TEXT = re.compile(r"[^ -'*-\[\]-~]")

Property = tuple[str, str, str]  # type, name, value


def authentication_results(done: Authentication, authserv_id: str) -> bytes:
    """Return the Authentication-Results field (RFC 8601 §2.2)."""
    by_path = done.mail_from.identity == "mailfrom"  # else it is the other one again
    results = [
        _result("iprev", done.iprev.result, (("policy", "iprev", done.iprev.ip),)),
        *(
            _spf(spf)
            for spf in (done.helo, done.mail_from)[: 1 + by_path]
            if spf.result != "none" or spf.domain
        ),
        *map(_signature, done.signatures or (Signature("none"),)),
        *([_arc(done.arc)] if done.arc.result != "none" else []),
        _dmarc(done.dmarc),
    ]
    head = str(authres.AuthenticationResultsHeader(_safe(authserv_id))).removesuffix("; none")
    return _folded(head + ";", [str(result) for result in results])


def received_spf(done: Authentication, inquiry: Inquiry, receiver: str) -> bytes:
    """Return the Received-SPF field for the identity that decided (RFC 7208 §9.1)."""
    spf = done.mail_from
    sender = str(inquiry.sender) if inquiry.sender else ""
    pairs = [
        ("client-ip", _safe(inquiry.client.ip)),
        ("envelope-from", _quoted(sender)),
        ("helo", _quoted(inquiry.client.helo)),
        ("receiver", _quoted(receiver)),
        ("identity", spf.identity),
        *([("mechanism", _quoted(spf.mechanism))] if spf.mechanism else []),
        *([("problem", _quoted(spf.reason))] if spf.result.endswith("error") else []),
    ]
    comment = f"{_safe(receiver)}: {_SPF_WORDS[spf.result].format(_safe(spf.domain))}"
    head = f"Received-SPF: {spf.result} ({comment})"
    lines = [f"{name}={value}" for name, value in pairs]
    return _folded(head, lines)


_SPF_WORDS = {
    "none": "no record of {}",
    "neutral": "{} says nothing about this client",
    "pass": "{} permits this client",
    "fail": "{} does not permit this client",
    "softfail": "{} probably does not permit this client",
    "temperror": "no answer about {}",
    "permerror": "the record of {} has an error",
}


def without_forged(raw: bytes, names: Collection[str]) -> bytes:
    """Return a message without results that claim to be ours (RFC 8601 §5).

    Fields that cannot be read go too: another reader might read them in another way.
    """
    found = _HEADER_END.search(raw)
    end = found.start() + 1 if found else len(raw)
    ours = {name.lower() for name in names}
    parts: list[bytes] = []
    kept = count = 0
    for start, stop in stretches(raw, end):
        if b"authentication-results" not in raw[start:stop].lower():
            continue  # looking for the fields takes long in a header of megabytes
        for field in _RESULTS.finditer(raw, start, stop):
            name = authserv_id(field[1]) if count < MAX_FIELDS else None
            count += 1
            if name is None or name in ours:
                parts.append(raw[kept : field.start()])
                kept = field.end()
    if not parts:
        return raw
    return b"".join([*parts, raw[kept:]])


def _result(
    method: str, result: str, properties: Iterable[Property], comment: str = ""
) -> AuthenticationResult:
    return AuthenticationResult(
        method,
        result=result,
        result_comment=_UNSAFE_TEXT.sub("?", comment[:MAX_VALUE]) or None,
        properties=[
            AuthenticationResultProperty(kind, name, _safe(value))
            for kind, name, value in properties
            if value
        ],
    )


def _spf(spf: Spf) -> AuthenticationResult:
    return _result("spf", spf.result, (("smtp", spf.identity, spf.domain),), spf.reason)


def _signature(signature: Signature) -> AuthenticationResult:
    properties = (
        ("header", "d", signature.domain),
        ("header", "i", signature.identity if signature.identity.isascii() else ""),
        ("header", "s", signature.selector),
        ("header", "a", signature.algorithm),
    )
    comment = signature.reason + (" (the domain is testing)" if signature.testing else "")
    return _result("dkim", signature.result, properties, comment)


def _arc(arc: Arc) -> AuthenticationResult:
    oldest = str(arc.oldest_pass) if arc.result == "pass" else ""
    comment = arc.reason or f"i={arc.instances} {arc.sealer}"
    return _result("arc", arc.result, (("header", "oldest-pass", oldest),), comment)


def _dmarc(dmarc: Dmarc) -> AuthenticationResult:
    words = [f"p={dmarc.policy}", f"dis={dmarc.disposition}"] if dmarc.policy else []
    words += [f"override={dmarc.override}"] if dmarc.override else []
    properties = (("header", "from", dmarc.domain),)
    return _result("dmarc", dmarc.result, properties, " ".join(words) or dmarc.reason)


def _safe(value: str) -> str:
    """Return what a peer said as something that ends no value, comment or line."""
    return _UNSAFE.sub("?", value[:MAX_VALUE])


def _quoted(value: str) -> str:
    text = _UNSAFE_TEXT.sub("?", value[:MAX_VALUE]).replace('"', "?")
    return f'"{text}"'


def _folded(head: str, clauses: list[str]) -> bytes:
    """Put each clause on a line of its own, and fold those that are long at their blanks."""
    lines = [head]
    for index, clause in enumerate(clauses):
        line = "\t"
        ending = ";" if index + 1 < len(clauses) else ""
        for word in (clause + ending).split(" "):
            if line != "\t" and len(line) + len(word) >= MAX_LINE:
                lines.append(line)
                line = "\t"
            line += word if line == "\t" else " " + word
        lines.append(line)
    return "\r\n".join([*lines, ""]).encode("ascii", "replace")
