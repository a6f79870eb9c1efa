"""What a DKIM signature is made over: canonical headers and body (RFC 6376 §3.4), and its field."""

import base64
import hashlib
import re
from dataclasses import dataclass

from mailserver.mime.headers import Field, HeaderBlock

_BLANKS = re.compile(rb"[ \t]+")
_FOLDS = re.compile(rb"\r?\n")

# Each is signed as often as it is there, and once more: one that is added later breaks the
# signature (RFC 6376 §8.15).
SIGNED = (
    "from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id", "in-reply-to",
    "references", "mime-version", "content-type", "content-transfer-encoding", "content-id",
    "list-id", "list-unsubscribe", "list-unsubscribe-post", "auto-submitted",
)  # fmt: skip
_ONCE_MORE = frozenset(
    {
        "from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id",
        "in-reply-to", "references", "mime-version", "content-type",
        "content-transfer-encoding",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that is about to be signed, with what every signature of it shares."""

    fields: tuple[Field, ...]
    names: tuple[str, ...]  # for `h=`
    body_hash: bytes  # base64 of SHA-256


def draft(content: bytes) -> Draft:
    """Canonicalise a message, CR LF at every line end, for signing."""
    block = HeaderBlock(content)
    fields = tuple(block)
    there = [field.name.lower() for field in fields]
    names: list[str] = []
    for name in SIGNED:
        names += [name] * (there.count(name) + (name in _ONCE_MORE))
    digest = hashlib.sha256(relaxed_body(content[block.body_start :])).digest()
    return Draft(fields, tuple(names), base64.b64encode(digest))


def relaxed_body(body: bytes) -> bytes:
    """Return the body in the relaxed form (RFC 6376 §3.4.4)."""
    if b"\t" in body:
        body = body.replace(b"\t", b" ")
    while b"  " in body:  # each time a run has half its length: faster than any pattern
        body = body.replace(b"  ", b" ")
    body = body.replace(b" \r\n", b"\r\n")
    if not body.endswith(b"\r\n"):
        body = body.removesuffix(b" ")
    return _ended(body)


def simple_body(body: bytes) -> bytes:
    """Return the body in the simple form (RFC 6376 §3.4.3)."""
    return _ended(body) or b"\r\n"


def _ended(body: bytes) -> bytes:
    """Return a body that ends with one line end and no empty lines, or is empty."""
    tail = body[len(body.rstrip(b"\r\n")) :].replace(b"\r\n", b"\0")
    lines = len(tail) - len(tail.rstrip(b"\0"))
    if lines == 1 and len(body) > 2:
        return body
    text = body[: len(body) - 2 * lines]
    return text + b"\r\n" if text else b""


def relaxed_field(name: str, value: bytes) -> bytes:
    """Return a header field in the relaxed form, without its line end (RFC 6376 §3.4.2)."""
    unfolded = _BLANKS.sub(b" ", _FOLDS.sub(b"", value)).strip(b" ")
    return name.lower().encode() + b":" + unfolded


def to_sign(content: Draft, domain: str, selector: str, algorithm: str, seconds: int) -> bytes:
    """Return the value of the signature field without the signature itself."""
    lines = [f"v=1; a={algorithm}; c=relaxed/relaxed; d={domain}; s={selector};", f"t={seconds};"]
    line = "h="
    for index, name in enumerate(content.names):
        word = name + (":" if index + 1 < len(content.names) else ";")
        if len(line) + len(word) > 74:
            lines.append(line)
            line = ""
        line += word
    lines += [line, f"bh={content.body_hash.decode()};", "b="]
    return (" " + "\r\n\t".join(lines)).encode()


def signed_octets(content: Draft, value: bytes) -> bytes:
    """Return the octets that are signed: fields from the last to the first (RFC 6376 §5.4.2)."""
    left: dict[str, list[Field]] = {}
    for field in content.fields:
        left.setdefault(field.name.lower(), []).append(field)
    parts: list[bytes] = []
    for name in content.names:
        found = left.get(name)
        if found:  # one that is not there is signed as nothing
            parts.append(relaxed_field(name, found.pop().value) + b"\r\n")
    parts.append(relaxed_field("dkim-signature", value))
    return b"".join(parts)


def field(value: bytes, signature: bytes) -> bytes:
    """Return the whole field with its signature, folded."""
    encoded = base64.b64encode(signature)
    pieces = [encoded[start : start + 72] for start in range(0, len(encoded), 72)]
    return b"DKIM-Signature:" + value + b"\r\n\t ".join(pieces) + b"\r\n"


def record(algorithm: str, public: str) -> str:
    """Return the TXT record of a public key, base64 (RFC 6376 §3.6.1, RFC 8463 §4)."""
    kind = "ed25519" if algorithm == "ed25519-sha256" else "rsa"
    return f"v=DKIM1; k={kind}; p={public}"
