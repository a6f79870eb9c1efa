"""Email/get (RFC 8621 §4.2)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from mailserver.jmap.methods import body
from mailserver.jmap.methods.body import Bodies
from mailserver.jmap.methods.get import Get, got, too_many_objects, wanted
from mailserver.jmap.methods.view import NOTHING, View
from mailserver.jmap.protocol.dates import render_stamp
from mailserver.jmap.protocol.errors import invalid_arguments
from mailserver.jmap.protocol.headers import (
    PREFIX,
    HeaderProperty,
    check_count,
    parse_header_property,
)
from mailserver.jmap.protocol.ids import blob_text, email_text, mailbox_text, thread_text
from mailserver.jmap.protocol.properties import boolean, nullable, optional, texts, unsigned
from mailserver.jmap.session import Session
from mailserver.mail import criteria, messages, search
from mailserver.mail.search import Place
from mailserver.mime import all_headers
from mailserver.model import Email, EmailId, Flags, IdKind

USUAL = 50  # properties of a list that is asked for again and again
DEFAULT_PROPERTIES = (
    "id", "blobId", "threadId", "mailboxIds", "keywords", "size", "receivedAt", "messageId",
    "inReplyTo", "references", "sender", "from", "to", "cc", "bcc", "replyTo", "subject", "sentAt",
    "hasAttachment", "preview", "bodyValues", "textBody", "htmlBody", "attachments",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class GetEmail(Get):
    """The arguments of Email/get."""

    body_properties: tuple[str, ...] | None = optional("bodyProperties", nullable(texts), None)
    fetch_text: bool = optional("fetchTextBodyValues", boolean, False)
    fetch_html: bool = optional("fetchHTMLBodyValues", boolean, False)
    fetch_all: bool = optional("fetchAllBodyValues", boolean, False)
    max_bytes: int = optional("maxBodyValueBytes", unsigned, 0)


Show = Callable[[View], Any]
ShowPlace = Callable[[Place], Any]


def _flags(place: Place) -> dict[str, bool]:
    common = Flags(place.flags).jmap()
    return common | dict.fromkeys(sorted(place.keywords), True)


def _received(view: View) -> str:
    return render_stamp(view.place.received)


def _convenience(name: str) -> Show:
    return lambda view: orjson.Fragment(view.convenience[name])


# properties that change
_CHANGING: dict[str, ShowPlace] = {
    "mailboxIds": lambda place: {mailbox_text(each): True for each in place.mailboxes},
    "keywords": _flags,
}
# properties that every membership carries
_LIGHT: dict[str, Show] = {
    "id": lambda view: email_text(view.id),
    "threadId": lambda view: thread_text(view.place.thread),
    "size": lambda view: view.place.size,
    "receivedAt": _received,
}
_STORED: dict[str, Show] = {
    "blobId": lambda view: blob_text(view.blob_id),
    **{
        name: _convenience(name)
        for name in (
            "messageId", "inReplyTo", "references", "sender", "from", "to", "cc", "bcc",
            "replyTo", "subject", "sentAt", "hasAttachment", "preview",
        )
    },
}  # fmt: skip
_BODY = ("bodyStructure", "textBody", "htmlBody", "attachments", "bodyValues")
_FROM_HEADER: dict[str, Show] = {"headers": lambda view: all_headers(view.block)}


@dataclass(slots=True, eq=False)
class Plan:
    """What to read for a set of properties, and how to show them."""

    fixed: dict[str, Show] = field(default_factory=dict)
    changing: dict[str, ShowPlace] = field(default_factory=dict)
    body: tuple[str, ...] = ()
    stored: bool = False
    header: bool = False

    @property
    def keeps(self) -> bool:
        """Whether what it shows is worth keeping in memory: what lists ask for again and again."""
        return self.stored and not self.header and not self.body


def plan(names: tuple[str, ...]) -> Plan:
    """Look the properties up; raise `invalidArguments` for an unknown one."""
    return _usual_plan(names) if len(names) <= USUAL else _plan(names)


def _plan(names: tuple[str, ...]) -> Plan:
    check_count(names)
    result = Plan()
    for name in dict.fromkeys(("id", *names)):
        if name in _CHANGING:
            result.changing[name] = _CHANGING[name]
            continue
        if name in _LIGHT:
            result.fixed[name] = _LIGHT[name]
            continue
        result.stored = True
        if name in _STORED:
            result.fixed[name] = _STORED[name]
        elif name in _BODY:
            result.body += (name,)
        elif name in _FROM_HEADER or name.startswith(PREFIX):
            result.header = True
            result.fixed[name] = _FROM_HEADER.get(name) or _header(parse_header_property(name))
        else:
            raise invalid_arguments(f"there is no property {name[:50]!r}")
    return result


_usual_plan = lru_cache(maxsize=256)(_plan)  # the same one each time: what is kept goes by it


def _header(wanted_field: HeaderProperty) -> Show:
    return lambda view: wanted_field.value(view.block)


async def get(session: Session, asked: GetEmail) -> dict[str, object]:
    """Return emails with the properties asked for (RFC 8621 §4.2)."""
    chosen = plan(DEFAULT_PROPERTIES if asked.properties is None else asked.properties)
    values = body.Values(asked.fetch_text, asked.fetch_html, asked.fetch_all, asked.max_bytes)
    bodies = Bodies(session, chosen.body, asked.body_properties, values)
    ids = await _everything(session) if asked.ids is None else asked.ids
    texts_of = wanted(session, IdKind.EMAIL, ids)
    await session.state()  # before the data: it may be older than they are, never newer
    found: dict[int, Any] = {}
    read = await _read(session, [each for each in texts_of.values() if each is not None], chosen)
    changing = tuple(chosen.changing)
    for email_id, place in read.places.items():
        fixed = read.kept.get(email_id)
        if fixed is None:
            view = read.views.get(email_id)
            if view is None:
                continue  # destroyed this moment
            fixed = _fixed(session, chosen, view)
        if place.keywords:
            found[email_id] = fixed | {name: _CHANGING[name](place) for name in changing}
        else:
            found[email_id] = fixed | _changing(changing, tuple(place.mailboxes), place.flags)
    if chosen.body:
        await bodies.add(found, read.views)
    return await got(session, texts_of, found)


@lru_cache(maxsize=4096)
def _changing(names: tuple[str, ...], mailboxes: tuple[int, ...], flags: int) -> dict[str, Any]:
    """Show what a folder has few of and shows in every line."""
    place = Place(0, list(mailboxes), received=0, size=0, flags=flags, keywords=frozenset())
    return {name: _CHANGING[name](place) for name in names}


def _fixed(session: Session, chosen: Plan, view: View) -> dict[str, Any]:
    """Return the properties that never change; keep them if they are worth it."""
    shown = {name: show(view) for name, show in chosen.fixed.items()}
    if chosen.keeps:
        size = 1000 + sum(len(view.convenience.get(name, b"")) for name in shown)
        session.mail.listed.keep((chosen, session.account, view.id), shown, size)
    return shown


async def _everything(session: Session) -> tuple[str, ...]:
    """Return all ids of the account where one call may return that many."""
    most = session.limits.max_objects_in_get
    window = criteria.Window(limit=most + 1)
    asked = criteria.Query(window=window, within=session.view.readable)
    found = await search.query(session.mail, session.account, asked)
    if len(found.ids) > most:
        raise too_many_objects(most)
    return tuple(email_text(each) for each in found.ids)


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of emails."""

    places: dict[int, Place]
    kept: dict[int, dict[str, Any]]  # what was shown of some before and never changes
    views: dict[int, View]  # of the others


async def _read(session: Session, ids: list[int], chosen: Plan) -> _Read:
    """Read what the plan needs, of the emails that JMAP shows (RFC 8621 §4.1.1)."""
    kept: dict[int, dict[str, Any]] = {}
    if not ids:
        return _Read({}, {}, {})
    if chosen.keeps:
        get, account = session.mail.listed.get, session.account
        known = ((each, get((chosen, account, each))) for each in ids)
        kept = {each: values for each, values in known if values is not None}
    places, stored = await search.places(
        session.mail,
        session.account,
        ids,
        envelopes_of=[each for each in ids if each not in kept] if chosen.stored else (),
        within=session.view.readable,
    )
    of_header: Mapping[EmailId, Email] = {}
    if chosen.header:
        of_header = await messages.emails(session.mail, session.account, ids, header=True)
    views: dict[int, View] = {}
    for email_id, place in places.items():
        if email_id in kept or (chosen.stored and email_id not in stored):
            continue
        header = of_header[EmailId(email_id)].header if email_id in of_header else b""
        views[email_id] = View(email_id, place, stored.get(email_id, NOTHING), header)
    return _Read(places, kept, views)
