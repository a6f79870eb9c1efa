"""Quota/get, /changes, /query and /queryChanges (RFC 9425).

An account has one quota, for the octets of its mail, or none. Its state is what it says: the same
state is the same quota, whatever happened in between.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mailserver.errors import CannotCalculateChanges
from mailserver.jmap.methods.changes import Changes
from mailserver.jmap.methods.get import Get, StandardQuery, page_limit
from mailserver.jmap.methods.query_changes import StandardQueryChanges
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.errors import MethodError
from mailserver.jmap.protocol.filters import checked_sort
from mailserver.jmap.protocol.object_filters import Test, parse_test
from mailserver.jmap.protocol.properties import Reader, text
from mailserver.jmap.session import Session
from mailserver.mail import quota

ID = "storage"
NAME = "Storage"
TYPES = {"Email": "urn:ietf:params:jmap:mail"}  # and the capability that it is of
PROPERTIES = (
    "id", "resourceType", "used", "hardLimit", "scope", "name", "types", "warnLimit", "softLimit",
    "description",
)  # fmt: skip
SORTS = ("name", "used")
_STATE = re.compile(r"(\d{1,19})-(\d{0,19})", re.ASCII)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Room:
    """How much of its room an account uses."""

    used: int  # octets
    limit: int | None  # octets; None: there is no quota

    @property
    def state(self) -> str:
        """The state of the type and of every query."""
        return quota.state(self.used, self.limit)


async def room(session: Session) -> Room:
    """Return what the account uses now."""
    used, limit = await quota.storage(session.mail, session.account)
    return Room(max(used, 0), limit)


def _quotas(session: Session, found: Room) -> list[Json]:
    """Return the quota, if there is one for any type that the client knows (RFC 9425 §4.1)."""
    types = [name for name, urn in TYPES.items() if urn in session.using]
    if found.limit is None or not types:
        return []
    return [
        {
            "id": ID,
            "resourceType": "octets",
            "used": found.used,
            "hardLimit": found.limit,
            "scope": "account",
            "name": NAME,
            "types": types,
            "warnLimit": None,
            "softLimit": None,
            "description": None,
        }
    ]


async def get(session: Session, asked: Get) -> Json:
    """Return quotas (RFC 9425 §4.2)."""
    shown = properties.check_properties(asked.properties, PROPERTIES)
    found = await room(session)
    by_id = {each["id"]: each for each in _quotas(session, found)}
    ids = list(by_id)
    if asked.ids is not None:
        ids = properties.unique_ids(asked.ids, session.limits.max_objects_in_get)
    return {
        "accountId": session.account_id,
        "state": found.state,
        "list": [
            {name: value for name, value in by_id[each].items() if name in shown}
            for each in ids
            if each in by_id
        ],
        "notFound": [each for each in ids if each not in by_id],
    }


def _parse_state(state: str) -> Room:
    found = _STATE.fullmatch(state)
    if found is None:
        raise CannotCalculateChanges("not a state")
    return Room(int(found[1]), int(found[2]) if found[2] else None)


async def changes(session: Session, asked: Changes) -> Json:
    """Return whether the quota changed since a state (RFC 9425 §4.3)."""
    before, now = _parse_state(asked.since_state), await room(session)
    there, was_there = now.limit is not None, before.limit is not None
    changed = now.state != before.state
    return {
        "accountId": session.account_id,
        "oldState": asked.since_state,
        "newState": now.state,
        "hasMoreChanges": False,
        "created": [ID] if there and not was_there else [],
        "updated": [ID] if changed and there and was_there else [],
        "destroyed": [ID] if was_there and not there else [],
        "updatedProperties": ["used"] if changed and now.limit == before.limit else None,
    }


# Queries -----------------------------------------------------------------------------------------


def _by(matches: Callable[[Json, str], bool]) -> Reader[Test[Json]]:
    def read(value: object) -> Test[Json]:
        wanted = text(value)
        return lambda each: matches(each, wanted)

    return read


_CONDITIONS: dict[str, Reader[Test[Json]]] = {
    "name": _by(lambda each, value: value.casefold() in each["name"].casefold()),
    "scope": _by(lambda each, value: bool(each["scope"] == value)),
    "resourceType": _by(lambda each, value: bool(each["resourceType"] == value)),
    "type": _by(lambda each, value: value in each["types"]),
}


def _matching(
    session: Session, asked: StandardQuery | StandardQueryChanges, found: Room
) -> list[str]:
    test = parse_test(asked.filter, _CONDITIONS)
    checked_sort(asked.sort, SORTS)  # there are never two to sort
    return [each["id"] for each in _quotas(session, found) if test(each)]


async def query(session: Session, asked: StandardQuery) -> Json:
    """Return quotas that match (RFC 9425 §4.4)."""
    found = await room(session)
    ids = _matching(session, asked, found)
    limit, reported = page_limit(session, asked.limit)
    start = asked.position if asked.position >= 0 else max(0, len(ids) + asked.position)
    if asked.anchor is not None:
        if asked.anchor not in ids:
            raise MethodError("anchorNotFound")
        start = max(0, ids.index(asked.anchor) + asked.anchor_offset)
    answer: Json = {
        "accountId": session.account_id,
        "queryState": found.state,
        "canCalculateChanges": True,
        "position": start,
        "ids": ids[start : start + limit],
        **reported,
    }
    if asked.calculate_total:
        answer["total"] = len(ids)
    return answer


async def query_changes(session: Session, asked: StandardQueryChanges) -> Json:
    """Return what makes an old result the new one: the quota leaves it, and comes again."""
    before, now = _parse_state(asked.since_query_state), await room(session)
    old = _matching(session, asked, before)
    new = _matching(session, asked, now)
    changed = before.state != now.state
    removed = [each for each in old if changed or each not in new]
    added = [{"id": each, "index": 0} for each in new if changed or each not in old]
    if asked.max_changes is not None and len(removed) + len(added) > asked.max_changes:
        raise MethodError("tooManyChanges")
    answer: Json = {
        "accountId": session.account_id,
        "oldQueryState": asked.since_query_state,
        "newQueryState": now.state,
        "removed": removed,
        "added": added,
    }
    if asked.calculate_total:
        answer["total"] = len(new)
    return answer
