"""How many emails and threads mailboxes have (RFC 8621 §2), kept in memory and brought up to date.

Counting an account of 100,000 messages takes PostgreSQL 100 ms, and clients ask after every change.
So where the emails of each thread are is remembered, and only threads that changed are read again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from mailserver.errors import CannotCalculateChanges
from mailserver.mail import changes
from mailserver.model import EMAIL_KINDS, MAILBOX_KINDS, AccountId, MailboxId
from mailserver.storage.thread_counts import ThreadCount, ThreadPlaces, thread_places

__all__ = ["ThreadCount", "ThreadCounts"]

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

ROOM = 400_000  # threads in memory, about 250 octets each
MAX_CHANGED = 2000  # threads; of more the account is counted again
ATTEMPTS = 5  # to read threads while they change

Counts = Mapping[MailboxId, ThreadCount]
# mailbox, emails, unread ones; and the same of the next mailbox
Places = tuple[int, ...]


class _Account:
    """The counts of an account, or of some of its mailboxes, at one state."""

    def __init__(self, within: frozenset[MailboxId] | None) -> None:
        self.within = within
        self.modseq = -1
        self.lock = asyncio.Lock()
        self.threads: dict[int, Places] = {}
        self._trash: int | None = None
        self._sums: dict[int, list[int]] = {}

    def load(self, found: ThreadPlaces) -> None:
        """Take everything that there is."""
        self.modseq, self._trash = found.modseq, found.trash
        self.threads, self._sums = {}, {}
        self._add(_by_thread(found))

    def replace(self, ids: Iterable[int], found: ThreadPlaces) -> None:
        """Take what there is of some threads instead of what there was."""
        self.modseq = found.modseq
        for thread in ids:
            self._count(self.threads.pop(thread, ()), -1)
        self._add(_by_thread(found))

    def counts(self) -> Counts:
        """Return the counts of mailboxes that have any email."""
        return {MailboxId(each): ThreadCount(*sums) for each, sums in self._sums.items() if sums[0]}

    def _add(self, found: Mapping[int, Places]) -> None:
        self.threads.update(found)
        for places in found.values():
            self._count(places, 1)

    def _count(self, places: Places, sign: int) -> None:
        """Add a thread to the counts, or take it away.

        It is unread in a mailbox when any of its emails is, wherever that one is; but what is in
        the trash counts for the trash only, and what is not does not count there.
        """
        unread = [False, False]  # outside of the trash, in it
        for mailbox, _, unread_emails in _triples(places):
            unread[mailbox == self._trash] |= bool(unread_emails)
        for mailbox, emails, unread_emails in _triples(places):
            sums = self._sums.setdefault(mailbox, [0, 0, 0, 0])
            sums[0] += sign * emails
            sums[1] += sign * unread_emails
            sums[2] += sign
            sums[3] += sign * unread[mailbox == self._trash]


def _triples(places: Places) -> Iterator[tuple[int, int, int]]:
    return zip(places[::3], places[1::3], places[2::3], strict=True)


def _by_thread(found: ThreadPlaces) -> dict[int, Places]:
    known: dict[int, int] = {}  # one object for each mailbox
    threads: dict[int, Places] = {}
    for thread, mailbox, emails, unread in zip(*found.columns, strict=True):
        one = known.setdefault(mailbox, mailbox)
        threads[thread] = (*threads.get(thread, ()), one, emails, unread)
    return threads


class ThreadCounts:
    """The counts of the accounts that were asked for last."""

    def __init__(self, room: int = ROOM) -> None:
        self._left = room
        self._known: OrderedDict[tuple[AccountId, frozenset[MailboxId] | None], _Account]
        self._known = OrderedDict()

    async def of(
        self,
        mail: "Mail",
        account: AccountId,
        modseq: int,
        *,
        within: frozenset[MailboxId] | None = None,
    ) -> tuple[int, Counts]:
        """Return the counts at a state that was read before, or at a later one, and at which.

        With `within` there are no other mailboxes than those.
        """
        key = account, within
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Account(within)
            self._left -= 1
        self._known.move_to_end(key)
        async with known.lock:
            if known.modseq < modseq:
                before = len(known.threads)
                await _bring_up_to_date(mail, account, known)
                if self._known.get(key) is known:  # it did not make room for others meanwhile
                    self._left -= len(known.threads) - before
                    self._make_room()
            return known.modseq, known.counts()

    def _make_room(self) -> None:
        while self._left < 0 and self._known:
            _, oldest = self._known.popitem(last=False)
            self._left += len(oldest.threads) + 1


async def _bring_up_to_date(mail: "Mail", account: AccountId, known: _Account) -> None:
    for _ in range(ATTEMPTS if known.modseq >= 0 else 0):
        changed = await _changed(mail, account, known.modseq)
        if changed is None:
            break
        modseq, threads = changed
        found = await thread_places(
            mail.database, account, within=known.within, threads=list(threads)
        )
        if found.modseq == modseq:
            known.replace(threads, found)
            return
    found = await thread_places(mail.database, account, within=known.within, threads=None)
    await asyncio.to_thread(known.load, found)


async def _changed(
    mail: "Mail", account: AccountId, modseq: int
) -> tuple[int, frozenset[int]] | None:
    """Return the threads that changed since a state, and up to which; None when it is too much."""
    try:
        log = await changes.log(mail, account, modseq)
    except CannotCalculateChanges:
        return None
    if any(entry.kind in MAILBOX_KINDS for entry in log.entries):
        return None  # perhaps another mailbox is the trash
    threads: set[int] = set()
    for entry in log.entries:
        if entry.kind in EMAIL_KINDS:
            threads.update(entry.thread_ids)
            if len(threads) > MAX_CHANGED:
                return None
    return log.modseq, frozenset(threads)
