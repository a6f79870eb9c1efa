"""Searches for words that many messages have: the newest are tested until a page is full.

The index of words finds all of them, but to sort tens of thousands for the first page costs a
hundred times what it costs to look at the newest few hundred.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mailserver.mail.criteria import (
    Comparator,
    Contains,
    Criterion,
    HeaderField,
    InMailbox,
    Query,
    SortKey,
    conjuncts,
)
from mailserver.mail.text_index import Hits
from mailserver.mail.windows import Found
from mailserver.model import DELETED, AccountId, EmailId, MailboxId, Modseq
from mailserver.storage import mailboxes, search_text

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

MANY = 1000  # emails with a word from which on it is quicker to test the newest
MOST = 1000  # emails up to the end of a page that are found so
_COLLAPSE_FACTOR = 3  # messages found for each thread that is wanted
_NEWEST_FIRST = ((), (Comparator(SortKey.RECEIVED_AT, ascending=False),))


async def newest(
    mail: "Mail",
    account: AccountId,
    asked: Query,
    only: MailboxId | None,
    hits: Mapping[Criterion, Hits],
    *,
    many: int = MANY,
) -> Found | None:
    """Return the newest emails with words that many have; None for any other search."""
    query = _query(asked, hits, many)
    wanted = asked.window.position + asked.window.limit
    if query is None or not 0 < wanted <= MOST:
        return None
    if only is not None:
        boxes = [only]
    else:
        boxes = [each.id for each in await mailboxes.of_account(mail.database, account)]
    boxes = [each for each in boxes if asked.within is None or each in asked.within]
    limit = wanted * (_COLLAPSE_FACTOR if asked.collapse_threads else 1)
    modseq, emails, threads = await search_text.newest_matching(
        mail.database, account, boxes, DELETED, query, limit
    )
    first: dict[int, int] = {}
    for key, email in zip(threads if asked.collapse_threads else emails, emails, strict=True):
        first.setdefault(key, email)
    if len(first) < wanted and len(emails) >= limit:
        return None  # there may be more behind these
    page = list(first.values())[asked.window.position : wanted]
    return Found(Modseq(modseq), [EmailId(each) for each in page], asked.window.position, None)


def _query(asked: Query, hits: Mapping[Criterion, Hits], many: int) -> str | None:
    """Return what the words of an email have to match, if that decides and many emails do."""
    window = asked.window
    if asked.order not in _NEWEST_FIRST or window.anchor is not None or window.position < 0:
        return None
    if asked.total:
        return None
    queries = []
    for each in conjuncts(asked.where):
        if isinstance(each, Contains | HeaderField) and each in hits:
            found = hits[each]
            if not found.exact or found.unread or len(found.ids) < many:
                return None
            queries.append(f"({found.query})")
        elif not isinstance(each, InMailbox):
            return None
    return " & ".join(queries) or None
