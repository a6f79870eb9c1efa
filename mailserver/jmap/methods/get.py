"""What every /get and /query has in common (RFC 8620 §5.1, §5.5)."""

from collections.abc import Mapping
from dataclasses import dataclass

from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.errors import MethodError
from mailserver.jmap.protocol.ids import number_of
from mailserver.jmap.protocol.properties import nullable, optional, required, text, texts
from mailserver.jmap.session import Session
from mailserver.model import IdKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """The arguments of a /get method."""

    account_id: str = required("accountId", text)
    ids: tuple[str, ...] | None = optional("ids", nullable(texts), None)
    properties: tuple[str, ...] | None = optional("properties", nullable(texts), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardQuery:
    """The arguments of a /query method."""

    account_id: str = required("accountId", text)
    filter: dict[str, object] | None = optional("filter", nullable(properties.mapping), None)
    sort: tuple[dict[str, object], ...] | None = optional(
        "sort", nullable(properties.mappings), None
    )
    position: int = optional("position", properties.integer, 0)
    anchor: str | None = optional("anchor", nullable(text), None)
    anchor_offset: int = optional("anchorOffset", properties.integer, 0)
    limit: int | None = optional("limit", nullable(properties.unsigned), None)
    calculate_total: bool = optional("calculateTotal", properties.boolean, False)


def wanted(session: Session, kind: IdKind, ids: tuple[str, ...]) -> dict[str, int | None]:
    """Return each id once with its number, None for one that is no id of that kind."""
    unique = properties.unique_ids(ids, session.limits.max_objects_in_get)
    return {text: number_of(kind, session.resolved(text)) for text in unique}


async def got(
    session: Session, asked: Mapping[str, int | None] | None, found: Mapping[int, object]
) -> dict[str, object]:
    """Return a /get response: found objects in the order asked for, the others in notFound."""
    state = await session.state()
    if asked is None:
        return {
            "accountId": session.account_id,
            "state": state,
            "list": list(found.values()),
            "notFound": [],
        }
    numbers = dict.fromkeys(each for each in asked.values() if each in found)
    return {
        "accountId": session.account_id,
        "state": state,
        "list": [found[each] for each in numbers if each is not None],
        "notFound": [text for text, each in asked.items() if each not in found],
    }


def page_limit(session: Session, asked: int | None) -> tuple[int, dict[str, object]]:
    """Return the limit to use, and the `limit` to report when it is not the client's own."""
    most = session.limits.max_ids_in_query
    if asked is not None and asked <= most:
        return asked, {}
    return most, {"limit": most}


def window(
    session: Session,
    asked: StandardQuery,
    state: str,
    ids: list[str],
    *,
    can_calculate_changes: bool,
) -> dict[str, object]:
    """Cut the wanted stretch out of the whole result of a query (RFC 8620 §5.5)."""
    limit, reported = page_limit(session, asked.limit)
    start = asked.position if asked.position >= 0 else max(0, len(ids) + asked.position)
    if asked.anchor is not None:
        anchor = session.resolved(asked.anchor)
        if anchor not in ids:
            raise MethodError("anchorNotFound")
        start = max(0, ids.index(anchor) + asked.anchor_offset)
    answer: dict[str, object] = {
        "accountId": session.account_id,
        "queryState": state,
        "canCalculateChanges": can_calculate_changes,
        "position": start,
        "ids": ids[start : start + limit],
        **reported,
    }
    if asked.calculate_total:
        answer["total"] = len(ids)
    return answer


def too_many_objects(limit: int) -> MethodError:
    """Return the error for `ids: null` when there are more objects than one call may return."""
    return MethodError("requestTooLarge", f"there are more than {limit}; ask for ids")
