"""Email/query and Email/queryChanges (RFC 8621 §4.4, §4.5)."""

from dataclasses import dataclass

from mailserver.errors import TooMany
from mailserver.jmap.methods.get import StandardQuery, page_limit
from mailserver.jmap.methods.query_changes import Difference, StandardQueryChanges, response
from mailserver.jmap.protocol.errors import MethodError
from mailserver.jmap.protocol.filters import email_filter, email_sort, unsupported_filter
from mailserver.jmap.protocol.ids import email_text
from mailserver.jmap.protocol.properties import boolean, optional
from mailserver.jmap.session import Session
from mailserver.mail import criteria, query_changes, search
from mailserver.mail.criteria import Window
from mailserver.model import EmailId, IdKind, id_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(StandardQuery):
    """The arguments of Email/query."""

    collapse_threads: bool = optional("collapseThreads", boolean, False)


async def query(session: Session, asked: Query) -> dict[str, object]:
    """Return emails that match, in order (RFC 8621 §4.4)."""
    limit, reported = page_limit(session, asked.limit)
    anchor = None
    if asked.anchor is not None:
        anchor = id_value(IdKind.EMAIL, session.resolved(asked.anchor))
        if anchor is None:
            raise MethodError("anchorNotFound")
    window = Window(
        position=asked.position,
        anchor=None if anchor is None else EmailId(anchor),
        anchor_offset=asked.anchor_offset,
        limit=limit,
    )
    wanted = criteria.Query(
        where=email_filter(asked.filter),
        order=email_sort(asked.sort),
        window=window,
        collapse_threads=asked.collapse_threads,
        total=asked.calculate_total,
        within=session.view.readable,
    )
    try:
        found = await search.query(session.mail, session.account, wanted)
    except TooMany:
        raise unsupported_filter("the search would read too many messages") from None
    if session.modseq is None:
        session.modseq = found.modseq
    answer: dict[str, object] = {
        "accountId": session.account_id,
        "queryState": session.view.state_at(found.modseq),
        "canCalculateChanges": True,
        "position": found.position,
        "ids": [email_text(email) for email in found.ids],
        **reported,
    }
    if found.total is not None:
        answer["total"] = found.total
    return answer


# Email/queryChanges ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryChanges(StandardQueryChanges):
    """The arguments of Email/queryChanges."""

    collapse_threads: bool = optional("collapseThreads", boolean, False)


async def changes(session: Session, asked: QueryChanges) -> dict[str, object]:
    """Return how the result of a query changed since a state (RFC 8621 §4.5)."""
    wanted = criteria.Query(
        where=email_filter(asked.filter),
        order=email_sort(asked.sort),
        collapse_threads=asked.collapse_threads,
        total=asked.calculate_total,
        within=session.view.readable,
    )
    up_to = None
    if asked.up_to_id is not None:
        up_to = id_value(IdKind.EMAIL, session.resolved(asked.up_to_id))
    delta = await query_changes.query_changes(
        session.mail,
        session.account,
        wanted,
        asked.since(session),
        up_to=None if up_to is None else EmailId(up_to),
    )
    difference = Difference(delta.modseq, delta.removed, delta.added, delta.total)
    return response(session, asked, difference, email_text)
