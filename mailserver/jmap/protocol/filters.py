"""Filters and sorts of /query methods: from JSON to criteria (RFC 8620 §5.5, RFC 8621 §4.4)."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.dates import parse_utc
from mailserver.jmap.protocol.errors import MethodError, invalid_arguments
from mailserver.jmap.protocol.properties import WrongType
from mailserver.mail.casemap import COLLATIONS, DEFAULT_COLLATION
from mailserver.mail.criteria import (
    All,
    AnyOf,
    Comparator,
    Contains,
    Criterion,
    HasAttachment,
    HasKeyword,
    HeaderField,
    InMailbox,
    InMailboxOtherThan,
    NoneOf,
    Place,
    Received,
    Size,
    SortKey,
    ThreadKeyword,
    Within,
)
from mailserver.model import IdKind, id_value

C = TypeVar("C")

MAX_DEPTH = 20  # operators inside operators
MAX_CONDITIONS = 500
MAX_TEXT = 1000  # characters
MAX_WORDS = 50
MAX_COMPARATORS = 10

_OPERATORS = ("AND", "OR", "NOT")
_TOKEN = re.compile(r"""(?<!\S)(["'])((?:\\.|(?!\1)[^\\])*)\1|(\S+)""", re.DOTALL)
_ESCAPED = re.compile(r"""\\(["'\\])""")
_NOBODY = -1  # an id that no object has


def unsupported_filter(description: str) -> MethodError:
    """Return the error for a filter that is valid but cannot be answered."""
    return MethodError("unsupportedFilter", description)


def parse_tree(
    value: object,
    condition: Callable[[dict[str, object]], C],
    combine: Callable[[str, tuple[C, ...]], C],
) -> C:
    """Read a FilterOperator or FilterCondition; what is too large is `unsupportedFilter`."""
    left = MAX_CONDITIONS

    def read(node: object, depth: int) -> C:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise unsupported_filter("the filter has too many conditions")
        if not isinstance(node, dict):
            raise invalid_arguments("filter must be made of objects")
        if "operator" not in node:
            return condition(node)
        operator, inner = node.get("operator"), node.get("conditions")
        if operator not in _OPERATORS or not isinstance(inner, list) or len(node) != 2:
            raise invalid_arguments("filter has an operator that is none")
        return combine(operator, tuple(read(each, depth + 1) for each in inner))

    return read(value, 0)


def email_filter(value: Mapping[str, object] | None) -> Criterion:
    """Read the filter of Email/query (RFC 8621 §4.4.1); null matches everything."""
    if value is None:
        return All(())
    return parse_tree(value, _condition, _combine)


def _combine(operator: str, criteria: tuple[Criterion, ...]) -> Criterion:
    if operator == "AND":
        return All(criteria)
    return AnyOf(criteria) if operator == "OR" else NoneOf(criteria)


def _condition(condition: dict[str, object]) -> Criterion:
    criteria = []
    for name, value in condition.items():
        read = _CONDITIONS.get(name)
        if read is None:
            raise unsupported_filter(f"there is no filter {name[:50]!r}")
        try:
            criteria.append(read(value))
        except WrongType as error:
            raise invalid_arguments(f"filter {name} must be {error}") from None
    return criteria[0] if len(criteria) == 1 else All(tuple(criteria))


def _mailbox(value: object) -> int:
    found = id_value(IdKind.MAILBOX, properties.text(value))
    return _NOBODY if found is None else found


def _utc(value: object) -> datetime:
    moment = parse_utc(value) if isinstance(value, str) else None
    if moment is None:
        raise WrongType("a UTCDate")
    return moment


def _keyword(value: object) -> str:
    return properties.text(value).lower()


def words_of(value: object) -> tuple[str, ...]:
    """Split a text into words and quoted phrases, in folded case (RFC 8621 §4.4.1)."""
    text = properties.text(value)
    if len(text) > MAX_TEXT:
        raise unsupported_filter("the text to look for is too long")
    words = []
    for found in _TOKEN.finditer(text):
        word = found[3] if found[1] is None else _ESCAPED.sub(r"\1", found[2])
        if word:
            words.append(word.casefold())
    if len(words) > MAX_WORDS:
        raise unsupported_filter("there are too many words to look for")
    return tuple(words)


def _header(value: object) -> HeaderField:
    names = properties.texts(value)
    if not 1 <= len(names) <= 2:
        raise WrongType("an array of a header name and perhaps a text")
    text = names[1][:MAX_TEXT].casefold() if len(names) == 2 else None
    return HeaderField(names[0].lower(), text)


def _contains(place: Place) -> Callable[[object], Criterion]:
    return lambda value: Contains(place, words_of(value))


def _thread(within: Within) -> Callable[[object], Criterion]:
    return lambda value: ThreadKeyword(within, _keyword(value))


_CONDITIONS: dict[str, Callable[[object], Criterion]] = {
    "inMailbox": lambda value: InMailbox(_mailbox(value)),
    "inMailboxOtherThan": lambda value: InMailboxOtherThan(
        frozenset(_mailbox(each) for each in properties.texts(value))
    ),
    "before": lambda value: Received(before=_utc(value)),
    "after": lambda value: Received(after=_utc(value)),
    "minSize": lambda value: Size(minimum=properties.unsigned(value)),
    "maxSize": lambda value: Size(below=properties.unsigned(value)),
    "allInThreadHaveKeyword": _thread(Within.ALL),
    "someInThreadHaveKeyword": _thread(Within.SOME),
    "noneInThreadHaveKeyword": _thread(Within.NONE),
    "hasKeyword": lambda value: HasKeyword(_keyword(value)),
    "notKeyword": lambda value: NoneOf((HasKeyword(_keyword(value)),)),
    "hasAttachment": lambda value: HasAttachment(properties.boolean(value)),
    "text": _contains(Place.TEXT),
    "from": _contains(Place.FROM),
    "to": _contains(Place.TO),
    "cc": _contains(Place.CC),
    "bcc": _contains(Place.BCC),
    "subject": _contains(Place.SUBJECT),
    "body": _contains(Place.BODY),
    "header": _header,
}


# Sorts -------------------------------------------------------------------------------------------

_WITH_KEYWORD = frozenset(
    {
        SortKey.HAS_KEYWORD,
        SortKey.ALL_IN_THREAD_HAVE_KEYWORD,
        SortKey.SOME_IN_THREAD_HAVE_KEYWORD,
    }
)
EMAIL_SORTS = tuple(key.value for key in SortKey)


def email_sort(value: Sequence[Mapping[str, object]] | None) -> tuple[Comparator, ...]:
    """Read the sort of Email/query (RFC 8621 §4.4.2)."""
    comparators = []
    for each in checked_sort(value, EMAIL_SORTS):
        key = SortKey(str(each["property"]))
        keyword = each.get("keyword")
        if key in _WITH_KEYWORD and not isinstance(keyword, str):
            raise invalid_arguments(f"sort by {key} needs a keyword")
        lower = keyword.lower() if isinstance(keyword, str) else ""
        ascending = each.get("isAscending", True) is True
        comparators.append(Comparator(key, ascending, lower, collation_of(each)))
    return tuple(comparators)


def checked_sort(
    value: Sequence[Mapping[str, object]] | None, known: Sequence[str]
) -> Sequence[Mapping[str, object]]:
    """Return comparators whose types, properties and collations are right (RFC 8620 §5.5)."""
    if value is None:
        return ()
    if len(value) > MAX_COMPARATORS:
        raise _unsupported_sort("the sort has too many comparators")
    for each in value:
        if not isinstance(each.get("property"), str):
            raise invalid_arguments("sort needs a property")
        if not isinstance(each.get("isAscending", True), bool):
            raise invalid_arguments("sort isAscending must be true or false")
        if not isinstance(each.get("collation"), str | None):
            raise invalid_arguments("sort collation must be a string")
        if each["property"] not in known:
            raise _unsupported_sort("there is no sort by that property")
        if collation_of(each) not in COLLATIONS:
            raise _unsupported_sort("there is no such collation")
    return value


def collation_of(comparator: Mapping[str, object]) -> str:
    """Return the collation that a comparator names; null or none is the default."""
    return str(comparator.get("collation") or DEFAULT_COLLATION)


def _unsupported_sort(description: str) -> MethodError:
    return MethodError("unsupportedSort", description)
