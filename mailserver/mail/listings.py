"""A mailbox in memory: packed arrays, shared by all sessions of the process.

56 bytes a message, no objects. A listing is loaded once, and brought up to date from the change log
of its account, or by what is told of a change (`deltas.py`) where all before it is known.
"""

import asyncio
import weakref
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

from mailserver.mail.deltas import Arrived, Delta, Flagged, Left, Touched
from mailserver.mail.flags import Restamp, Stored
from mailserver.model import EMAIL_KINDS, GONE_KINDS, SEEN, AccountId, Flags, MailboxId, Modseq
from mailserver.storage import accounts, changes, messages
from mailserver.storage.changes import News
from mailserver.storage.flags import Group
from mailserver.storage.listings import catch_up
from mailserver.storage.messages import Packed, Spans

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

KEPT = 256  # listings kept although no session has them open
EARLY = 8  # changes that a listing keeps while it is in use, or one before them is missing
LOG_LENGTH = 4096  # changes a listing remembers; a session further behind looks at all messages


class Listing:
    """The messages of a mailbox by ascending UID, as of `modseq`.

    New messages are appended to the arrays in place. When messages leave, the arrays are replaced
    by new ones and `generation` grows: a session that may not announce an EXPUNGE yet goes on with
    the `uids` it holds. Flags change in place.
    """

    __slots__ = (
        "__weakref__",
        "_early",
        "_log",
        "_log_start",
        "_overview",
        "_overview_at",
        "account",
        "email_ids",
        "flags",
        "generation",
        "keywords",
        "lock",
        "mailbox_id",
        "modseq",
        "modseqs",
        "originals",
        "received",
        "renewed",
        "sizes",
        "thread_ids",
        "uids",
    )

    def __init__(self, account: AccountId, mailbox_id: MailboxId) -> None:
        self.account = account
        self.mailbox_id = mailbox_id
        self.modseq = -1  # not loaded
        self.generation = 0
        self.renewed = -1  # the modseq at which the mailbox itself, or its rights, last changed
        self.lock = asyncio.Lock()
        self._early: dict[int, tuple[int, Delta]] = {}  # by modseq: since when all else is the same
        self._log: list[tuple[int, bool, int]] = []  # (modseq, left, uid), oldest first
        self._log_start = 0  # the log has every change after this modseq
        self._overview: tuple[int | None, frozenset[str]] = (None, frozenset())
        self._overview_at = -1  # the modseq as of which it is
        self._set(Packed.empty())

    def _set(self, packed: Packed) -> None:
        self.uids, self.email_ids, self.thread_ids = (
            packed.uids,
            packed.email_ids,
            packed.thread_ids,
        )
        self.received, self.sizes = packed.received, packed.sizes
        self.modseqs, self.flags = packed.modseqs, packed.flags
        self.keywords = packed.keywords
        self.originals = packed.originals

    def __len__(self) -> int:
        return len(self.uids)

    def index(self, uid: int) -> int | None:
        """Return where a UID is in the arrays."""
        index = bisect_left(self.uids, uid)
        return index if index < len(self.uids) and self.uids[index] == uid else None

    def groups(self, uids: Sequence[int]) -> list[Group] | None:
        """Return messages, given by ascending UIDs, by their flags; None when one is not there."""
        places = self.places(uids)
        if places is None:
            return None
        alike: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        known, keywords, flags = self.uids, self.keywords, self.flags
        for place in places:
            words = keywords.get(known[place], ()) if keywords else ()
            alike.setdefault((flags[place], words), []).append(place)
        return [
            Group(
                self.mailbox_id,
                Flags(bits, words),
                *(
                    picked(column, some)
                    for column in (self.uids, self.email_ids, self.thread_ids, self.modseqs)
                ),
            )
            for (bits, words), some in alike.items()
        ]

    def spans(self, places: Sequence[int]) -> Spans:
        """Return ascending places as UIDs between which the mailbox has no other messages."""
        if isinstance(places, range):
            return Spans([self.uids[places[0]]], [self.uids[places[-1]]])
        ends = [at for at, place in enumerate(places[1:]) if places[at] + 1 != place]
        first = [self.uids[places[at]] for at in (0, *(end + 1 for end in ends))]
        last = [self.uids[places[at]] for at in (*ends, -1)]
        return Spans(first, last)

    def places(self, uids: Sequence[int]) -> Sequence[int] | None:
        """Return where ascending UIDs are in the arrays; None when one is not there."""
        first = self.index(uids[0]) if uids else None
        if first is None:
            return None
        together = slice(first, first + len(uids))
        if self.uids[together] == (uids if isinstance(uids, array) else array("q", uids)):
            return range(together.start, together.stop)
        places = [at for uid in uids if (at := self.index(uid)) is not None]
        return places if len(places) == len(uids) else None

    def flags_of(self, index: int) -> Flags:
        """Return the flags of a message."""
        return Flags(self.flags[index], self.keywords.get(self.uids[index], ()))

    def overview(self) -> tuple[int | None, frozenset[str]]:
        """Return the number of the first message without \\Seen, and all keywords.

        Both are looked for once for all who open the mailbox until it changes.
        """
        if self._overview_at != self.modseq:
            unseen = next((at for at, bits in enumerate(self.flags, 1) if not bits & SEEN), None)
            words = frozenset(word for names in self.keywords.values() for word in names)
            self._overview, self._overview_at = (unseen, words), self.modseq
        return self._overview

    def content_ids(self, uids: Sequence[int], email_ids: Sequence[int]) -> Sequence[int]:
        """Return the ids that emails share with their copies (RFC 8474 §5.1)."""
        if not self.originals:
            return email_ids
        pairs = zip(uids, email_ids, strict=True)
        return [self.originals.get(uid, email_id) for uid, email_id in pairs]

    def changed_since(self, modseq: int, besides: Container[int] = ()) -> list[int]:
        """Return the UIDs of messages that came or changed after a modseq, ascending.

        Changes that have one of the modseqs `besides` are not looked at.
        """
        if modseq < self._log_start:
            return [
                uid
                for uid, changed in zip(self.uids, self.modseqs, strict=True)
                if changed > modseq and changed not in besides
            ]
        recent = {uid for at, left, uid in self._since(modseq) if not left and at not in besides}
        return [uid for uid in sorted(recent) if self.index(uid) is not None]

    def removed_since(self, modseq: int) -> list[int] | None:
        """Return the UIDs that left after a modseq; None when that is too long ago to know."""
        if modseq < self._log_start:
            return None
        return sorted({uid for _, left, uid in self._since(modseq) if left})

    def _since(self, modseq: int) -> list[tuple[int, bool, int]]:
        return self._log[bisect_right(self._log, modseq, key=lambda entry: entry[0]) :]

    def load(self, packed: Packed, modseq: int) -> None:
        """Take over a whole mailbox."""
        self._set(packed)
        self.modseq = self._log_start = self.renewed = modseq
        self._log.clear()
        self.generation += 1

    def merge(self, packed: Packed, gone: list[tuple[int, int]], modseq: int) -> None:
        """Take over changed and new messages and drop those that left, given as (modseq, uid)."""
        fresh = []
        for position, uid in enumerate(packed.uids):
            index = self.index(uid)
            if index is None:
                self._insert(packed, position)
            else:
                self.flags[index] = packed.flags[position]
                self.modseqs[index] = packed.modseqs[position]
            if uid in packed.keywords:
                self.keywords[uid] = packed.keywords[uid]
            else:
                self.keywords.pop(uid, None)
            fresh.append((packed.modseqs[position], False, uid))
        places = self._places_of(sorted({uid for _, uid in gone}))
        if places:
            left = {self.uids[place] for place in places}
            fresh += [(at, True, uid) for at, uid in gone if uid in left]
            self._drop(places, left)
        self._remember(fresh)
        self.modseq = modseq

    def learn(self, delta: Delta, since: int, modseq: int) -> None:
        """Take over what a change did, if nothing else can have happened since the listing.

        `since` is the modseq from which the mailbox is known to be the same until the change.
        """
        if 0 <= self.modseq < modseq:
            if len(self._early) >= EARLY:
                self._early.clear()  # they were waited for too long
            self._early[modseq] = since, delta
            if not self.lock.locked():
                self.learn_early()

    def learn_early(self) -> None:
        """Take over what was told while the listing was in use, or out of order; hold the lock."""
        for modseq in sorted(self._early):
            since, delta = self._early[modseq]
            if self.modseq < modseq and since <= self.modseq:
                self._take(delta, modseq)
            if self.modseq < modseq:
                return  # one before it is missing: it may come, or all are read
            del self._early[modseq]

    def _take(self, delta: Delta, modseq: int) -> None:
        match delta:
            case Arrived(_, messages) if self._are_newer(messages.uids):
                self.merge(messages, [], modseq)
            case Flagged(_, stamps):
                known = [(new, [uid for uid in uids if self._has(uid)]) for new, uids in stamps]
                self._restamp(known, modseq)
            case Left(_, uids):
                self.merge(Packed.empty(), [(modseq, uid) for uid in uids], modseq)

    def _has(self, uid: int) -> bool:
        return self.index(uid) is not None

    def _are_newer(self, uids: Sequence[int]) -> bool:
        """Whether messages can be put in: not those that left before the mailbox was read."""
        last = self.uids[-1] if self.uids else 0
        return all(uid > last or self._has(uid) for uid in uids)

    def restamp(self, restamps: Iterable[Restamp], modseq: int) -> None:
        """Take over new flags of known messages."""
        self._restamp([(new, group.uids) for group, new in restamps], modseq)

    def _restamp(self, stamps: Iterable[tuple[Flags, Sequence[int]]], modseq: int) -> None:
        fresh: list[int] = []
        for new, uids in stamps:
            self._stamp(uids, new.bits, modseq)
            fresh += uids
            if new.keywords:
                self.keywords.update(dict.fromkeys(uids, new.keywords))
            elif self.keywords:
                for uid in self.keywords.keys() & set(uids):
                    del self.keywords[uid]
        if len(fresh) > LOG_LENGTH:
            self._log.clear()
            self._log_start = modseq
        else:
            self._remember([(modseq, False, uid) for uid in fresh])
        self.modseq = modseq

    def _stamp(self, uids: Sequence[int], bits: int, modseq: int) -> None:
        places = self.places(uids)
        if isinstance(places, range):
            self.flags[places.start : places.stop] = array("q", [bits]) * len(places)
            self.modseqs[places.start : places.stop] = array("q", [modseq]) * len(places)
            return
        for place in places or [at for uid in uids if (at := self.index(uid)) is not None]:
            self.flags[place] = bits
            self.modseqs[place] = modseq

    def _remember(self, entries: list[tuple[int, bool, int]]) -> None:
        self._log.extend(sorted(entries))
        if len(self._log) > LOG_LENGTH:
            self._log_start = self._log[-LOG_LENGTH // 2 - 1][0]
            self._log = self._since(self._log_start)

    def _insert(self, packed: Packed, position: int) -> None:
        """Append a message; UIDs only grow, and so the arrays stay sorted."""
        if self.uids and packed.uids[position] < self.uids[-1]:
            raise ValueError("a UID appeared below one that was known")
        self.uids.append(packed.uids[position])
        self.email_ids.append(packed.email_ids[position])
        self.thread_ids.append(packed.thread_ids[position])
        self.received.append(packed.received[position])
        self.sizes.append(packed.sizes[position])
        self.modseqs.append(packed.modseqs[position])
        self.flags.append(packed.flags[position])
        uid = packed.uids[position]
        if uid in packed.originals:
            self.originals[uid] = packed.originals[uid]

    def _places_of(self, uids: Iterable[int]) -> list[int]:
        """Return where those of ascending UIDs are that are there; neighbours need no search."""
        known = self.uids
        found: list[int] = []
        place = 0
        for uid in uids:
            if place == len(known) or known[place] != uid:
                place = bisect_left(known, uid, place)
                if place == len(known):
                    break
                if known[place] != uid:
                    continue
            found.append(place)
            place += 1
        return found

    def _drop(self, places: Sequence[int], gone: Container[int]) -> None:
        """Replace the arrays by ones without the messages at some places, which have these UIDs."""
        starts, stops = (0, *(place + 1 for place in places)), (*places, len(self.uids))
        both = zip(starts, stops, strict=True)
        spans = [slice(start, stop) for start, stop in both if start < stop]

        def kept(column: "array[int]") -> "array[int]":
            left = array("q")
            for span in spans:  # mostly few: copied as memory, not one by one
                left += column[span]
            return left

        self._set(
            Packed(
                kept(self.uids),
                kept(self.email_ids),
                kept(self.thread_ids),
                kept(self.received),
                kept(self.sizes),
                kept(self.modseqs),
                kept(self.flags),
                {uid: words for uid, words in self.keywords.items() if uid not in gone},
                {uid: email for uid, email in self.originals.items() if uid not in gone},
            )
        )
        self.generation += 1


def picked(column: "array[int]", places: Sequence[int]) -> "array[int]":
    """Return what is at ascending places of a column."""
    if places[-1] - places[0] == len(places) - 1:
        return column[places[0] : places[-1] + 1]
    return array("q", [column[place] for place in places])


class Listings:
    """The listings of a process: those in use, and the latest ones that were."""

    def __init__(self, mail: "Mail") -> None:
        self._mail = mail
        self._used: weakref.WeakValueDictionary[tuple[AccountId, MailboxId], Listing] = (
            weakref.WeakValueDictionary()
        )
        self._kept: OrderedDict[tuple[AccountId, MailboxId], Listing] = OrderedDict()

    def get(self, account: AccountId, mailbox: MailboxId) -> Listing:
        """Return the one listing of a mailbox in this process, loaded or not."""
        key = (account, mailbox)
        listing = self._used.get(key)
        if listing is None:
            listing = self._used[key] = Listing(account, mailbox)
        self._kept[key] = listing
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return listing

    def learn(self, account: AccountId, modseq: Modseq, deltas: Iterable[Delta]) -> None:
        """Put in what one change did, where all before it is known."""
        for delta in deltas:
            listing = self._used.get((account, delta.mailbox))
            if listing is not None and not isinstance(delta, Touched):
                before = Modseq(modseq - 1)
                since = self._mail.looks.same_since(account, delta.mailbox, before)
                listing.learn(delta, since, modseq)


async def open_listing(
    mail: "Mail", account: AccountId, mailbox: MailboxId, known: int = 0, now: int | None = None
) -> Listing:
    """Return the listing of a mailbox, up to date; `known` is a modseq that it is known to have.

    `now` is the modseq that the account had just now, if that is known: a listing as of then needs
    no query.
    """
    listing = mail.listings.get(account, mailbox)
    if now is None or listing.modseq < now:
        await refresh(mail, listing, known, heard=now)
    return listing


async def look(mail: "Mail", listing: Listing) -> None:
    """Bring a listing up to date; many that have not changed cost one small query together."""
    now = await mail.looks.modseq(listing.account)
    if now is None or listing.modseq < now:
        await refresh(mail, listing, heard=now)


async def refresh(
    mail: "Mail", listing: Listing, known: int = 0, *, heard: int | None = None
) -> None:
    """Bring a listing up to date with its account; one small query when nothing changed.

    When the mailbox is `known` to have a later modseq than the listing, the changes and the
    messages that they name come by one larger query. Who only `heard` of a modseq of the account
    needs no query when somebody else has brought the listing there meanwhile.
    """
    async with listing.lock:
        listing.learn_early()
        if heard is not None and _is_there(mail, listing, Modseq(heard)):
            return
        if 0 <= listing.modseq < known and await _catch_up(mail, listing):
            return
        # before the rows: they may be newer than it, and are then looked at again next time
        if listing.modseq < 0:
            now = await accounts.modseq(mail.database, listing.account) or 0
        else:
            news = await changes.news(
                mail.database, listing.account, listing.mailbox_id, listing.modseq
            )
            now = news.modseq if news is not None else 0
            if now == listing.modseq:
                return
            if news is not None and news.low_water_mark <= listing.modseq < now:
                await _advance(mail, listing, news)
                return
        packed = await messages.pack(mail.database, listing.account, listing.mailbox_id)
        listing.load(packed, now)


def _is_there(mail: "Mail", listing: Listing, modseq: Modseq) -> bool:
    """Whether a listing is as of a modseq; also when all that happened since was elsewhere."""
    since = mail.looks.same_since(listing.account, listing.mailbox_id, modseq)
    if since <= listing.modseq < modseq:
        listing.modseq = modseq
    return listing.modseq >= modseq


async def _catch_up(mail: "Mail", listing: Listing) -> bool:
    """Read the changes with their messages; False when they go too far back."""
    found = await catch_up(mail.database, listing.account, listing.mailbox_id, listing.modseq)
    if found is None or found.news.low_water_mark > listing.modseq:
        return False
    gone, _ = _sorted_out(listing, found.news)
    listing.merge(found.messages, gone, found.news.modseq)
    return True


async def _advance(mail: "Mail", listing: Listing, news: News) -> None:
    gone, seen = _sorted_out(listing, news)
    if seen:
        packed = await messages.pack_some(
            mail.database, listing.account, listing.mailbox_id, sorted(seen)
        )
    else:
        packed = Packed.empty()
    listing.merge(packed, gone, news.modseq)


def _sorted_out(listing: Listing, news: News) -> tuple[list[tuple[int, int]], set[int]]:
    """Return what left, as (modseq, uid), and what came or changed and is still there."""
    gone: list[tuple[int, int]] = []
    seen: set[int] = set()
    for modseq, kind, uids in news.entries:
        if kind in GONE_KINDS:
            gone.extend((modseq, uid) for uid in uids)
        elif kind in EMAIL_KINDS:
            seen.update(uids)
        else:
            listing.renewed = modseq
    seen.difference_update(uid for _, uid in gone)
    return gone, seen


async def follow(mail: "Mail", listing: Listing, stored: Stored) -> None:
    """Bring a listing up to date after a STORE, whose outcome is known without a query."""
    async with listing.lock:
        listing.learn_early()
        if stored.modseq and listing.modseq == stored.modseq - 1:  # nothing else happened
            listing.restamp(stored.restamps, stored.modseq)
            return
    await refresh(mail, listing, heard=stored.modseq or None)
