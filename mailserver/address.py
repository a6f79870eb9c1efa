"""A mail address as a value with one normal form.

The normal form is what is stored and compared: the domain as lower-case A-labels (RFC 5891), the
local part casefolded and in Unicode NFC. RFC 5321 §2.4 lets only the receiving host interpret a
local part; this is the receiving host, and no user expects `Alice@` and `alice@` to be two people.
"""

import re
import unicodedata
from dataclasses import dataclass

from mailserver.errors import Invalid

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_DOT_ATOM = re.compile(
    r"[^\x00-\x20\x7f()<>@,;:\\\"\[\].]+(?:\.[^\x00-\x20\x7f()<>@,;:\\\"\[\].]+)*\Z"
)
MAX_LOCAL_PART = 64  # octets, RFC 5321 §4.5.3.1.1
MAX_REWRITTEN = 400  # octets of one with another address in it: a server has passed mail on (SRS)
MAX_DOMAIN = 255  # octets, RFC 5321 §4.5.3.1.2


@dataclass(frozen=True, slots=True)
class Address:
    """A local part and a domain, both in normal form."""

    local_part: str
    domain: str

    def __str__(self) -> str:
        """Return the address without quoting, the form that is stored and compared."""
        return f"{self.local_part}@{self.domain}"

    def without_subaddress(self, separator: str = "+") -> "Address":
        """Drop the detail after the separator: `alice+x` is `alice` (RFC 5233)."""
        user = self.local_part.split(separator, 1)[0]
        return Address(user, self.domain) if user else self


def normal_domain(text: str) -> str:
    """Return the domain as lower-case A-labels; raise Invalid when it is not a domain name."""
    domain = text.strip().rstrip(".").lower()
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            raise Invalid("the domain is not a valid internationalised name") from None
    if not domain or len(domain) > MAX_DOMAIN:
        raise Invalid("the domain is empty or too long")
    if domain.startswith("[") and domain.endswith("]"):
        return domain
    if not all(_LABEL.match(label) for label in domain.split(".")):
        raise Invalid("the domain has a character that no domain name has")
    return domain


def parse_address(text: str) -> Address:
    """Read `local@domain`, quoted or not, into its normal form; raise Invalid otherwise."""
    local_part, at, domain = text.strip().rpartition("@")
    if not at:
        raise Invalid("an address needs a local part, an @ and a domain")
    if len(local_part) >= 2 and local_part[0] == '"' == local_part[-1]:
        local_part = re.sub(r"\\(.)", r"\1", local_part[1:-1])
    elif not _DOT_ATOM.match(local_part):
        raise Invalid("the local part has a character that must be quoted")
    local_part = unicodedata.normalize("NFC", local_part).casefold()
    limit = MAX_REWRITTEN if local_part.startswith(("srs0=", "srs1=")) else MAX_LOCAL_PART
    if not local_part or len(local_part.encode()) > limit:
        raise Invalid("the local part is empty or too long")
    if any(ord(character) < 32 or ord(character) == 127 for character in local_part):
        raise Invalid("the local part has a control character")
    return Address(local_part, normal_domain(domain))


def quoted(local_part: str) -> str:
    """Write a local part as a path and a header field have it: quoted where it must be."""
    if _DOT_ATOM.match(local_part):
        return local_part
    return '"' + re.sub(r'(["\\])', r"\\\1", local_part) + '"'


def path_text(text: str, address: Address) -> str:
    """Return an address as a path has it: as given, where that can be read in one way only."""
    local, _, domain = text.strip().rpartition("@")
    if '"' in local:
        local = quoted(address.local_part)
    return f"{local}@{domain if domain.isascii() else address.domain}"
