"""How the result of a search changed since a state (RFC 8620 §5.6), from the change log.

Everything that decides whether an email is in a result, and where, is either immutable or in the
change log. So a result is brought up to date by taking out whatever was touched, and putting back
what of it is in the new result: exact for every filter and every order.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mailserver.errors import CannotCalculateChanges, TooMany
from mailserver.mail import changes, messages, search
from mailserver.mail.criteria import (
    HasKeyword,
    Query,
    SortKey,
    ThreadKeyword,
    Window,
    mentions,
)
from mailserver.mail.search import Found
from mailserver.model import (
    EMAIL_KINDS,
    AccountId,
    ChangeEntry,
    ChangeKind,
    EmailId,
    MailboxId,
    Modseq,
    ThreadId,
)

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

MAX_TOUCHED = 50_000  # emails
EVERYTHING = Window(limit=2**40)
FIRST_PAGES = (256, 4096)  # emails of the result that are read first

_THREAD_SORTS = (SortKey.ALL_IN_THREAD_HAVE_KEYWORD, SortKey.SOME_IN_THREAD_HAVE_KEYWORD)
_KEYWORD_SORTS = (SortKey.HAS_KEYWORD, *_THREAD_SORTS)


@dataclass(frozen=True, slots=True)
class Delta:
    """What makes the result of an old state that of a new one."""

    modseq: Modseq  # the new state
    removed: list[EmailId] = field(default_factory=list)
    added: list[tuple[int, EmailId]] = field(default_factory=list)  # by ascending new index
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Dependence:
    """What besides immutable properties decides a result."""

    mailbox: MailboxId | None  # the only mailbox whose messages count, if there is one
    keywords: bool
    threads: bool  # what happens to an email concerns all emails of its thread
    within: frozenset[MailboxId] | None  # there are no other mailboxes; None is all

    @classmethod
    def of(cls, asked: Query) -> "Dependence":
        """Look at the filter and the order of a query."""
        keys = {each.key for each in asked.order}
        by_thread = mentions(asked.where, ThreadKeyword) or not keys.isdisjoint(_THREAD_SORTS)
        return cls(
            search.only_mailbox(asked),
            by_thread or mentions(asked.where, HasKeyword) or not keys.isdisjoint(_KEYWORD_SORTS),
            by_thread or asked.collapse_threads,
            asked.within,
        )

    def concerns(self, entry: ChangeEntry) -> bool:
        """Tell whether what an entry reports can change the result."""
        if entry.kind not in EMAIL_KINDS:
            return False
        if self.mailbox is not None and entry.mailbox_id != self.mailbox:
            return False
        if self.within is not None and entry.mailbox_id not in self.within:
            return False
        return entry.kind is not ChangeKind.EMAIL_UPDATED or self.keywords or bool(entry.names)


@dataclass(slots=True)
class Touched:
    """The emails that may have come, gone or moved."""

    emails: set[int] = field(default_factory=set)
    new: set[int] = field(default_factory=set)  # those that cannot have been in the old result
    threads: set[int] = field(default_factory=set)


def touched(entries: Iterable[ChangeEntry], dependence: Dependence) -> Touched:
    """Return the emails that entries of the log are about, as far as they can matter."""
    found = Touched()
    for entry in entries:
        if not dependence.concerns(entry):
            continue
        if entry.kind is ChangeKind.EMAIL_CREATED:
            found.new.update(entry.email_ids)
        elif dependence.mailbox is not None and changes.shown_before(entry) is False:
            found.new.update(each for each in entry.email_ids if each not in found.emails)
        found.emails.update(entry.email_ids)
        found.threads.update(entry.thread_ids)
        if len(found.emails) > MAX_TOUCHED:
            raise CannotCalculateChanges("too many emails changed")
    return found


async def query_changes(
    mail: "Mail", account: AccountId, asked: Query, since: int, *, up_to: EmailId | None = None
) -> Delta:
    """Return what changed in the result of a query since a state; its window does not matter.

    Nothing is told of what is new behind `up_to`, where no keyword decides the order. Raises
    CannotCalculateChanges.
    """
    dependence = Dependence.of(asked)
    log = await changes.log(mail, account, since)
    found = touched(log.entries, dependence)
    if not found.emails and not asked.total:
        return Delta(log.modseq)
    if dependence.threads:
        await _add_threads(mail, account, found, asked.within)
    result = await _result(mail, account, asked, found)
    if result.modseq != log.modseq:  # something happened after the log was read
        result = await _whole_result(mail, account, asked)
        log = await changes.log(mail, account, since)
        entries = [each for each in log.entries if each.modseq <= result.modseq]
        found = touched(entries, dependence)
        if dependence.threads:
            await _add_threads(mail, account, found, asked.within)
    added = _places(result.ids, found.emails)
    if up_to is not None and not dependence.keywords and up_to not in found.emails:
        added = _up_to(added, result.ids, up_to)
    removed = sorted(found.emails - found.new)
    return Delta(result.modseq, [EmailId(each) for each in removed], added, result.total)


async def _result(mail: "Mail", account: AccountId, asked: Query, found: Touched) -> Found:
    """Return the result as far as it must be known to see where touched emails are in it.

    Mostly they are new, and on the first page.
    """
    narrow = search.narrowed(replace(asked, window=EVERYTHING))
    if narrow is None:
        return await _whole_result(mail, account, asked)
    modseq, there = await search.matching_of(mail, account, narrow, list(found.emails))
    for size in FIRST_PAGES:
        page = await search.query(mail, account, replace(asked, window=Window(limit=size)))
        if page.modseq != modseq:
            break
        if len(page.ids) < size:
            return page
        missing = there.keys() - set(page.ids)
        if asked.collapse_threads:  # one of each thread is there, if any is
            shown = {there[each] for each in page.ids if each in there}
            missing = {each for each in missing if there[each] not in shown}
        if not missing:
            return page
    return await _whole_result(mail, account, asked)


async def _whole_result(mail: "Mail", account: AccountId, asked: Query) -> Found:
    try:
        return await search.query(mail, account, replace(asked, window=EVERYTHING))
    except TooMany:
        raise CannotCalculateChanges("the query reads too many messages") from None


async def _add_threads(
    mail: "Mail", account: AccountId, found: Touched, within: frozenset[MailboxId] | None
) -> None:
    """Add the other emails of touched threads: which of them stands for the thread may differ."""
    threads = [ThreadId(each) for each in found.threads]
    members = await messages.thread_emails(mail, account, threads)
    emails = {each for some in members.values() for each in some} - found.emails
    if within is not None and emails:
        places = await messages.memberships(mail, account, list(emails))
        emails = {
            email for email, rows in places.items() if any(row.mailbox_id in within for row in rows)
        }
    found.emails |= emails
    if len(found.emails) > MAX_TOUCHED:
        raise CannotCalculateChanges("too many emails changed")


def _places(ids: Sequence[EmailId], wanted: Collection[int]) -> list[tuple[int, EmailId]]:
    return [(index, each) for index, each in enumerate(ids) if each in wanted]


def _up_to(
    added: list[tuple[int, EmailId]], ids: Sequence[EmailId], up_to: EmailId
) -> list[tuple[int, EmailId]]:
    """Leave out what is behind the last email that the client has; it never asked for that."""
    if up_to not in ids:
        return added
    last = ids.index(up_to)
    return [(index, each) for index, each in added if index < last]
