"""EmailAddress objects in what clients set (RFC 8621 §4.1.2.3)."""

import re

from mailserver.jmap.protocol.properties import WrongType
from mailserver.model import EmailAddress

MAX_ADDRESSES = 1000
MAX_LENGTH = 1000  # characters of a name or an address
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_LENGTH or _CONTROL.search(value):
        raise WrongType("an array of EmailAddress objects")
    return value


def addresses(value: object) -> tuple[EmailAddress, ...]:
    """Read an EmailAddress[]; the name may be missing."""
    if not isinstance(value, list) or len(value) > MAX_ADDRESSES:
        raise WrongType("an array of EmailAddress objects")
    found = []
    for each in value:
        if not isinstance(each, dict) or not {"email"} <= each.keys() <= {"name", "email"}:
            raise WrongType("an array of EmailAddress objects")
        name = each.get("name")
        found.append(EmailAddress(None if name is None else _text(name), _text(each["email"])))
    return tuple(found)
