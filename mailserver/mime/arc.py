"""ARC sets: what a server found out about a message, sealed for whoever gets it next (RFC 8617)."""

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailserver.mime.authserv import authserv_id, results
from mailserver.mime.dkim import relaxed_body, relaxed_field
from mailserver.mime.headers import Field, HeaderBlock

MAX_SETS = 50  # RFC 8617 §4.2.1
NAMES = (AAR, AMS, AS) = (
    "arc-authentication-results",
    "arc-message-signature",
    "arc-seal",
)
# As often as they are there. The list is short: what a next server may change is not in it.
SIGNED = (
    "from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id", "in-reply-to",
    "references", "mime-version", "content-type", "content-transfer-encoding", "list-id",
    "dkim-signature",
)  # fmt: skip
_INSTANCE = re.compile(rb"(?:\A|;)[ \t\r\n]*+i[ \t\r\n]*+=[ \t\r\n]*+(\d{1,3})(?!\d)")
_CV = re.compile(rb"(?:\A|;)[ \t\r\n]*+cv[ \t\r\n]*+=[ \t\r\n]*+([a-z]++)", re.IGNORECASE)
_ARC = re.compile(rb"(?:\A|;)[ \t\r\n]*+arc[ \t\r\n]*+=[ \t\r\n]*+([a-z]++)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sealer:
    """Who seals: a key, and the name of the server in its results."""

    authserv_id: str
    domain: str
    selector: str
    algorithm: str
    sign: Callable[[bytes], bytes]


def seal(content: bytes, sealer: Sealer, seconds: int, names: Sequence[str] = SIGNED) -> bytes:
    """Return the three fields for the top of a message; nothing when its chain has ended.

    What was found out is read from the Authentication-Results of this server that the message
    has; those of others must have been removed where it arrived.
    """
    block = HeaderBlock(content)
    fields = tuple(block)
    found = _own_results(fields, sealer.authserv_id)
    sets = _sets(fields)
    instance = max(sets, default=0) + 1
    cv = _status(sets, found)
    if cv is None or instance > MAX_SETS:
        return b""
    shown = [f"i={instance}; {sealer.authserv_id}".encode(), *(found or [b"none"])]
    aar = Field(AAR, b" " + b";\r\n\t".join(shown), 0, 0)
    ams = _message_signature(fields, content[block.body_start :], sealer, instance, seconds, names)
    chain = (
        [] if cv == "fail" else [sets[number][name] for number in sorted(sets) for name in NAMES]
    )
    value = f" a={sealer.algorithm}; b=; cv={cv}; d={sealer.domain}; i={instance};"
    unsigned = f"{value}\r\n\ts={sealer.selector}; t={seconds}".encode()
    octets = b"".join(relaxed_field(each.name, each.value) + b"\r\n" for each in (*chain, aar, ams))
    signature = sealer.sign(octets + relaxed_field(AS, unsigned))
    return b"".join(
        name + b":" + value + b"\r\n"
        for name, value in (
            (b"ARC-Seal", _signed(unsigned, signature)),
            (b"ARC-Message-Signature", ams.value),
            (b"ARC-Authentication-Results", aar.value),
        )
    )


def _own_results(fields: Sequence[Field], name: str) -> list[bytes]:
    return [
        results(field.value)
        for field in fields
        if field.name.lower() == "authentication-results" and authserv_id(field.value) == name
    ]


def _sets(fields: Sequence[Field]) -> dict[int, dict[str, Field]]:
    found: dict[int, dict[str, Field]] = {}
    for field in fields:
        name = field.name.lower()
        instance = _INSTANCE.search(field.value) if name in NAMES else None
        if instance is not None:
            found.setdefault(int(instance[1]), {})[name] = field
    return found


def _status(sets: dict[int, dict[str, Field]], found: Sequence[bytes]) -> str | None:
    """Return the state of the chain, by what was found; None when it is not to go on."""
    if not sets:
        return "none"
    newest = sets[max(sets)].get(AS)
    cv = _CV.search(newest.value) if newest else None
    if cv is not None and cv[1].lower() == b"fail":
        return None  # RFC 8617 §5.1
    said = next((match[1] for each in found if (match := _ARC.search(each))), b"").lower()
    is_whole = all(len(each) == len(NAMES) for each in sets.values())
    if said == b"pass" and is_whole and sorted(sets) == list(range(1, len(sets) + 1)):
        return "pass"
    return "fail" if said in (b"pass", b"fail") else None


def _message_signature(
    fields: Sequence[Field],
    body: bytes,
    sealer: Sealer,
    instance: int,
    seconds: int,
    names: Sequence[str],
) -> Field:
    signed: list[Field] = []
    for name in names:
        signed += reversed([field for field in fields if field.name.lower() == name])
    body_hash = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest()).decode()
    listed = ":\r\n\t ".join(_lines([field.name.lower() for field in signed]))
    lines = [
        f" a={sealer.algorithm}; b=; bh={body_hash};",
        f"c=relaxed/relaxed; d={sealer.domain}; h={listed};",
        f"i={instance}; s={sealer.selector}; t={seconds}",
    ]
    # QUIRK(dkimpy): it looks for `i=` with a space before it
    unsigned = "\r\n ".join(lines).encode()
    octets = b"".join(relaxed_field(each.name, each.value) + b"\r\n" for each in signed)
    signature = sealer.sign(octets + relaxed_field(AMS, unsigned))
    return Field(AMS, _signed(unsigned, signature), 0, 0)


def _lines(names: Sequence[str]) -> list[str]:
    """Put names together, as many as fit on a line."""
    lines: list[str] = []
    for name in names:
        if lines and len(lines[-1]) + len(name) < 60:
            lines[-1] += f":{name}"
        else:
            lines.append(name)
    return lines


def _signed(value: bytes, signature: bytes) -> bytes:
    """Put a signature in, on one line: seals sign it with the spaces that are in it."""
    return value.replace(b" b=; ", b"\r\n\tb=" + base64.b64encode(signature) + b";\r\n\t", 1)
