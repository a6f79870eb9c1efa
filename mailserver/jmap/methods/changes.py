"""/changes of every type, from the account's change log (RFC 8620 §5.2).

A state is a modseq. Where one modseq changed more emails than the client takes at once, a state
in between is `modseq-number`: everything up to that modseq, and the first so many ids after it.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
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
    GONE_KINDS,
    MAILBOX_KINDS,
    ChangeEntry,
    ChangeKind,
    EmailId,
    ThreadId,
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
    created: set[int] = field(default_factory=set)
    touched: set[int] = field(default_factory=set)


# an id and whether it was made
Event = tuple[int, bool]


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
    log: Log, events: Callable[[ChangeEntry], Iterable[Event]], *, divisible: bool
) -> Stretch:
    """Take as many whole modseqs as fit, and a part of one where that is the first."""
    result = Stretch(new_state=str(log.newest), more=not log.complete)
    reached, skip = log.since, log.skip
    for modseq, made in _groups(log.entries, events):
        if skip >= len(made) or (skip and not divisible):
            raise _unknown_state()
        ids = sorted(made)[skip:]
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
            _take(result, ids[:room], made)
            return result
        _take(result, ids, made)
        reached, skip = modseq, 0
    if skip:
        raise _unknown_state()
    return result


def _unknown_state() -> CannotCalculateChanges:
    return CannotCalculateChanges("a state that was never given out")


def _groups(
    entries: Iterable[ChangeEntry], events: Callable[[ChangeEntry], Iterable[Event]]
) -> Iterable[tuple[int, dict[int, bool]]]:
    """Return id -> made, for each modseq that has any."""
    groups: dict[int, dict[int, bool]] = {}
    for entry in entries:
        for each, made in events(entry):
            group = groups.setdefault(entry.modseq, {})
            group[each] = made or group.get(each, False)
    return groups.items()


def _take(result: Stretch, ids: Iterable[int], made: dict[int, bool]) -> None:
    for each in ids:
        result.touched.add(each)
        if made[each]:
            result.created.add(each)


def response(
    session: Session,
    asked: Changes,
    part: Stretch,
    there: Collection[int],
    show: Callable[[int], str],
) -> dict[str, object]:
    """Sort ids by what the client must do about them; `there` are those that exist now."""
    touched = sorted(part.touched)
    return {
        "accountId": session.account_id,
        "oldState": asked.since_state,
        "newState": part.new_state + session.view.mark,
        "hasMoreChanges": part.more,
        "created": [show(each) for each in touched if each in there and each in part.created],
        "updated": [show(each) for each in touched if each in there and each not in part.created],
        "destroyed": [
            show(each) for each in touched if each not in there and each not in part.created
        ],
    }


async def visible(session: Session, ids: Collection[int]) -> dict[int, int]:
    """Return email -> thread for those emails that JMAP shows: in a mailbox without \\Deleted."""
    if not ids:
        return {}
    found = await messages.memberships(session.mail, session.account, list(ids))
    readable = session.view.readable
    return {
        email: rows[0].thread_id
        for email, rows in found.items()
        if any(
            not row.flags.bits & DELETED and (readable is None or row.mailbox_id in readable)
            for row in rows
        )
    }


async def arrived(session: Session, log: Log) -> set[int]:
    """Return the emails of another's account that came from mailboxes that may not be read."""
    readable = session.view.readable
    if readable is None:
        return set()
    added: dict[int, set[int]] = {}
    left: set[int] = set()
    for entry in log.entries:
        if entry.kind is ChangeKind.EMAIL_ADDED:
            for email in entry.email_ids:
                added.setdefault(email, set()).add(entry.mailbox_id)
        elif entry.kind in GONE_KINDS:
            left.update(entry.email_ids)
    fresh = added.keys() - left
    if not fresh:
        return set()
    found = await messages.memberships(session.mail, session.account, list(fresh))
    return {
        email
        for email, rows in found.items()
        if {row.mailbox_id for row in rows} & readable <= added[email]
    }


# Email -------------------------------------------------------------------------------------------


def _email_events(entry: ChangeEntry) -> Iterable[Event]:
    if entry.kind in EMAIL_KINDS:
        made = entry.kind is ChangeKind.EMAIL_CREATED
        return [(email, made) for email in entry.email_ids]
    return ()


async def email_changes(session: Session, asked: Changes) -> dict[str, object]:
    """Return which emails changed since a state (RFC 8621 §4.3)."""
    log = await read_log(session, asked)
    part = stretch(log, _email_events, divisible=True)
    part.created |= await arrived(session, log) & part.touched
    return response(session, asked, part, await visible(session, part.touched), email_text)


# Thread ------------------------------------------------------------------------------------------


async def thread_changes(session: Session, asked: Changes) -> dict[str, object]:
    """Return which threads gained or lost emails since a state (RFC 8621 §3.2).

    Flags are no property of a thread, but an email with \\Deleted is not in it any more.
    """
    log = await read_log(session, asked)
    flagged = {
        email
        for entry in log.entries
        if entry.kind is ChangeKind.EMAIL_UPDATED
        for email in entry.email_ids
    }
    hidden = flagged - (await visible(session, flagged)).keys()

    def events(entry: ChangeEntry) -> Iterable[Event]:
        if entry.kind not in EMAIL_KINDS:
            return
        for email, thread in zip(entry.email_ids, entry.thread_ids, strict=True):
            if entry.kind is not ChangeKind.EMAIL_UPDATED or email in hidden:
                yield thread, False

    part = stretch(log, events, divisible=False)
    members = await messages.thread_emails(session.mail, session.account, list(part.touched))
    shown = await visible(session, {email for ids in members.values() for email in ids})
    part.created = _new_threads(log, members, shown, await arrived(session, log))
    return response(session, asked, part, set(shown.values()), thread_text)


def _new_threads(
    log: Log, members: Mapping[ThreadId, list[EmailId]], shown: dict[int, int], made: set[int]
) -> set[int]:
    """Return the threads none of whose emails, there or gone, is older than the state.

    `made` are emails that are not, besides those that the log says were created.
    """
    old: set[int] = set()
    for entry in log.entries:
        if entry.kind is ChangeKind.EMAIL_CREATED:
            made.update(entry.email_ids)
    for entry in log.entries:
        if entry.kind in EMAIL_KINDS:
            pairs = zip(entry.email_ids, entry.thread_ids, strict=True)
            old.update(thread for email, thread in pairs if email not in made)
    for thread, emails in members.items():
        if any(email in shown and email not in made for email in emails):
            old.add(thread)
    everything = {thread for entry in log.entries for thread in entry.thread_ids}
    return everything - old


# Mailbox -----------------------------------------------------------------------------------------

COUNT_PROPERTIES = ("totalEmails", "unreadEmails", "totalThreads", "unreadThreads")


def _mailbox_events(entry: ChangeEntry) -> Iterable[Event]:
    if entry.kind not in EMAIL_KINDS | MAILBOX_KINDS:
        return ()
    return ((entry.mailbox_id, entry.kind is ChangeKind.MAILBOX_CREATED),)


async def mailbox_changes(session: Session, asked: Changes) -> dict[str, object]:
    """Return which mailboxes changed since a state, counts included (RFC 8621 §2.2)."""
    log = await read_log(session, asked)
    part = stretch(log, _mailbox_events, divisible=False)
    if not part.more:
        await _add_thread_neighbours(session, log, part)
    there = {each.id for each in await visible_mailboxes(session)}
    answer = response(session, asked, part, there, mailbox_text)
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
