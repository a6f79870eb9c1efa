"""/queryChanges of every type (RFC 8620 §5.6)."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from mailserver.errors import CannotCalculateChanges
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.errors import MethodError
from mailserver.jmap.protocol.properties import nullable, optional, required, text, unsigned
from mailserver.jmap.session import Session

_STATE = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardQueryChanges:
    """The arguments of a /queryChanges method."""

    account_id: str = required("accountId", text)
    since_query_state: str = required("sinceQueryState", text)
    filter: dict[str, object] | None = optional("filter", nullable(properties.mapping), None)
    sort: tuple[dict[str, object], ...] | None = optional(
        "sort", nullable(properties.mappings), None
    )
    max_changes: int | None = optional("maxChanges", nullable(unsigned), None)
    up_to_id: str | None = optional("upToId", nullable(text), None)
    calculate_total: bool = optional("calculateTotal", properties.boolean, False)

    def since(self, session: Session) -> int:
        """Return the modseq that the old state is; raise CannotCalculateChanges."""
        state = self.since_query_state.removesuffix(session.view.mark)
        if _STATE.fullmatch(state) is None:
            raise CannotCalculateChanges("not a state of a query, or one of other rights")
        return int(state)


@dataclass(frozen=True, slots=True)
class Difference:
    """What makes the old result the new one."""

    modseq: int
    removed: Collection[int]
    added: Sequence[tuple[int, int]]  # index and id, by ascending index
    total: int | None


def response(
    session: Session,
    asked: StandardQueryChanges,
    found: Difference,
    show: Callable[[int], str],
) -> dict[str, object]:
    """Return a /queryChanges response; raise `tooManyChanges`."""
    changes = len(found.removed) + len(found.added)
    if asked.max_changes is not None and changes > asked.max_changes:
        raise MethodError("tooManyChanges")
    answer: dict[str, object] = {
        "accountId": session.account_id,
        "oldQueryState": asked.since_query_state,
        "newQueryState": session.view.state_at(found.modseq),
        "removed": [show(each) for each in found.removed],
        "added": [{"id": show(each), "index": index} for index, each in found.added],
    }
    if found.total is not None:
        answer["total"] = found.total
    return answer
