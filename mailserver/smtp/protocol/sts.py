"""MTA-STS without I/O: the record, the policy, and the answer of a web server (RFC 8461 §3)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mailserver.errors import Invalid

MAX_POLICY = 64 * 1024  # octets, RFC 8461 §3.3
MAX_AGE = 31_557_600  # seconds, RFC 8461 §3.2
_RECORD = re.compile(r"v=STSv1[ \t]*;[ \t]*id=([A-Za-z0-9]{1,32})[ \t]*(?:;.*)?\Z")
_STATUS = re.compile(rb"HTTP/1\.[01] 200[ \r]")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]*\r\n")


class Mode(StrEnum):
    """What a policy asks of senders."""

    ENFORCE = "enforce"
    TESTING = "testing"  # only reports
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a domain says about its mail servers."""

    mode: Mode
    hosts: tuple[str, ...]  # patterns, lower case
    max_age: int  # seconds

    def allows(self, host: str) -> bool:
        """Tell whether a host fits a pattern: `*` stands for one label (RFC 8461 §4.1)."""
        name = host.lower().rstrip(".")
        _, _, above = name.partition(".")
        return name in self.hosts or (bool(above) and f"*.{above}" in self.hosts)


def record_id(texts: Sequence[str]) -> str | None:
    """Return the id of the policy; None unless there is exactly one record (RFC 8461 §3.1)."""
    records = [text for text in texts if text.startswith("v=STSv1")]
    match = _RECORD.match(records[0]) if len(records) == 1 else None
    return match[1] if match else None


def parse_policy(text: str) -> Policy:
    """Read a policy; Invalid when it breaks a rule (RFC 8461 §3.2)."""
    if "\0" in text:  # it is no character of any key or value, and cannot be stored
        raise Invalid("the policy is no text")
    values: dict[str, str] = {}
    hosts: list[str] = []
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon:
            continue
        if key == "mx":
            hosts.append(value.lower().rstrip("."))
        else:
            values.setdefault(key, value)  # the first one counts
    age = values.get("max_age", "")
    if values.get("version") != "STSv1" or values.get("mode") not in list(Mode):
        raise Invalid("not a policy of STSv1 with a mode")
    if not (age.isascii() and age.isdigit() and len(age) <= 10):
        raise Invalid("max_age is no number")
    mode = Mode(values["mode"])
    if not hosts and mode is not Mode.NONE:
        raise Invalid("the policy names no host")
    return Policy(mode, tuple(hosts), min(int(age), MAX_AGE))


def response_body(response: bytes) -> str:
    """Return the text of a whole HTTP answer; Invalid unless it is 200 (RFC 8461 §3.3)."""
    head, blank, body = response.partition(b"\r\n\r\n")
    if not blank or not _STATUS.match(head):
        raise Invalid("the web server has no policy")
    fields = dict(
        (name.strip().lower(), value.strip().lower())
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    )
    if fields.get(b"transfer-encoding") == b"chunked":
        body = _unchunked(body)
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Invalid("the policy is no text") from None


def _unchunked(body: bytes) -> bytes:
    """Join the chunks of a body (RFC 9112 §7.1)."""
    pieces: list[bytes] = []
    position = 0
    while True:
        match = _CHUNK.match(body, position)
        if match is None:
            raise Invalid("the answer of the web server is cut")
        size = int(match[1], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[match.end() : match.end() + size])
        position = match.end() + size + 2
