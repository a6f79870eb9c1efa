"""Email/get (RFC 8621 §4.2)."""

from collections.abc import Callable, Iterable, Mapping
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
from mailserver.jmap.protocol.headers import PREFIX, HeaderProperty, parse_header_property
from mailserver.jmap.protocol.ids import blob_text, email_text, mailbox_text, thread_text
from mailserver.jmap.protocol.properties import boolean, nullable, optional, texts, unsigned
from mailserver.jmap.session import Session
from mailserver.mail import criteria, messages, search
from mailserver.mime import all_headers
from mailserver.model import Email, EmailId, Flags, IdKind

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

# a folder has few mailboxes and few sets of flags, and shows them in every line
_mailbox_text = lru_cache(maxsize=4096)(mailbox_text)


@lru_cache(maxsize=4096)
def _keywords(bits: int) -> dict[str, bool]:
    return Flags(bits).jmap()


def _flags(view: View) -> dict[str, bool]:
    common = _keywords(view.place.flags)
    if not view.place.keywords:
        return common
    return common | dict.fromkeys(sorted(view.place.keywords), True)


def _received(view: View) -> str:
    return render_stamp(view.place.received)


def _convenience(name: str) -> Show:
    return lambda view: orjson.Fragment(view.convenience[name])


# properties that change, or that every membership carries
_LIGHT: dict[str, Show] = {
    "id": lambda view: email_text(view.id),
    "threadId": lambda view: thread_text(view.place.thread),
    "mailboxIds": lambda view: {_mailbox_text(each): True for each in view.place.mailboxes},
    "keywords": _flags,
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


@dataclass(slots=True)
class Plan:
    """What to read for a set of properties, and how to show them."""

    shown: dict[str, Show] = field(default_factory=dict)
    body: tuple[str, ...] = ()
    stored: bool = False
    header: bool = False


def plan(names: Iterable[str]) -> Plan:
    """Look the properties up; raise `invalidArguments` for an unknown one."""
    result = Plan()
    for name in dict.fromkeys(("id", *names)):
        if name in _LIGHT:
            result.shown[name] = _LIGHT[name]
            continue
        result.stored = True
        if name in _STORED:
            result.shown[name] = _STORED[name]
        elif name in _BODY:
            result.body += (name,)
        elif name in _FROM_HEADER or name.startswith(PREFIX):
            result.header = True
            result.shown[name] = _FROM_HEADER.get(name) or _header(parse_header_property(name))
        else:
            raise invalid_arguments(f"there is no property {name[:50]!r}")
    return result


def _header(wanted_field: HeaderProperty) -> Show:
    return lambda view: wanted_field.value(view.block)


async def get(session: Session, asked: GetEmail) -> dict[str, object]:
    """Return emails with the properties asked for (RFC 8621 §4.2)."""
    chosen = plan(DEFAULT_PROPERTIES if asked.properties is None else asked.properties)
    bodies = Bodies(
        session,
        chosen.body,
        asked.body_properties,
        body.Values(asked.fetch_text, asked.fetch_html, asked.fetch_all, asked.max_bytes),
    )
    ids = await _everything(session) if asked.ids is None else asked.ids
    texts_of = wanted(session, IdKind.EMAIL, ids)
    await session.state()  # before the data: it may be older than they are, never newer
    views = await _views(session, [each for each in texts_of.values() if each is not None], chosen)
    found: dict[int, object] = {}
    shown = tuple(chosen.shown.items())
    for email_id, view in views.items():
        found[email_id] = {name: show(view) for name, show in shown}
    if chosen.body:
        await bodies.add(found, views)
    return await got(session, texts_of, found)


async def _everything(session: Session) -> tuple[str, ...]:
    """Return all ids of the account where one call may return that many."""
    most = session.limits.max_objects_in_get
    window = criteria.Window(limit=most + 1)
    asked = criteria.Query(window=window, within=session.view.readable)
    found = await search.query(session.mail, session.account, asked)
    if len(found.ids) > most:
        raise too_many_objects(most)
    return tuple(email_text(each) for each in found.ids)


async def _views(session: Session, ids: list[int], chosen: Plan) -> dict[int, View]:
    """Read what the plan needs, of the emails that JMAP shows (RFC 8621 §4.1.1)."""
    if not ids:
        return {}
    places, stored = await search.places(
        session.mail, session.account, ids, envelopes=chosen.stored, within=session.view.readable
    )
    of_header: Mapping[EmailId, Email] = {}
    if chosen.header:
        of_header = await messages.emails(session.mail, session.account, ids, header=True)
    views: dict[int, View] = {}
    for email_id, place in places.items():
        if chosen.stored and email_id not in stored:
            continue  # destroyed this moment
        header = of_header[EmailId(email_id)].header if email_id in of_header else b""
        views[email_id] = View(email_id, place, stored.get(email_id, NOTHING), header)
    return views
