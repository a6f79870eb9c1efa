"""Finding messages: by one statement where that answers, else by looking at every candidate.

A page of a mailbox, newest first, is an index scan that stops there. Other windows, and queries of
the account by flags, sizes, dates and mailboxes, read ids of the whole result. For the rest see
`scanning`.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mailserver.mail import scanning
from mailserver.mail.criteria import (
    Comparator,
    Criterion,
    HasKeyword,
    InMailbox,
    InMailboxOtherThan,
    NoneOf,
    Query,
    Received,
    Size,
    SortKey,
    Window,
    conjuncts,
)
from mailserver.mail.scanning import only_mailbox
from mailserver.mail.windows import AnchorNotFound, Found, start_of
from mailserver.model import AccountId, EmailId, Flags, MailboxId, Modseq
from mailserver.storage import search
from mailserver.storage.search import Narrow, Page, Stored

__all__ = [
    "AnchorNotFound",
    "Found",
    "Place",
    "Stored",
    "mailboxes_of_threads",
    "matching_of",
    "narrowed",
    "only_mailbox",
    "places",
    "query",
    "thread_members",
]

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

NOWHERE = frozenset[int]()
NO_KEYWORDS = frozenset[str]()
NEWEST_FIRST = ((), (Comparator(SortKey.RECEIVED_AT, ascending=False),))
COLLAPSE_FACTOR = 3  # messages read for each thread that is still wanted
ATTEMPTS = 3  # of reading on while the account changes; then the result is read as a whole


async def query(mail: "Mail", account: AccountId, asked: Query) -> Found:
    """Return messages that match, in order.

    Raises AnchorNotFound, and TooMany when the query would read more messages than one may.
    """
    narrow = narrowed(asked)
    if narrow is not None:
        return await _by_index(mail, account, asked, narrow)
    listed = _listed(asked)
    if listed is not None:
        return await _by_list(mail, account, asked, *listed)
    return await scanning.by_scan(mail, account, asked)


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
    window = asked.window
    if asked.order not in NEWEST_FIRST or window.anchor is not None or window.position < 0:
        return None
    conditions = list(conjuncts(asked.where))
    mailbox = next((each.mailbox for each in conditions if isinstance(each, InMailbox)), None)
    if mailbox is None or (asked.within is not None and mailbox not in asked.within):
        return None
    return _narrow(Narrow(MailboxId(mailbox)), conditions)


def _narrow(narrow: Narrow | None, conditions: Sequence[Criterion]) -> Narrow | None:
    for each in conditions:
        narrow = None if narrow is None else _narrower(narrow, each)
    return narrow


def _listed(asked: Query) -> tuple[Narrow, frozenset[int]] | None:
    """Return the query as what one statement answers for the whole result, None for any other.

    The second value are mailboxes, being in which alone is not enough.
    """
    if asked.order not in NEWEST_FIRST:
        return None
    conditions = list(conjuncts(asked.where))
    outside = [each for each in conditions if isinstance(each, InMailboxOtherThan)]
    inside = [each for each in conditions if isinstance(each, InMailbox)]
    if len(outside) + bool(inside) > 1:
        return None
    others = [each for each in conditions if not isinstance(each, InMailboxOtherThan)]
    mailbox = MailboxId(inside[0].mailbox) if inside else None
    narrow = _narrow(Narrow(mailbox), others)
    return None if narrow is None else (narrow, outside[0].mailboxes if outside else NOWHERE)


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
        case HasKeyword(keyword):
            return narrow._replace(words=narrow.words | {keyword})
        case NoneOf((HasKeyword(keyword),)):
            return narrow._replace(no_words=narrow.no_words | {keyword})
    return None


async def _by_index(mail: "Mail", account: AccountId, asked: Query, narrow: Narrow) -> Found:
    """Read the stretch straight from the index."""
    window = asked.window
    if asked.collapse_threads:
        page, ids = await _newest_of_threads(mail, account, narrow, window)
    else:
        page = await search.newest(mail.database, account, narrow, window.position, window.limit)
        ids = page.email_ids.tolist()
    total = await _total(mail, account, asked, narrow, page) if asked.total else None
    return Found(Modseq(page.modseq), [EmailId(each) for each in ids], window.position, total)


async def _total(mail: "Mail", account: AccountId, asked: Query, narrow: Narrow, page: Page) -> int:
    """Return how many match: by the counters of the mailbox where those say it."""
    if page.total is not None and not asked.collapse_threads:
        return page.total
    if asked.collapse_threads and narrow == Narrow(narrow.mailbox_id):
        modseq, counts = await mail.thread_counts.of(
            mail, account, page.modseq, within=asked.within
        )
        if modseq == page.modseq:
            return sum(counts[each].threads for each in counts if each == narrow.mailbox_id)
    counted = await search.count(mail.database, account, narrow)
    return counted.threads if asked.collapse_threads else counted.emails


async def _newest_of_threads(
    mail: "Mail", account: AccountId, narrow: Narrow, window: Window
) -> tuple[Page, list[int]]:
    """Read on until enough threads have shown their newest message."""
    wanted = window.position + window.limit
    first: dict[int, int] = {}  # thread -> its newest email
    modseq, offset = None, 0
    attempt = 1
    while True:
        size = COLLAPSE_FACTOR * (wanted - len(first)) + 1
        if attempt > ATTEMPTS:
            size = sys.maxsize  # one statement is of one state
        page = await search.newest(mail.database, account, narrow, offset, size)
        if modseq is not None and page.modseq != modseq:  # the stretches would not fit together
            first, modseq, offset = {}, None, 0
            attempt += 1
            continue
        for email, thread in zip(page.email_ids, page.thread_ids, strict=True):
            first.setdefault(thread, email)
        modseq = page.modseq
        offset += size
        if len(first) >= wanted or len(page.email_ids) < size:
            return page, list(first.values())[window.position : wanted]


async def _by_list(
    mail: "Mail", account: AccountId, asked: Query, narrow: Narrow, outside: frozenset[int]
) -> Found:
    """Read the result as a whole, or the start of it where that is enough."""
    window = asked.window
    whole = asked.total or asked.collapse_threads or window.anchor is not None
    page = await search.newest_of_account(
        mail.database,
        account,
        narrow,
        within=asked.within,
        outside=[MailboxId(each) for each in outside],
        limit=None if whole or window.position < 0 else window.position + window.limit,
    )
    ids = page.email_ids.tolist()
    if asked.collapse_threads:
        first: dict[int, int] = {}
        for email, thread in zip(ids, page.thread_ids, strict=True):
            first.setdefault(thread, email)
        ids = list(first.values())
    start = start_of(ids, window)
    return Found(
        Modseq(page.modseq),
        [EmailId(each) for each in ids[start : start + window.limit]],
        start,
        len(ids) if asked.total else None,
    )


async def matching_of(
    mail: "Mail", account: AccountId, narrow: Narrow, ids: Sequence[int]
) -> tuple[Modseq, dict[int, int]]:
    """Return email -> thread of those emails that match, and the state that this shows."""
    page = await search.matching(mail.database, account, narrow, ids)
    return Modseq(page.modseq), dict(zip(page.email_ids, page.thread_ids, strict=True))
