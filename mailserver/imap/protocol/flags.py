"""Flags as text (RFC 9051 §2.3.2): the names a client may use and the lists it is shown."""

from collections.abc import Iterable, Sequence

from mailserver.imap.protocol.errors import ProtocolError
from mailserver.model import FLAG_NAMES, Flags, Right, flag_bit, flag_mask, flag_names

MAX_KEYWORD = 128  # octets
MAX_FLAGS = 100  # in one command


class RenderedFlags(dict[int, bytes]):
    """Flag masks as the text inside `FLAGS (...)`, each rendered once."""

    def __init__(self, *, recent: bool) -> None:
        super().__init__()
        self._recent = recent

    def __missing__(self, bits: int) -> bytes:
        text = render(bits, (), recent=self._recent)
        self[bits] = text
        return text


def render(bits: int, keywords: Sequence[str], *, recent: bool) -> bytes:
    """Write the flags of a mask, keywords without a bit, and \\Recent."""
    names = [*flag_names(bits), *keywords]
    if recent:
        names.append("\\Recent")
    return " ".join(names).encode("ascii")


def all_names(keywords: Iterable[str]) -> bytes:
    """Return every flag a mailbox knows, for the FLAGS response."""
    names = [name for _, name, _ in FLAG_NAMES]
    names += sorted(keywords, key=str.lower)
    return " ".join(names).encode("ascii")


def permanent(keywords: Iterable[str], rights: Right) -> bytes:
    r"""Return the flags that a user may change, for PERMANENTFLAGS; \* is any keyword."""
    mask = flag_mask(rights)
    names = [name for bit, name, _ in FLAG_NAMES if bit & mask]
    if Right.WRITE in rights:
        names += [*sorted(keywords, key=str.lower), "\\*"]
    return " ".join(names).encode("ascii")


def read(names: Sequence[str]) -> Flags:
    """Check the names a client wants to set and turn them into flags."""
    if len(names) > MAX_FLAGS:
        raise ProtocolError("Too many flags")
    for name in names:
        if name.lower() == "\\recent":
            raise ProtocolError("\\Recent cannot be set")
        if name.startswith("\\") and flag_bit(name) is None:
            raise ProtocolError("Unknown system flag")
        if len(name) > MAX_KEYWORD:
            raise ProtocolError("Keyword is too long")
    return Flags.of(names)
