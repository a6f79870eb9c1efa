"""BDAT (RFC 3030 §2)."""

import re
from dataclasses import dataclass

from mailserver.smtp.protocol.replies import Refused, Reply

_BDAT = re.compile(r"([0-9]{1,20})(?: +(LAST))? *\Z", re.IGNORECASE | re.ASCII)
# Without the size nobody knows where the next command begins: taking the octets of a message for
# commands is what smuggling is made of.
UNREADABLE = Reply(421, "4.5.4", "The size of the chunk cannot be read, closing connection")


@dataclass(frozen=True, slots=True)
class Bdat:
    """A chunk that follows the command."""

    size: int  # octets
    last: bool


def parse(argument: str) -> Bdat:
    """bdat-cmd = "BDAT" SP chunk-size [SP "LAST"] (RFC 3030 §2)."""
    match = _BDAT.match(argument.strip(" "))
    if match is None:
        raise Refused(UNREADABLE)
    return Bdat(int(match[1]), match[2] is not None)
