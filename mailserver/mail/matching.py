"""Whether a message matches a criterion, as far as what is known of it can tell.

A candidate starts with what lists know (flags, sizes, dates) and gains its metadata and its text
only when the answer depends on them: a test then says None, not False (Kleene's logic).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from mailserver.mail import tokens
from mailserver.mail.casemap import COLLATIONS
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
from mailserver.mail.text_index import Hits
from mailserver.mime import Env, HeaderBlock, as_text, base
from mailserver.model import Email, Flags

_ADDRESSES = (Place.FROM, Place.TO, Place.CC, Place.BCC)
_HEADER_PLACES = (*_ADDRESSES, Place.SUBJECT)


class Metadata:
    """What the stored envelope and header of a message say, for searching."""

    __slots__ = ("_properties", "has_attachment", "header")

    def __init__(self, email: Email) -> None:
        self._properties = Env.unpack(email.env).properties
        self.has_attachment = self._properties["hasAttachment"] == b"true"
        self.header = email.header  # empty unless it was asked for

    def text(self, place: Place) -> str:
        """Return the words of an address field or the subject, in order."""
        value = orjson.loads(self._properties[place.value])
        return tokens.sequence(_shown(value or []) if place in _ADDRESSES else value or "")


class SortValues:
    """What the stored envelope of a message says, for sorting."""

    __slots__ = ("first_from", "first_to", "sent", "subject")

    def __init__(self, email: Email) -> None:
        properties = Env.unpack(email.env).properties
        self.first_from = _first(orjson.loads(properties["from"]) or [])
        self.first_to = _first(orjson.loads(properties["to"]) or [])
        self.subject = base(orjson.loads(properties["subject"]) or "")
        # RFC 8621 has no place for messages without a date; they come before all others
        self.sent = email.sent_at.timestamp() if email.sent_at else float("-inf")


def _shown(addresses: list[dict[str, Any]]) -> str:
    return "\n".join(f"{each['name'] or ''} {each['email']}" for each in addresses)


def _first(addresses: list[dict[str, Any]]) -> str:
    """Return what RFC 8621 §4.4.2 sorts by: the first name or, without one, the address."""
    name: str = (addresses[0]["name"] or addresses[0]["email"]) if addresses else ""
    return name


class Candidate:
    """One message that may match, and what is known of it so far."""

    __slots__ = (
        "answer", "body", "flags", "id", "keywords", "mailboxes", "metadata", "received", "size",
        "sort_values", "thread", "tie",
    )  # fmt: skip

    def __init__(
        self, id: int, thread: int, tie: int, received: int, size: int, flags: int
    ) -> None:
        self.id = id
        self.thread = thread
        self.tie = tie  # orders what an order leaves equal: the UID in a mailbox, else the id
        self.received = received  # microseconds since 1970
        self.size = size
        self.flags = flags
        self.keywords: frozenset[str] = frozenset()
        self.mailboxes: tuple[int, ...] = ()
        self.metadata: Metadata | None = None
        self.sort_values: SortValues | None = None
        self.body: str | None = None  # its words, in order
        self.answer: bool | None = None  # of the test, with what is known so far


Test = Callable[[Candidate], bool | None]
Threads = Mapping[int, Sequence[Candidate]]


@dataclass(frozen=True, slots=True)
class Known:
    """What tests look at besides the candidate."""

    threads: Threads  # every candidate, by thread
    hits: Mapping[Criterion, Hits]  # what the index of words says


def compile_test(criterion: Criterion, known: Known) -> Test:
    """Turn a criterion into a test."""
    return _COMPILERS[type(criterion)](criterion, known)


def _in_mailbox(criterion: InMailbox, known: Known) -> Test:
    return lambda candidate: criterion.mailbox in candidate.mailboxes


def _in_mailbox_other_than(criterion: InMailboxOtherThan, known: Known) -> Test:
    return lambda candidate: not criterion.mailboxes.issuperset(candidate.mailboxes)


def _received(criterion: Received, known: Known) -> Test:
    after = _microseconds(criterion.after, -(2**63))
    before = _microseconds(criterion.before, 2**63)
    return lambda candidate: after <= candidate.received < before


def _microseconds(moment: Any, default: int) -> int:
    return default if moment is None else round(moment.timestamp() * 1_000_000)


def _size(criterion: Size, known: Known) -> Test:
    minimum = criterion.minimum or 0
    below = 2**63 if criterion.below is None else criterion.below
    return lambda candidate: minimum <= candidate.size < below


def keyword_test(keyword: str) -> Callable[[Candidate], bool]:
    """Return the test for one JMAP keyword."""
    bits = Flags.of_keywords((keyword,)).bits
    if bits:
        return lambda candidate: bool(candidate.flags & bits)
    return lambda candidate: keyword in candidate.keywords


def _has_keyword(criterion: HasKeyword, known: Known) -> Test:
    return keyword_test(criterion.keyword)


def thread_test(within: Within, keyword: str, threads: Threads) -> Callable[[Candidate], bool]:
    """Return the test for a keyword of a thread; each thread is looked at once."""
    has = keyword_test(keyword)
    known: dict[int, bool] = {}

    def holds(thread: int) -> bool:
        found = [has(member) for member in threads[thread]]
        if within is Within.ALL:
            return all(found)
        return any(found) == (within is Within.SOME)

    def test(candidate: Candidate) -> bool:
        answer = known.get(candidate.thread)
        if answer is None:
            answer = known[candidate.thread] = holds(candidate.thread)
        return answer

    return test


def _thread_keyword(criterion: ThreadKeyword, known: Known) -> Test:
    return thread_test(criterion.within, criterion.keyword, known.threads)


def _has_attachment(criterion: HasAttachment, known: Known) -> Test:
    def test(candidate: Candidate) -> bool | None:
        metadata = candidate.metadata
        return None if metadata is None else metadata.has_attachment == criterion.wanted

    return test


def _by_index(criterion: Criterion, known: Known, look: Test) -> Test:
    """Let the index of words answer, and look at the message where it cannot."""
    hits = known.hits[criterion]

    def test(candidate: Candidate) -> bool | None:
        if candidate.id in hits.ids:
            return True if hits.exact else look(candidate)
        return look(candidate) if candidate.id in hits.unread else False

    return test


def _contains(criterion: Contains, known: Known) -> Test:
    if not criterion.words:
        return lambda candidate: True
    phrases = [found for word in criterion.words if (found := tokens.term(word).phrase)]
    places = _HEADER_PLACES if criterion.place is Place.TEXT else (criterion.place,)
    reads_body = criterion.place in (Place.TEXT, Place.BODY)

    def look(candidate: Candidate) -> bool | None:
        if candidate.metadata is None:
            return None
        texts = [candidate.metadata.text(place) for place in places if place is not Place.BODY]
        if all(any(phrase in text for text in texts) for phrase in phrases):
            return bool(phrases)
        if not reads_body:
            return False
        if candidate.body is None:
            return None
        texts.append(candidate.body)
        return all(any(phrase in text for text in texts) for phrase in phrases)

    return _by_index(criterion, known, look)


def _header_field(criterion: HeaderField, known: Known) -> Test:
    def look(candidate: Candidate) -> bool | None:
        if candidate.metadata is None:
            return None
        values = HeaderBlock(candidate.metadata.header).all(criterion.name)
        if criterion.text is None:
            return bool(values)
        return any(criterion.text in as_text(value).casefold() for value in values)

    return _by_index(criterion, known, look)


def _all(criterion: All, known: Known) -> Test:
    tests = [compile_test(each, known) for each in criterion.criteria]

    def test(candidate: Candidate) -> bool | None:
        answer: bool | None = True
        for each in tests:
            one = each(candidate)
            if one is False:
                return False
            if one is None:
                answer = None
        return answer

    return test


def _any_of(criterion: AnyOf, known: Known) -> Test:
    tests = [compile_test(each, known) for each in criterion.criteria]

    def test(candidate: Candidate) -> bool | None:
        answer: bool | None = False
        for each in tests:
            one = each(candidate)
            if one is True:
                return True
            if one is None:
                answer = None
        return answer

    return test


def _none_of(criterion: NoneOf, known: Known) -> Test:
    any_of = _any_of(AnyOf(criterion.criteria), known)

    def test(candidate: Candidate) -> bool | None:
        answer = any_of(candidate)
        return None if answer is None else not answer

    return test


_COMPILERS: dict[type, Callable[[Any, Known], Test]] = {
    InMailbox: _in_mailbox,
    InMailboxOtherThan: _in_mailbox_other_than,
    Received: _received,
    Size: _size,
    HasKeyword: _has_keyword,
    ThreadKeyword: _thread_keyword,
    HasAttachment: _has_attachment,
    Contains: _contains,
    HeaderField: _header_field,
    All: _all,
    AnyOf: _any_of,
    NoneOf: _none_of,
}

# criteria whose answer depends on mailboxes besides the one that all matches are in
BEYOND_MAILBOX = (InMailboxOtherThan, ThreadKeyword)
NEEDS_ENVELOPE = frozenset({SortKey.FROM, SortKey.TO, SortKey.SUBJECT, SortKey.SENT_AT})


def _sorted_by(each: Candidate) -> SortValues:
    """Return what NEEDS_ENVELOPE made sure was read."""
    assert each.sort_values is not None
    return each.sort_values


def _by_text(
    value: Callable[[SortValues], str],
) -> "Callable[[Comparator, Threads], Callable[[Candidate], Any]]":
    def key(comparator: Comparator, threads: Threads) -> Callable[[Candidate], str]:
        collate = COLLATIONS[comparator.collation]
        return lambda each: collate(value(_sorted_by(each)))

    return key


_KEYS: dict[SortKey, Callable[[Comparator, Threads], Callable[[Candidate], Any]]] = {
    SortKey.RECEIVED_AT: lambda comparator, threads: lambda each: each.received,
    SortKey.SIZE: lambda comparator, threads: lambda each: each.size,
    SortKey.SENT_AT: lambda comparator, threads: lambda each: _sorted_by(each).sent,
    SortKey.FROM: _by_text(lambda values: values.first_from),
    SortKey.TO: _by_text(lambda values: values.first_to),
    SortKey.SUBJECT: _by_text(lambda values: values.subject),
    SortKey.HAS_KEYWORD: lambda comparator, threads: keyword_test(comparator.keyword),
    SortKey.ALL_IN_THREAD_HAVE_KEYWORD: lambda comparator, threads: thread_test(
        Within.ALL, comparator.keyword, threads
    ),
    SortKey.SOME_IN_THREAD_HAVE_KEYWORD: lambda comparator, threads: thread_test(
        Within.SOME, comparator.keyword, threads
    ),
}


def ordered(
    candidates: list[Candidate], order: Sequence[Comparator], threads: Threads
) -> list[Candidate]:
    """Sort; what the order leaves equal is newest first, or oldest first if dates ascend."""
    by_date = next((each for each in order if each.key is SortKey.RECEIVED_AT), None)
    descending = by_date is None or not by_date.ascending
    result = sorted(candidates, key=lambda each: (each.received, each.tie), reverse=descending)
    for comparator in reversed(order):  # each sort is stable, so the last one counts most
        # reverse=True keeps equal elements in their order
        key = _KEYS[comparator.key](comparator, threads)
        result.sort(key=key, reverse=not comparator.ascending)
    return result
