"""/changes of every type, from the account's change log (RFC 8620 §5.2).

A state is a modseq. Where one modseq changed more emails than the client takes at once, a state
in between is `modseq-number`: everything up to that modseq, and the first so many ids after it.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field

from mailserver.errors import CannotCalculateChanges
from mailserver.jmap.methods.mailbox import visible_mailboxes
from mailserver.jmap.protocol.ids import email_text, mailbox_text, thread_text
from mailserver.jmap.protocol.properties import nullable, optional, positive, required, text
from mailserver.jmap.session import AccountView, Session
from mailserver.mail import changes, messages, search
from mailserver.model import (
    DELETED,
    EMAIL_KINDS,
    MAILBOX_KINDS,
    ChangeEntry,
    ChangeKind,
    Membership,
)

ENTRIES = 5000  # rows of the log read for one call
DEFAULT_CHANGES = 1000
_STATE = re.compile(r"(0|[1-9]\d{0,18})(?:-([1-9]\d{0,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The arguments of a /changes method."""

    account_id: str = required("accountId", text)
    since_state: str = required("sinceState", text)
    max_changes: int | None = optional("maxChanges", nullable(positive), None)


@dataclass(slots=True)
class Log:
    """What was read of the change log after a state."""

    since: int
    skip: int  # ids of the first modseq after `since` that the client knows already
    entries: list[ChangeEntry]
    newest: int  # modseq of the last entry, or of the account when all were read
    complete: bool
    limit: int


@dataclass(slots=True)
class Stretch:
    """The ids in the part of the log that one response covers."""

    new_state: str
    more: bool
    touched: set[int] = field(default_factory=set)


async def read_log(session: Session, asked: Changes) -> Log:
    """Read what happened; raise CannotCalculateChanges for a state that was never given out."""
    found = _STATE.fullmatch(asked.since_state.removesuffix(session.view.mark))
    if found is None:
        raise CannotCalculateChanges("not a state, or one of other rights")
    since, skip = int(found[1]), int(found[2] or 0)
    if since >= 1 << 63:
        raise CannotCalculateChanges("not a state")
    current: int = await messages.state(session.mail, session.account)
    if since > current:
        raise CannotCalculateChanges("a state of the future")
    entries: list[ChangeEntry] = []
    if since < current:
        entries = await changes.since(session.mail, session.account, since, limit=ENTRIES)
    complete = len(entries) < ENTRIES
    if not complete:  # the last modseq may have more rows
        last = entries[-1].modseq
        entries = [each for each in entries if each.modseq != last]
        if not entries:  # a state that moves nowhere would be asked for again and again
            raise CannotCalculateChanges("one change is too large")
        current = entries[-1].modseq
    elif entries:
        current = max(current, entries[-1].modseq)
    entries = [each for each in entries if _seen(session.view, each)]
    limit = min(asked.max_changes or DEFAULT_CHANGES, session.limits.max_changes)
    return Log(since, skip, entries, current, complete, limit)


def _seen(view: AccountView, entry: ChangeEntry) -> bool:
    """Tell whether an entry is about something that the user may see."""
    if view.share is None:
        return True
    if entry.kind in EMAIL_KINDS:
        return entry.mailbox_id in view.share.readable
    return entry.mailbox_id in view.share.rights


def stretch(
    log: Log, ids_of: Callable[[ChangeEntry], Iterable[int]], *, divisible: bool
) -> Stretch:
    """Take as many whole modseqs as fit, and a part of one where that is the first."""
    result = Stretch(new_state=str(log.newest), more=not log.complete)
    reached, skip = log.since, log.skip
    for modseq, group in _groups(log.entries, ids_of):
        if skip >= len(group) or (skip and not divisible):
            raise _unknown_state()
        ids = sorted(group)[skip:]
        room = log.limit - len(result.touched)
        fresh = [each for each in ids if each not in result.touched]
        if len(fresh) > room:
            result.more = True
            result.new_state = str(reached)
            if result.touched:
                return result
            if not divisible:
                raise CannotCalculateChanges("one change is larger than maxChanges")
            result.new_state = f"{reached}-{skip + room}"
            result.touched.update(ids[:room])
            return result
        result.touched.update(ids)
        reached, skip = modseq, 0
    if skip:
        raise _unknown_state()
    return result


def _unknown_state() -> CannotCalculateChanges:
    return CannotCalculateChanges("a state that was never given out")


def _groups(
    entries: Iterable[ChangeEntry], ids_of: Callable[[ChangeEntry], Iterable[int]]
) -> Iterable[tuple[int, set[int]]]:
    """Return the ids of each modseq that has any."""
    groups: dict[int, set[int]] = {}
    for entry in entries:
        ids = set(ids_of(entry))
        if ids:
            groups.setdefault(entry.modseq, set()).update(ids)
    return groups.items()


def response(
    session: Session,
    asked: Changes,
    part: Stretch,
    before: Collection[int],
    now: Collection[int],
    show: Callable[[int], str],
) -> dict[str, object]:
    """Sort ids by what the client must do about them, given what it was and is to know."""
    touched = sorted(part.touched)
    return {
        "accountId": session.account_id,
        "oldState": asked.since_state,
        "newState": part.new_state + session.view.mark,
        "hasMoreChanges": part.more,
        "created": [show(each) for each in touched if each in now and each not in before],
        "updated": [show(each) for each in touched if each in now and each in before],
        "destroyed": [show(each) for each in touched if each not in now and each in before],
    }


async def of_records(
    session: Session,
    asked: Changes,
    kinds: Collection[ChangeKind],
    existing: Callable[[Collection[int]], Awaitable[Collection[int]]],
    show: Callable[[int], str],
) -> dict[str, object]:
    """Answer for a type whose records the log names by their ids; the first kind made them."""
    log = await read_log(session, asked)
    part = stretch(
        log, lambda entry: entry.email_ids if entry.kind in kinds else (), divisible=True
    )
    first = min(kinds)
    made = {each for entry in log.entries if entry.kind is first for each in entry.email_ids}
    now = await existing(part.touched)
    return response(session, asked, part, part.touched - made, now, show)


@dataclass(frozen=True, slots=True)
class Shown:
    """The emails that JMAP shows: those in a mailbox without \\Deleted."""

    before: set[int]  # at the state that the client knows
    now: set[int]


async def shown(session: Session, log: Log, ids: Collection[int]) -> Shown:
    """Return which of some emails were shown at the old state of a log, and which are now."""
    known: dict[tuple[int, int], bool] = {}  # mailbox and email -> whether it was shown there
    for entry in log.entries:
        was = changes.shown_before(entry) if entry.kind in EMAIL_KINDS else None
        if was is not None:
            for email in entry.email_ids:
                known.setdefault((entry.mailbox_id, email), was)
    before = {email for (_, email), was in known.items() if was}
    now: set[int] = set()
    rows = await messages.memberships(session.mail, session.account, list(ids)) if ids else {}
    for email, places in rows.items():
        for place in places:
            if not _readable(session, place):
                continue
            is_shown = not place.flags.bits & DELETED
            if is_shown:
                now.add(email)
            if known.get((place.mailbox_id, email), is_shown):
                before.add(email)
    return Shown(before, now)


def _readable(session: Session, place: Membership) -> bool:
    return session.view.readable is None or place.mailbox_id in session.view.readable


# Email -------------------------------------------------------------------------------------------


def _emails_of(entry: ChangeEntry) -> Iterable[int]:
    return entry.email_ids if entry.kind in EMAIL_KINDS else ()


async def email_changes(session: Session, asked: Changes) -> dict[str, object]:
    """Return which emails changed since a state (RFC 8621 §4.3)."""
    log = await read_log(session, asked)
    part = stretch(log, _emails_of, divisible=True)
    found = await shown(session, log, part.touched)
    return response(session, asked, part, found.before, found.now, email_text)


# Thread ------------------------------------------------------------------------------------------


async def thread_changes(session: Session, asked: Changes) -> dict[str, object]:
    """Return which threads gained or lost emails since a state (RFC 8621 §3.2).

    Flags are no property of a thread, but an email with \\Deleted is not in it any more.
    """
    log = await read_log(session, asked)
    entries = [entry for entry in log.entries if entry.kind in EMAIL_KINDS]
    named = {email for entry in entries for email in entry.email_ids}
    differ = await shown(session, log, named)
    moved = differ.before ^ differ.now

    def threads_of(entry: ChangeEntry) -> Iterable[int]:
        if entry.kind in EMAIL_KINDS:
            for email, thread in zip(entry.email_ids, entry.thread_ids, strict=True):
                if email in moved:
                    yield thread

    part = stretch(log, threads_of, divisible=False)
    thread_of = {
        email: thread
        for entry in entries
        for email, thread in zip(entry.email_ids, entry.thread_ids, strict=True)
    }
    members = await messages.thread_emails(session.mail, session.account, list(part.touched))
    thread_of |= {email: thread for thread, emails in members.items() for email in emails}
    found = await shown(session, log, thread_of)
    before = {thread_of[email] for email in found.before if email in thread_of}
    now = {thread_of[email] for email in found.now}
    return response(session, asked, part, before, now, thread_text)


# Mailbox -----------------------------------------------------------------------------------------

COUNT_PROPERTIES = ("totalEmails", "unreadEmails", "totalThreads", "unreadThreads")


def _mailboxes_of(entry: ChangeEntry) -> Iterable[int]:
    return (entry.mailbox_id,) if entry.kind in EMAIL_KINDS | MAILBOX_KINDS else ()


async def mailbox_changes(session: Session, asked: Changes) -> dict[str, object]:
    """Return which mailboxes changed since a state, counts included (RFC 8621 §2.2)."""
    log = await read_log(session, asked)
    part = stretch(log, _mailboxes_of, divisible=False)
    if not part.more:
        await _add_thread_neighbours(session, log, part)
    there = {each.id for each in await visible_mailboxes(session)}
    made = {entry.mailbox_id for entry in log.entries if entry.kind is ChangeKind.MAILBOX_CREATED}
    answer = response(session, asked, part, part.touched - made, there, mailbox_text)
    own = {entry.mailbox_id for entry in log.entries if entry.kind in MAILBOX_KINDS}
    only_counts = bool(answer["updated"]) and not own & part.touched
    answer["updatedProperties"] = list(COUNT_PROPERTIES) if only_counts else None
    return answer


async def _add_thread_neighbours(session: Session, log: Log, part: Stretch) -> None:
    """Add mailboxes whose unreadThreads changed because a thread of theirs did elsewhere."""
    threads = {thread for entry in log.entries for thread in entry.thread_ids}
    if not threads:
        return
    found = await search.mailboxes_of_threads(session.mail, session.account, list(threads))
    room = log.limit - len(part.touched)
    if session.view.readable is not None:
        found &= session.view.readable
    fresh = found - part.touched
    if len(fresh) > room:
        raise CannotCalculateChanges("more mailboxes changed than maxChanges")
    part.touched |= fresh
