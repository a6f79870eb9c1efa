"""EmailSubmission/get, /changes, /query and /queryChanges (RFC 8621 §7)."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson

from mailserver.errors import CannotCalculateChanges
from mailserver.jmap.methods.changes import Changes, of_records
from mailserver.jmap.methods.get import Get, StandardQuery, got, too_many_objects, wanted, window
from mailserver.jmap.methods.query_changes import Difference, StandardQueryChanges, response
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.dates import parse_utc, render_utc
from mailserver.jmap.protocol.filters import checked_sort
from mailserver.jmap.protocol.ids import blob_text, email_text, thread_text
from mailserver.jmap.protocol.object_filters import Test, parse_test
from mailserver.jmap.protocol.properties import Reader, WrongType, text, texts
from mailserver.jmap.session import Session
from mailserver.mail import changes, submissions
from mailserver.mail.submissions import Listed
from mailserver.model import (
    SUBMISSION_KINDS,
    ChangeEntry,
    ChangeKind,
    Delivery,
    IdKind,
    NotificationKind,
    Submission,
    UndoStatus,
    id_text,
    id_value,
)

ATTEMPTS = 5  # to read submissions between two changes of them

UNDO = {status: status.name.lower() for status in UndoStatus}
DELIVERED = {status: status.name.lower() for status in Delivery}


def submission_text(value: int) -> str:
    """Show the id of a submission."""
    return id_text(IdKind.SUBMISSION, value)


def _statuses(submission: Submission) -> dict[str, Any]:
    return {
        each.recipient: {
            "smtpReply": each.reply,
            "delivered": DELIVERED[each.delivered],
            "displayed": "yes" if each.displayed else "unknown",
        }
        for each in submission.recipients
    }


def _blobs(kind: NotificationKind) -> Callable[[Submission], list[str]]:
    return lambda submission: [blob_text(blob) for each, blob in submission.reports if each is kind]


SHOWN: dict[str, Callable[[Submission], Any]] = {
    "id": lambda submission: submission_text(submission.id),
    "identityId": lambda submission: id_text(IdKind.IDENTITY, submission.identity_id),
    "emailId": lambda submission: email_text(submission.email_id),
    "threadId": lambda submission: thread_text(submission.thread_id),
    "envelope": lambda submission: orjson.loads(submission.envelope),
    "sendAt": lambda submission: render_utc(submission.send_at),
    "undoStatus": lambda submission: UNDO[submission.undo_status],
    "deliveryStatus": _statuses,
    "dsnBlobIds": _blobs(NotificationKind.DSN),
    "mdnBlobIds": _blobs(NotificationKind.MDN),
}


def record(submission: Submission) -> dict[str, Any]:
    """Return a submission as clients see it."""
    return {name: show(submission) for name, show in SHOWN.items()}


async def get(session: Session, asked: Get) -> dict[str, object]:
    """Return submissions (RFC 8621 §7.1)."""
    shown = properties.check_properties(asked.properties, SHOWN)
    ids = None if asked.ids is None else wanted(session, IdKind.SUBMISSION, asked.ids)
    await session.state()  # before the data: it may be older than they are, never newer
    if ids is None:
        numbers: list[int] = [each.id for each in await _listed(session)]
        if len(numbers) > session.limits.max_objects_in_get:
            raise too_many_objects(session.limits.max_objects_in_get)
    else:
        numbers = [each for each in ids.values() if each is not None]
    there = await submissions.get(session.mail, session.account, numbers)
    found: dict[int, object] = {
        each: {name: SHOWN[name](submission) for name in SHOWN if name in shown}
        for each, submission in there.items()
    }
    return await got(session, ids, found)


async def _listed(session: Session) -> list[Listed]:
    return await submissions.listed(session.mail, session.account)


async def get_changes(session: Session, asked: Changes) -> dict[str, object]:
    """Return which submissions changed since a state (RFC 8621 §7.2)."""

    async def existing(ids: Collection[int]) -> Collection[int]:
        return (await submissions.get(session.mail, session.account, list(ids))).keys()

    return await of_records(session, asked, SUBMISSION_KINDS, existing, submission_text)


# Queries -----------------------------------------------------------------------------------------

Matches = Test[Listed]


def _in(kind: IdKind, pick: Callable[[Listed], int]) -> Reader[Matches]:
    def read(value: object) -> Matches:
        ids = frozenset(id_value(kind, each) for each in texts(value))
        return lambda each: pick(each) in ids

    return read


def _undo_status(value: object) -> Matches:
    name = text(value)
    return lambda each: UNDO[each.undo_status] == name


def _sent(before: bool) -> Reader[Matches]:
    def read(value: object) -> Matches:
        moment = parse_utc(text(value))
        if moment is None:
            raise WrongType("a UTCDate")
        # compared as shown: in whole seconds
        return lambda each: (each.send_at.replace(microsecond=0) < moment) is before

    return read


_CONDITIONS: dict[str, Reader[Matches]] = {
    "identityIds": _in(IdKind.IDENTITY, lambda each: each.identity_id),
    "emailIds": _in(IdKind.EMAIL, lambda each: each.email_id),
    "threadIds": _in(IdKind.THREAD, lambda each: each.thread_id),
    "undoStatus": _undo_status,
    "before": _sent(True),
    "after": _sent(False),
}
_KEYS: dict[str, Callable[[Listed], Any]] = {
    "emailId": lambda each: email_text(each.email_id),
    "threadId": lambda each: thread_text(each.thread_id),
    "sentAt": lambda each: each.send_at,
    "sendAt": lambda each: each.send_at,  # QUIRK(many clients): the name that the property has
}


def _result(
    filter_: dict[str, object] | None,
    sort: Sequence[Mapping[str, object]] | None,
    everything: Sequence[Listed],
) -> list[Listed]:
    """Return the submissions that match, in order; the oldest first where nothing else says."""
    test = parse_test(filter_, _CONDITIONS)
    result = [each for each in everything if test(each)]
    for comparator in reversed(checked_sort(sort, tuple(_KEYS))):
        descending = comparator.get("isAscending", True) is False
        result.sort(key=_KEYS[str(comparator["property"])], reverse=descending)
    return result


async def query(session: Session, asked: StandardQuery) -> dict[str, object]:
    """Return submissions that match, in order (RFC 8621 §7.3)."""
    state = await session.state()
    found = _result(asked.filter, asked.sort, await _listed(session))
    ids = [submission_text(each.id) for each in found]
    return window(session, asked, state, ids, can_calculate_changes=True)


async def query_changes(session: Session, asked: StandardQueryChanges) -> dict[str, object]:
    """Return how the result of a query changed since a state (RFC 8621 §7.4)."""
    since = asked.since(session)
    log = await changes.log(session.mail, session.account, since)
    for _ in range(ATTEMPTS):
        everything = await _listed(session)
        before, log = log, await changes.log(session.mail, session.account, since)
        if not _touched(each for each in log.entries if each.modseq > before.modseq):
            break  # so the submissions are those of both states
    else:
        raise CannotCalculateChanges("submissions change all the time")
    touched = _touched(log.entries)
    made = _touched(each for each in log.entries if each.kind is ChangeKind.SUBMISSION_CREATED)
    found = _result(asked.filter, asked.sort, everything)
    difference = Difference(
        log.modseq,
        sorted(touched - made),
        [(index, each.id) for index, each in enumerate(found) if each.id in touched],
        len(found) if asked.calculate_total else None,
    )
    return response(session, asked, difference, submission_text)


def _touched(entries: Iterable[ChangeEntry]) -> set[int]:
    """Return which submissions entries are about."""
    return {each for entry in entries if entry.kind in SUBMISSION_KINDS for each in entry.email_ids}
