"""Properties `header:{name}[:as{form}][:all]` and the forms each header has (RFC 8621 §4.1.2)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mailserver import mime
from mailserver.jmap.protocol.errors import MethodError, invalid_arguments
from mailserver.mime import HeaderBlock

_ADDRESSES = frozenset((
    "from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-sender",
    "resent-reply-to", "resent-to", "resent-cc", "resent-bcc",
))  # fmt: skip
_MESSAGE_IDS = frozenset(("message-id", "in-reply-to", "references", "resent-message-id"))
_DATES = frozenset(("date", "resent-date"))
_URLS = frozenset((
    "list-help", "list-unsubscribe", "list-subscribe", "list-post", "list-owner", "list-archive",
))  # fmt: skip
_TEXTS = frozenset(("subject", "comments", "keywords", "list-id"))
_RAW_ONLY = frozenset(("return-path", "received"))
# the fields of RFC 5322 and RFC 2369; every other field may be read in any form
_KNOWN = _ADDRESSES | _MESSAGE_IDS | _DATES | _URLS | (_TEXTS - {"list-id"}) | _RAW_ONLY

Form = Callable[[bytes], object]

_FORMS: dict[str, tuple[Form, frozenset[str]]] = {
    "asText": (mime.as_text, _TEXTS),
    "asAddresses": (mime.as_addresses, _ADDRESSES),
    "asGroupedAddresses": (mime.as_grouped_addresses, _ADDRESSES),
    "asMessageIds": (mime.as_message_ids, _MESSAGE_IDS),
    "asDate": (mime.as_date, _DATES),
    "asURLs": (mime.as_urls, _URLS),
}
PREFIX = "header:"
RAW = "asRaw"  # the form of a property that names none; not a suffix
MAX_NAME = 255
MAX_PROPERTIES = 200  # of header fields that one call shows of each email, or of each part


@dataclass(frozen=True, slots=True)
class HeaderProperty:
    """One header property: which field, in which form, one or all."""

    name: str  # of the field, lower case
    form: Form
    all: bool

    def value(self, block: HeaderBlock) -> object:
        """Return the property's value for a header."""
        if self.all:
            return [self.form(value) for value in block.all(self.name)]
        value = block.last(self.name)
        return None if value is None else self.form(value)


class HeaderName(NamedTuple):
    """The name of a header property, taken apart."""

    field: str  # as written
    form: str  # asRaw, asText, …
    all: bool


def has_addresses(name: str) -> bool:
    """Tell whether a field is a list of addresses."""
    return name.lower() in _ADDRESSES


def parse_header_property(name: str) -> HeaderProperty:
    """Read a property name that starts with `header:`; raise `invalidArguments`."""
    field, form, every = split_header_property(name)
    read = mime.as_raw if form == RAW else _FORMS[form][0]
    return HeaderProperty(field.lower(), read, every)


def split_header_property(name: str) -> HeaderName:
    """Take a property name that starts with `header:` apart; raise `invalidArguments`."""
    field, *suffixes = name.removeprefix(PREFIX).split(":")
    every = suffixes[-1:] == ["all"]
    if every:
        suffixes.pop()
    usable = 0 < len(field) <= MAX_NAME and all("!" <= character <= "~" for character in field)
    if not usable or len(suffixes) > 1:
        raise _unknown(name)
    if not suffixes:
        return HeaderName(field, RAW, every)
    lower = field.lower()
    form, fields = _FORMS.get(suffixes[0], (None, frozenset[str]()))
    if form is None or (lower in _KNOWN and lower not in fields):
        raise _unknown(name)
    return HeaderName(field, suffixes[0], every)


def check_count(names: Iterable[str]) -> None:
    """Raise `requestTooLarge` for more header properties than anybody shows."""
    if sum(name.startswith(PREFIX) for name in names) > MAX_PROPERTIES:
        raise MethodError("requestTooLarge", f"at most {MAX_PROPERTIES} header properties")


def _unknown(name: str) -> MethodError:
    return invalid_arguments(f"there is no property {name[:80]!r}")
