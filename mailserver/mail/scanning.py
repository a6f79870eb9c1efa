"""Finding messages by looking at every candidate.

What the index of words says, and what flags, sizes and dates decide, is known of all of them at
once; what a stored envelope decides reads envelopes, in batches; a phrase is looked up in texts.
Nothing is read behind the wanted stretch of the result.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mailserver.errors import TooMany
from mailserver.mail import (
    common_words,
    matching,
    messages,
    search_bodies,
    text_index,
    tokens,
)
from mailserver.mail.criteria import (
    All,
    AnyOf,
    Contains,
    Criterion,
    HeaderField,
    InMailbox,
    Query,
    SortKey,
    ThreadKeyword,
    conjuncts,
    leaves,
    mentions,
)
from mailserver.mail.matching import Candidate, Known, Metadata, SortValues, Test, Threads
from mailserver.mail.text_index import Hits
from mailserver.mail.windows import Found, start_of
from mailserver.model import AccountId, Email, EmailId, MailboxId, Modseq
from mailserver.storage import search
from mailserver.storage.search import Candidates

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


async def by_scan(mail: "Mail", account: AccountId, asked: Query) -> Found:
    """Return messages that match, in order; raises what `search.query` raises."""
    mailbox = only_mailbox(asked)
    texts = _texts(asked.where)
    for _ in range(ATTEMPTS):
        # what the index says belongs to a state of before it was asked
        known = await messages.state(mail, account) if texts else None
        said = await text_index.find(mail, account, texts) if texts else []
        hits: dict[Criterion, Hits] = dict(zip(texts, said, strict=True))
        newest = await common_words.newest(mail, account, asked, mailbox, hits) if hits else None
        if newest is not None:
            return newest if known is None else replace(newest, modseq=min(known, newest.modseq))
        rows = await _rows(mail, account, asked, mailbox, _bound(asked.where, hits))
        scan = _Scan(mail, account, asked, hits)
        await asyncio.to_thread(scan.load, rows, mailbox)
        matches = await scan.matches()
        if not scan.vanished and known in (None, rows.modseq):
            break
    if asked.collapse_threads:
        matches = _collapsed(matches)
    every = [EmailId(each.id) for each in matches]
    start = start_of(every, asked.window)
    ids = every[start : start + asked.window.limit]
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
    mailboxes = {each.mailbox for each in conjuncts(asked.where) if isinstance(each, InMailbox)}
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
