"""Finding messages: by one index scan where that answers, else by looking at every candidate.

Nothing that flags, sizes and dates answer reads more than those. What a stored envelope answers
reads envelopes, in batches; only what asks for body text reads messages, newest first, and stops
as soon as the wanted stretch of the result is known.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mailserver.errors import NotFound, TooMany
from mailserver.mail import matching, messages, search_bodies, text_index, tokens
from mailserver.mail.criteria import (
    All,
    AnyOf,
    Comparator,
    Contains,
    Criterion,
    HasKeyword,
    HeaderField,
    InMailbox,
    NoneOf,
    Query,
    Received,
    Size,
    SortKey,
    ThreadKeyword,
    Window,
    leaves,
    mentions,
)
from mailserver.mail.matching import Candidate, Known, Metadata, SortValues, Test, Threads
from mailserver.mail.text_index import Hits
from mailserver.model import AccountId, Email, EmailId, Flags, MailboxId, Modseq
from mailserver.storage import search
from mailserver.storage.search import Candidates, Narrow, Page, Stored, ThreadCount

__all__ = [
    "AnchorNotFound",
    "Found",
    "Place",
    "Stored",
    "ThreadCount",
    "mailboxes_of_threads",
    "matching_of",
    "narrowed",
    "only_mailbox",
    "places",
    "query",
    "thread_counts",
    "thread_members",
]

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

ENVELOPE_BATCH = 500
ENVELOPE_LIMIT = 100_000  # envelopes that one search reads
BODY_BATCH = 50
BODY_BATCH_OCTETS = 16 * 1024 * 1024
BODY_LIMIT = 20_000  # messages that one search reads
BODY_OCTETS = 1024 * 1024 * 1024
ATTEMPTS = 3  # of a search during which emails vanish: its result would be that of no state
MAX_TEXTS = 100  # criteria that the index of words is asked
MAX_BOUND = 20_000  # emails that are read one by one, rather than the account as a whole
NO_KEYWORDS = frozenset[str]()
NEWEST_FIRST = ((), (Comparator(SortKey.RECEIVED_AT, ascending=False),))
COLLAPSE_FACTOR = 3  # messages read for each thread that is still wanted


class AnchorNotFound(NotFound):
    """The anchor of a window is not in the result (RFC 8620 §5.5)."""


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of a result."""

    modseq: Modseq  # the state of the account that it shows
    ids: list[EmailId]
    position: int  # of the first id in the whole result
    total: int | None  # of the whole result; None when nobody asked


async def query(mail: "Mail", account: AccountId, asked: Query) -> Found:
    """Return messages that match, in order.

    Raises AnchorNotFound, and TooMany when the query would read more messages than one may.
    """
    narrow = narrowed(asked)
    if narrow is not None:
        return await _by_index(mail, account, asked, narrow)
    return await _by_scan(mail, account, asked)


async def thread_counts(
    mail: "Mail", account: AccountId, *, within: frozenset[MailboxId] | None = None
) -> dict[MailboxId, ThreadCount]:
    """Return the counts of JMAP for every mailbox that has messages (RFC 8621 §2).

    With `within` there are no other mailboxes than those.
    """
    return await search.thread_counts(mail.database, account, within)


async def mailboxes_of_threads(
    mail: "Mail", account: AccountId, threads: Sequence[int]
) -> set[MailboxId]:
    """Return the mailboxes that show any email of these threads."""
    return await search.mailboxes_of_threads(mail.database, account, threads)


async def thread_members(
    mail: "Mail",
    account: AccountId,
    threads: Sequence[int],
    *,
    within: frozenset[MailboxId] | None = None,
) -> dict[int, list[int]]:
    """Return the emails of threads, oldest first; an email that `places` leaves out is none."""
    found: dict[int, list[int]] = {}
    for thread, email in await search.of_threads(mail.database, account, threads, within):
        found.setdefault(thread, []).append(email)
    return found


class Place(NamedTuple):
    """Where an email is, and what can change about it."""

    thread: int
    mailboxes: list[int]
    received: int  # microseconds since 1970
    size: int
    flags: int
    keywords: frozenset[str]  # lower case


async def places(
    mail: "Mail",
    account: AccountId,
    ids: Sequence[int],
    *,
    envelopes_of: Sequence[int] = (),
    within: frozenset[MailboxId] | None = None,
) -> tuple[dict[int, Place], dict[int, Stored]]:
    """Return where emails are, and the stored envelopes of some of them; for lists.

    An email that is in no mailbox without \\Deleted is left out, and so is one that is in none of
    those `within`.
    """
    stored: dict[int, Stored] = {}
    if envelopes_of:
        rows, stored = await search.with_envelopes(mail.database, account, ids, envelopes_of)
    else:
        rows = await search.of_emails(mail.database, account, ids)
    found: dict[int, Place] = {}
    for email, thread, mailbox, _, received, size, flags in zip(*rows[1:-1], strict=True):
        if within is not None and mailbox not in within:
            continue
        known = found.get(email)
        if known is None:
            keywords = rows.keywords.get(email, NO_KEYWORDS)
            found[email] = Place(thread, [mailbox], received, size, flags, keywords)
        else:
            known.mailboxes.append(mailbox)
    return found, stored


# By index ----------------------------------------------------------------------------------------


def narrowed(asked: Query) -> Narrow | None:
    """Return the query as what one index scan answers, None for any other query."""
    newest_first = asked.order in NEWEST_FIRST
    window = asked.window
    if not newest_first or window.anchor is not None or window.position < 0:
        return None
    narrow: Narrow | None = None
    conditions = list(_conjuncts(asked.where))
    for each in conditions:
        if isinstance(each, InMailbox):
            narrow = Narrow(MailboxId(each.mailbox))
    if narrow is not None and asked.within is not None and narrow.mailbox_id not in asked.within:
        return None
    for each in conditions:
        narrow = None if narrow is None else _narrower(narrow, each)
    return narrow


def _conjuncts(criterion: Criterion) -> list[Criterion]:
    if isinstance(criterion, All):
        return [inner for each in criterion.criteria for inner in _conjuncts(each)]
    return [criterion]


def _narrower(narrow: Narrow, criterion: Criterion) -> Narrow | None:
    """Add one criterion; None when the statement has no place for it."""
    match criterion:
        case InMailbox(mailbox):
            return narrow if mailbox == narrow.mailbox_id else None
        case Received(after, before) if (after is None or narrow.after is None) and (
            before is None or narrow.before is None
        ):
            return narrow._replace(after=after or narrow.after, before=before or narrow.before)
        case Size(minimum, below):
            return narrow._replace(
                minimum=max(minimum or 0, narrow.minimum),
                below=min(narrow.below if below is None else below, narrow.below),
            )
        case HasKeyword(keyword) if bits := Flags.of_keywords((keyword,)).bits:
            return None if narrow.lacking & bits else narrow._replace(having=narrow.having | bits)
        case NoneOf((HasKeyword(keyword),)) if bits := Flags.of_keywords((keyword,)).bits:
            return None if narrow.having & bits else narrow._replace(lacking=narrow.lacking | bits)
    return None


async def _by_index(mail: "Mail", account: AccountId, asked: Query, narrow: Narrow) -> Found:
    """Read the stretch straight from the index."""
    window = asked.window
    if asked.collapse_threads:
        page, ids = await _newest_of_threads(mail, account, narrow, window)
    else:
        page = await search.newest(mail.database, account, narrow, window.position, window.limit)
        ids = page.email_ids.tolist()
    total = page.total
    if asked.total and (total is None or asked.collapse_threads):
        counted = await search.count(mail.database, account, narrow)
        total = counted.threads if asked.collapse_threads else counted.emails
    return Found(
        Modseq(page.modseq),
        [EmailId(each) for each in ids],
        window.position,
        total if asked.total else None,
    )


async def _newest_of_threads(
    mail: "Mail", account: AccountId, narrow: Narrow, window: Window
) -> tuple[Page, list[int]]:
    """Read on until enough threads have shown their newest message."""
    wanted = window.position + window.limit
    first: dict[int, int] = {}  # thread -> its newest email
    modseq, offset = None, 0
    while True:
        size = COLLAPSE_FACTOR * (wanted - len(first)) + 1
        page = await search.newest(mail.database, account, narrow, offset, size)
        if modseq is not None and page.modseq != modseq:  # the stretches would not fit together
            first, modseq, offset = {}, None, 0
            continue
        for email, thread in zip(page.email_ids, page.thread_ids, strict=True):
            first.setdefault(thread, email)
        modseq = page.modseq
        offset += size
        if len(first) >= wanted or len(page.email_ids) < size:
            return page, list(first.values())[window.position : wanted]


async def matching_of(
    mail: "Mail", account: AccountId, narrow: Narrow, ids: Sequence[int]
) -> tuple[Modseq, dict[int, int]]:
    """Return email -> thread of those emails that match, and the state that this shows."""
    page = await search.matching(mail.database, account, narrow, ids)
    return Modseq(page.modseq), dict(zip(page.email_ids, page.thread_ids, strict=True))


# By scan -----------------------------------------------------------------------------------------


async def _by_scan(mail: "Mail", account: AccountId, asked: Query) -> Found:
    mailbox = only_mailbox(asked)
    texts = _texts(asked.where)
    for _ in range(ATTEMPTS):
        # what the index says belongs to a state of before it was asked
        known = await messages.state(mail, account) if texts else None
        said = await text_index.find(mail, account, texts) if texts else []
        hits: dict[Criterion, Hits] = dict(zip(texts, said, strict=True))
        rows = await _rows(mail, account, asked, mailbox, _bound(asked.where, hits))
        scan = _Scan(mail, account, asked, hits)
        await asyncio.to_thread(scan.load, rows, mailbox)
        matches = await scan.matches()
        if not scan.vanished and known in (None, rows.modseq):
            break
    if asked.collapse_threads:
        matches = _collapsed(matches)
    start = _start(matches, asked.window)
    ids = [EmailId(each.id) for each in matches[start : start + asked.window.limit]]
    modseq = rows.modseq if known is None else min(known, rows.modseq)
    return Found(Modseq(modseq), ids, start, len(matches) if asked.total else None)


def _texts(criterion: Criterion) -> list[Contains | HeaderField]:
    """Return what the index of words is asked."""
    found = [
        each
        for each in leaves(criterion)
        if isinstance(each, HeaderField) or (isinstance(each, Contains) and each.words)
    ]
    if len(found) > MAX_TEXTS:
        raise TooMany("the search looks for too many texts")
    return list(dict.fromkeys(found))


def _bound(criterion: Criterion, hits: Mapping[Criterion, Hits]) -> frozenset[int] | None:
    """Return emails that all matches are among, None for all of the account."""
    if criterion in hits:
        return hits[criterion].ids | hits[criterion].unread
    if isinstance(criterion, All):
        bounds = [_bound(each, hits) for each in criterion.criteria]
        some = [each for each in bounds if each is not None]
        return frozenset.intersection(*some) if some else None
    if isinstance(criterion, AnyOf) and criterion.criteria:
        bounds = [_bound(each, hits) for each in criterion.criteria]
        some = [each for each in bounds if each is not None]
        return frozenset.union(*some) if len(some) == len(bounds) else None
    return None


async def _rows(
    mail: "Mail",
    account: AccountId,
    asked: Query,
    mailbox: MailboxId | None,
    bound: frozenset[int] | None,
) -> Candidates:
    """Read where the emails are that may match, and those of their threads if these decide."""
    by_thread = mentions(asked.where, ThreadKeyword) or any(
        each.key in _THREAD_KEYS for each in asked.order
    )
    if bound is not None and len(bound) <= MAX_BOUND and not by_thread:
        return await search.of_emails(mail.database, account, list(bound))
    if mailbox is None:
        return await search.of_account(mail.database, account)
    return await search.of_mailbox(mail.database, account, mailbox)


def only_mailbox(asked: Query) -> MailboxId | None:
    """Return the one mailbox whose messages alone decide the result, if there is one."""
    if any(each.key in _THREAD_KEYS for each in asked.order) or _looks_around(asked.where):
        return None
    mailboxes = {each.mailbox for each in _conjuncts(asked.where) if isinstance(each, InMailbox)}
    return MailboxId(mailboxes.pop()) if len(mailboxes) == 1 else None


_THREAD_KEYS = (SortKey.ALL_IN_THREAD_HAVE_KEYWORD, SortKey.SOME_IN_THREAD_HAVE_KEYWORD)


def _looks_around(criterion: Criterion, top: bool = True) -> bool:
    """Tell whether a criterion depends on other mailboxes than one that all matches are in."""
    inner = getattr(criterion, "criteria", None)
    if inner is not None:
        top = top and isinstance(criterion, All)
        return any(_looks_around(each, top) for each in inner)
    if isinstance(criterion, InMailbox):
        return not top
    return isinstance(criterion, matching.BEYOND_MAILBOX)


def _gathered(
    rows: Candidates, only: MailboxId | None, within: frozenset[MailboxId] | None
) -> dict[int, Candidate]:
    """Make one candidate of all memberships of an email, or of that in one mailbox alone."""
    by_id: dict[int, Candidate] = {}
    columns = zip(*rows[1:-1], strict=True)
    for email, thread, mailbox, uid, received, size, flags in columns:
        if (within is not None and mailbox not in within) or only not in (None, mailbox):
            continue
        known = by_id.get(email)
        if known is None:
            tie = email if only is None else uid
            known = by_id[email] = Candidate(email, thread, tie, received, size, flags)
            known.mailboxes = (mailbox,)
        else:
            known.mailboxes += (mailbox,)
    for email, keywords in rows.keywords.items():
        if email in by_id:
            by_id[email].keywords = keywords
    return by_id


class _Scan:
    """One search through candidates, and how much it may still read."""

    def __init__(
        self, mail: "Mail", account: AccountId, asked: Query, hits: Mapping[Criterion, Hits]
    ) -> None:
        self.mail = mail
        self.account = account
        self.asked = asked
        self.envelopes_left = ENVELOPE_LIMIT
        self.bodies_left = BODY_LIMIT
        self.octets_left = BODY_OCTETS
        self.by_envelope = any(each.key in matching.NEEDS_ENVELOPE for each in asked.order)
        self.by_header = mentions(asked.where, HeaderField)
        self.hits = hits
        self.threads: Threads = {}
        self.candidates: list[Candidate] = []
        self.vanished = False  # an email was destroyed after the rows were read
        self.test: Test = lambda candidate: False

    def load(self, rows: Candidates, only: MailboxId | None) -> None:
        """Make candidates of rows, drop those that surely do not match, sort; in a thread."""
        by_id = _gathered(rows, only, self.asked.within)
        threads: dict[int, list[Candidate]] = {}
        for each in by_id.values():
            threads.setdefault(each.thread, []).append(each)
        self.threads = threads
        self.test = matching.compile_test(self.asked.where, Known(threads, self.hits))
        for each in by_id.values():
            each.answer = self.test(each)
        self.candidates = [each for each in by_id.values() if each.answer is not False]
        if not self.by_envelope:
            self._sort()

    def _sort(self) -> None:
        self.candidates = matching.ordered(self.candidates, self.asked.order, self.threads)

    async def matches(self) -> list[Candidate]:
        """Return the matches in order; perhaps not those behind the wanted stretch."""
        if self.by_envelope:
            await self._read_sort_values()
            await asyncio.to_thread(self._sort)
        enough = _enough(self.asked)
        found: list[Candidate] = []
        for start in range(0, len(self.candidates), ENVELOPE_BATCH):
            batch = self.candidates[start : start + ENVELOPE_BATCH]
            await self._decide([each for each in batch if each.answer is None])
            found += [each for each in batch if each.answer]
            if enough(found):
                break
        return found

    async def _read_sort_values(self) -> None:
        for start in range(0, len(self.candidates), ENVELOPE_BATCH):
            batch = self.candidates[start : start + ENVELOPE_BATCH]
            emails = await self._emails(batch, header=False)
            await asyncio.to_thread(_give_sort_values, batch, emails)
        there = [each for each in self.candidates if each.sort_values is not None]
        self.vanished |= len(there) < len(self.candidates)
        self.candidates = there

    async def _emails(self, batch: Sequence[Candidate], *, header: bool) -> dict[EmailId, Email]:
        self.envelopes_left -= len(batch)
        if self.envelopes_left < 0:
            raise TooMany("the search reads too many messages")
        ids = [each.id for each in batch]
        return await messages.emails(self.mail, self.account, ids, header=header)

    async def _decide(self, batch: list[Candidate]) -> None:
        """Read what the test needs to know of each: the envelope, then the text."""
        if not batch:
            return
        emails = await self._emails(batch, header=self.by_header)
        there = [each for each in batch if each.id in emails]
        self.vanished |= len(there) < len(batch)
        await asyncio.to_thread(self._judge_envelopes, there, emails)
        for group in _grouped([each for each in there if each.answer is None], emails):
            self.bodies_left -= len(group)
            self.octets_left -= sum(each.size for each in group)
            if self.bodies_left < 0 or self.octets_left < 0:
                raise TooMany("the search reads too much text")
            places = [(each.id, each.size) for each in group]
            texts = await search_bodies.texts(self.mail, self.account, places)
            await asyncio.to_thread(self._judge_texts, group, texts)
        for each in batch:
            each.metadata = None  # judged; keep memory bounded

    def _judge_envelopes(self, batch: list[Candidate], emails: dict[EmailId, Email]) -> None:
        for each in batch:
            each.metadata = Metadata(emails[EmailId(each.id)])
            each.answer = self.test(each)

    def _judge_texts(self, group: list[Candidate], texts: Mapping[int, str]) -> None:
        for each in group:
            each.body = tokens.sequence(texts.get(each.id, ""))
            each.answer = self.test(each)
            each.body = None


def _give_sort_values(batch: Sequence[Candidate], emails: dict[EmailId, Email]) -> None:
    for each in batch:
        email = emails.get(EmailId(each.id))
        if email is not None:
            each.sort_values = SortValues(email)


def _enough(asked: Query) -> Callable[[list[Candidate]], bool]:
    """Return the test for having read far enough."""
    window = asked.window
    if asked.total or window.anchor is not None or window.position < 0:
        return lambda found: False
    wanted = window.position + window.limit
    if asked.collapse_threads:
        return lambda found: len({each.thread for each in found}) >= wanted
    return lambda found: len(found) >= wanted


def _grouped(
    candidates: Sequence[Candidate], emails: dict[EmailId, Email]
) -> list[list[Candidate]]:
    """Split into groups whose messages fit into memory together."""
    groups: list[list[Candidate]] = []
    room = 0
    for each in candidates:
        size = emails[EmailId(each.id)].size
        if not groups or len(groups[-1]) >= BODY_BATCH or size > room:
            groups.append([])
            room = BODY_BATCH_OCTETS
        groups[-1].append(each)
        room -= size
    return groups


def _collapsed(matches: Sequence[Candidate]) -> list[Candidate]:
    """Keep the first message of each thread (RFC 8621 §4.4.3)."""
    first: dict[int, Candidate] = {}
    for each in matches:
        first.setdefault(each.thread, each)
    return list(first.values())


def _start(matches: Sequence[Candidate], window: Window) -> int:
    """Return where the wanted stretch starts (RFC 8620 §5.5)."""
    if window.anchor is not None:
        for index, each in enumerate(matches):
            if each.id == window.anchor:
                return max(0, index + window.anchor_offset)
        raise AnchorNotFound("anchor")
    if window.position < 0:
        return max(0, len(matches) + window.position)
    return window.position
