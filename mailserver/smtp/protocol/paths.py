"""Reverse-paths and forward-paths (RFC 5321 §4.1.2, RFC 6531 §3.3)."""

import re
from dataclasses import dataclass

from mailserver.address import Address, parse_address
from mailserver.errors import Invalid
from mailserver.smtp.protocol.replies import Refused, Reply

# One expression for the paths of nearly all mail: no quoting, no source route.
_PATH = re.compile(
    r"""<
    (?:@[^<>\s:]*:)?                                        # A-d-l: accepted and ignored
    (?:
        (?P<dot>[^\x00-\x20\x7f<>()\[\]\\,;:@"]+)           # Dot-string, and UTF8-non-ascii
      | (?P<quoted>"(?:[^\x00-\x1f\x7f"\\]|\\[\x20-\x7e])*")  # Quoted-string
    )
    (?:@(?P<domain>[^\x00-\x20\x7f<>@\\"(),;]+))?
    >""",
    re.VERBOSE,
)
_NULL = re.compile(r"<\s*>")
MAX_PATH = 256 * 4  # octets; RFC 5321 §4.5.3.1.3 asks for 256, internationalised paths are longer
BAD_SENDER = Reply(501, "5.1.7", "Bad sender's mailbox address syntax")
BAD_RECIPIENT = Reply(501, "5.1.3", "Bad destination mailbox address syntax")


@dataclass(frozen=True, slots=True)
class Path:
    """A mailbox in an envelope, as the peer wrote it, and as an address to look up."""

    text: str  # without angle brackets and source route; empty: the null reverse-path
    address: Address | None  # None for the null reverse-path and for <Postmaster>

    @property
    def is_ascii(self) -> bool:
        """Tell whether the path can be used without SMTPUTF8."""
        return self.text.isascii()


NULL_PATH = Path("", None)
POSTMASTER = Path("postmaster", None)  # without a domain: of this server (RFC 5321 §4.5.1)


def split_path(text: str, keyword: str, bad: Reply) -> tuple[str, str]:
    """Split `FROM:<path> parameters` after the closing bracket; refuse with `bad` otherwise.

    QUIRK(many clients): blanks after the colon, which the grammar does not have, are skipped.
    """
    if text[: len(keyword)].upper() != keyword:
        raise Refused(bad)
    rest = text[len(keyword) :].lstrip(" ")
    match = _NULL.match(rest) or _PATH.match(rest)
    if match is None or match.end() > MAX_PATH:
        raise Refused(bad)
    parameters = rest[match.end() :]
    if parameters and not parameters.startswith(" "):
        raise Refused(bad)
    return match.group(), parameters


def parse_reverse_path(text: str) -> tuple[Path, str]:
    """Reverse-path = Path / "<>", with the parameters that follow (RFC 5321 §4.1.1.2)."""
    path, parameters = split_path(text, "FROM:", BAD_SENDER)
    if _NULL.fullmatch(path):
        return NULL_PATH, parameters
    return _mailbox(path, BAD_SENDER), parameters


def parse_forward_path(text: str) -> tuple[Path, str]:
    """Forward-path = Path / "<Postmaster>", with the parameters that follow (RFC 5321 §4.1.1.3)."""
    path, parameters = split_path(text, "TO:", BAD_RECIPIENT)
    if _NULL.fullmatch(path):
        raise Refused(BAD_RECIPIENT)
    if path.lower() == "<postmaster>":
        return POSTMASTER, parameters
    return _mailbox(path, BAD_RECIPIENT), parameters


def _mailbox(path: str, bad: Reply) -> Path:
    match = _PATH.fullmatch(path)
    if match is None or match["domain"] is None:
        raise Refused(bad)
    text = f"{match['dot'] or match['quoted']}@{match['domain']}"
    try:
        return Path(text, parse_address(text))
    except Invalid:
        raise Refused(bad) from None
