"""RETURN (UPDATE) and CANCELUPDATE: results that are told again as they change (RFC 5267 §4.3)."""

import logging
from array import array
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mailserver.errors import MailError
from mailserver.imap.protocol.context import CancelUpdate, Run, additions, removals, update
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.responses import status_line, string
from mailserver.imap.selected import Follower
from mailserver.imap.session import Session

log = logging.getLogger(__name__)

MAX_CONTEXTS = 10  # of one connection; each is examined at every change

# finds which of some positions match now
Examine = Callable[[list[int]], Awaitable[Sequence[int]]]
# puts positions into the order of the results
Arrange = Callable[[list[int]], Awaitable[Sequence[int]]]
# sends what was asked for of new messages, given as UIDs
Describe = Callable[[list[int]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Question:
    """What was searched for."""

    tag: bytes
    by_uid: bool
    examine: Examine
    arrange: Arrange | None = None  # None: results are in the order of the mailbox
    describe: Describe | None = None  # None: nothing was asked for (RFC 5465 §7)
    whole: bool = False  # a new last message changes whether others match
    place: bytes = b""  # tells the mailbox, when several were searched


class Context(Follower):
    """The results of one search, as the client knows them."""

    __slots__ = ("_last", "_modseq", "_question", "_session", "_uids")

    def __init__(
        self, session: Session, question: Question, uids: Iterable[int], modseq: int, last: int
    ) -> None:
        """Begin with the results as of a modseq, among messages up to the UID `last`."""
        self._session = session
        self._question = question
        self._uids = array("q", uids)
        self._modseq = modseq
        self._last = last

    @property
    def by_uid(self) -> bool:
        """Whether it names messages by UID."""
        return self._question.by_uid

    def leaving(self, numbers: Mapping[int, int]) -> None:
        """Take out what an EXPUNGE is about to be sent of, while its numbers are valid."""
        gone = {uid for uid in self._uids if uid in numbers}
        if gone:
            self._remove(gone, numbers.__getitem__)

    async def changed(self) -> None:
        """Compare what changed with the results; without the store, updates end."""
        question, session = self._question, self._session
        try:
            await self._compare()
        except MailError as error:
            log.warning("no more updates", extra={"session": session.id, "reason": str(error)})
            del session.open.contexts[question.tag]
            refuse_updates(session, question.tag, b"Results cannot be updated")

    async def _compare(self) -> None:
        selected = self._session.open
        listing, view = selected.listing, selected.view
        last = view.uids[view.count - 1] if view.count else 0
        if listing.modseq == self._modseq and last == self._last:
            return
        if self._question.arrange is not None and view.uids is not listing.uids:
            return  # what has left has a place in the client's order, and none in ours any more
        known_last = self._last
        positions = self._positions(listing.changed_since(self._modseq), whole=last != known_last)
        self._modseq, self._last = listing.modseq, last
        found = await self._question.examine(positions) if positions else []
        matching = {view.uids[position] for position in found}
        known = {view.uids[position] for position in positions}.intersection(self._uids)
        if known - matching:
            self._remove(known - matching, self._number)
        if matching - known:
            arrived = sorted(uid for uid in matching - known if uid > known_last)
            if arrived and self._question.describe is not None:
                await self._question.describe(arrived)
            await self._add(matching - known)

    def _positions(self, changed: Iterable[int], *, whole: bool) -> list[int]:
        """Return where messages are that may match now and did not, or the other way round."""
        view = self._session.open.view
        if whole and self._question.whole:
            return list(range(view.count))
        positions = set(range(bisect_right(view.uids, self._last, 0, view.count), view.count))
        for uid in changed:
            position = view.position(uid)
            if position is not None:
                positions.add(position)
        return sorted(positions)

    def _number(self, uid: int) -> int:
        position = self._session.open.view.position(uid)
        assert position is not None
        return position + 1

    def _remove(self, gone: Collection[int], number: Callable[[int], int]) -> None:
        in_order = self._question.arrange is None
        runs = [Run(0, sorted(gone))] if in_order else removals(self._uids, gone)
        self._tell(b"REMOVEFROM", runs, number)
        self._uids = array("q", (uid for uid in self._uids if uid not in gone))

    async def _add(self, new: Collection[int]) -> None:
        view = self._session.open.view
        everything = sorted([*self._uids, *new])
        if self._question.arrange is None:
            runs = [Run(0, sorted(new))]
        else:
            places = [place for uid in everything if (place := view.position(uid)) is not None]
            everything = [view.uids[place] for place in await self._question.arrange(places)]
            runs = additions(everything, new)
        self._uids = array("q", everything)
        self._tell(b"ADDTO", runs, self._number)

    def _tell(self, item: bytes, runs: Iterable[Run], number: Callable[[int], int]) -> None:
        question = self._question
        by_uid = question.by_uid
        shown = [
            (run.position, run.uids if by_uid else [number(uid) for uid in run.uids])
            for run in runs
        ]
        self._session.untagged(
            update(question.tag, question.place, item, shown, by_uid=question.by_uid)
        )


def demand_new_tag(session: Session) -> None:
    """Refuse a search that wants updates under the tag of one that gets them."""
    if session.tag in session.open.contexts:
        raise ProtocolError("Tag reuse")


def keep_updated(
    session: Session, question: Question, uids: Iterable[int], modseq: int, last: int
) -> None:
    """Update results from now on, or tell that there are too many that are."""
    contexts = session.open.contexts
    if len(contexts) >= MAX_CONTEXTS:
        refuse_updates(session, question.tag, b"Too many contexts")
    else:
        contexts[question.tag] = Context(session, question, uids, modseq, last)


def refuse_updates(session: Session, tag: bytes, text: bytes) -> None:
    """Tell that the results of a search are not updated, or not any more (§4.3.1)."""
    session.send(status_line(b"*", b"NO", text, b"NOUPDATE " + string(tag)))


def end_numbered(session: Session) -> None:
    """End the updates that name messages by sequence number (RFC 9586 §3)."""
    contexts = session.selected.contexts if session.selected is not None else {}
    for tag, context in list(contexts.items()):
        if not context.by_uid:
            del contexts[tag]
            refuse_updates(session, tag, b"Messages have to be named by UID")


async def cancel_update(session: Session, command: CancelUpdate) -> None:
    """End the updates of searches; of one that gets none nothing needs to be ended (§4.3.5)."""
    for tag in command.tags:
        session.open.contexts.pop(tag, None)
