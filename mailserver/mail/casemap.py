"""How SEARCH, SORT and THREAD compare text: by i;unicode-casemap (RFC 5051, RFC 5255 §4.3)."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from string import ascii_lowercase, ascii_uppercase

# letters with another upper case than title case, and those that either makes several letters of
_UNUSUAL = re.compile(
    "[ßŉǄ-ǌǰǱ-ǳΐΰև\u10d0-\u10ff\u1e96-\u1e9a\u1f50-\u1f57\u1f80-\u1fff\ufb00-\ufb06\ufb13-\ufb17]"
)


def casemap(text: str) -> str:
    """Return what is compared instead of a text: its title case, decomposed (RFC 5051 §2)."""
    if text.isascii():
        return text.upper()
    title = "".join(map(_title, text)) if _UNUSUAL.search(text) else text.upper()
    return unicodedata.normalize("NFKD", title)


def _title(character: str) -> str:
    """Return the title case that UnicodeData.txt has, which is always one character."""
    title = character.title()
    return title if len(title) == 1 else character


_ASCII_UPPER = str.maketrans(ascii_lowercase, ascii_uppercase)


def ascii_casemap(text: str) -> str:
    """Return what i;ascii-casemap compares: only the letters A to Z have two cases (RFC 4790)."""
    return text.translate(_ASCII_UPPER)


# the collations that clients may name, the default first (RFC 8620 §5.5)
COLLATIONS: Mapping[str, Callable[[str], str]] = {
    "i;unicode-casemap": casemap,
    "i;ascii-casemap": ascii_casemap,
}
DEFAULT_COLLATION = next(iter(COLLATIONS))
