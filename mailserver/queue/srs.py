"""The Sender Rewriting Scheme: reverse-paths of mail that is passed on to another server.

The server that gets it would ask the domain of the first sender whether we may send in its name
(SPF). So the reverse-path becomes an address here that has the first one in it, with a day and a
code that only we can make; a report about the message comes back to it, and is sent on:

    SRS0=code=day=first.example=user@here     a sender, rewritten
    SRS1=code=other.example==code=day=...     one that another server has rewritten already
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime

from mailserver.address import Address, normal_domain, quoted
from mailserver.errors import Invalid

CODE = 8  # letters, 40 bits
MAX_AGE = 21  # days in which reports come back
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_DAYS = len(_LETTERS) ** 2  # after which the days are counted anew
_SRS0 = re.compile(r"srs0=([a-z2-7]{8})=([a-z2-7]{2})=([^=]+)=(.+)", re.IGNORECASE | re.DOTALL)
_SRS1 = re.compile(r"srs1=([a-z2-7]{8})=([^=]+)=(.+)", re.IGNORECASE | re.DOTALL)
_OTHERS_SRS0 = re.compile(r"srs0([=+-].+)", re.IGNORECASE | re.DOTALL)
_OTHERS_SRS1 = re.compile(r"srs1[=+-][^=]+=([^=]+)=(.+)", re.IGNORECASE | re.DOTALL)


def is_rewritten(local_part: str) -> bool:
    """Tell whether an address may be one that a server has rewritten."""
    return local_part[:5].lower() in ("srs0=", "srs1=")


@dataclass(frozen=True, slots=True)
class Srs:
    """Rewrites and reads reverse-paths with a key that all processes share."""

    key: bytes

    @classmethod
    def of(cls, secret: str) -> "Srs":
        """Make the key from the secret of the server."""
        return cls(hashlib.sha256(b"mailserver srs\0" + secret.encode()).digest())

    def rewritten(self, sender: str, domain: str, now: datetime) -> str:
        """Return the reverse-path for a message that leaves from a domain here; never raises."""
        local, _, sender_domain = sender.rpartition("@")
        if len(local) >= 2 and local[0] == '"' == local[-1]:
            local = re.sub(r"\\(.)", r"\1", local[1:-1])
        if found := _OTHERS_SRS0.fullmatch(local):
            rest = f"{sender_domain}={found[1]}"
        elif found := _OTHERS_SRS1.fullmatch(local):
            rest = f"{found[1]}={found[2]}"
        else:
            rest = f"{_day(now)}={sender_domain}={local}"
            return f"{quoted(f'SRS0={self._code(rest)}={rest}')}@{domain}"
        return f"{quoted(f'SRS1={self._code(rest)}={rest}')}@{domain}"

    def original(self, local_part: str, now: datetime) -> Address | None:
        """Return whom a report to a local part is for; None when we have not made it, or long ago.

        What others rewrote before goes back to them.
        """
        if found := _SRS0.fullmatch(local_part):
            code, day, domain, local = found.groups()
            rest = f"{day}={domain}={local}"
            is_valid = self._is_ours(code, rest) and _age(day, now) <= MAX_AGE
        elif found := _SRS1.fullmatch(local_part):
            code, domain, local = found.groups()
            is_valid = self._is_ours(code, f"{domain}={local}")
            local = f"SRS0{local}"
        else:
            return None
        if not is_valid:
            return None
        try:
            return Address(local, normal_domain(domain))
        except Invalid:
            return None

    def _code(self, rest: str) -> str:
        # some servers change the case of a local part
        digest = hmac.digest(self.key, rest.lower().encode(), "sha256")
        return base64.b32encode(digest)[:CODE].decode().lower()

    def _is_ours(self, code: str, rest: str) -> bool:
        return hmac.compare_digest(code.lower().encode(), self._code(rest).encode())


def _day(now: datetime) -> str:
    high, low = divmod(int(now.timestamp()) // 86400 % _DAYS, len(_LETTERS))
    return _LETTERS[high] + _LETTERS[low]


def _age(day: str, now: datetime) -> int:
    high, low = (_LETTERS.index(letter) for letter in day.lower())
    today = int(now.timestamp()) // 86400 % _DAYS
    age = (today - high * len(_LETTERS) - low) % _DAYS
    return 0 if age == _DAYS - 1 else age  # a clock that is a little behind
