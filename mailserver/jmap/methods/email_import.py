"""Email/import (RFC 8621 §4.8): messages that were uploaded become emails."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mailserver.jmap.methods import blob
from mailserver.jmap.methods.email_create import Arriving, Places, Stores
from mailserver.jmap.methods.set import Json, check_state, shown_errors
from mailserver.jmap.protocol import properties, records
from mailserver.jmap.protocol.dates import parse_utc
from mailserver.jmap.protocol.errors import MethodError, SetError, invalid_properties
from mailserver.jmap.protocol.ids import parse_blob
from mailserver.jmap.protocol.keywords import keywords, mailbox_ids
from mailserver.jmap.protocol.properties import WrongType, nullable, optional, required, text
from mailserver.jmap.protocol.records import Property
from mailserver.jmap.session import Session
from mailserver.mime import HeaderBlock, as_date
from mailserver.model import Flags

_LONE_LF = re.compile(rb"(?<!\r)\n")


def utc_date(value: object) -> datetime:
    """Read a UTCDate."""
    found = parse_utc(text(value))
    if found is None:
        raise WrongType("a UTCDate")
    return found


TABLE = {
    "blobId": Property(text),
    "mailboxIds": Property(mailbox_ids, refers=True),
    "keywords": Property(keywords, Flags()),
    "receivedAt": Property(nullable(utc_date), None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """The arguments of Email/import."""

    account_id: str = required("accountId", text)
    if_in_state: str | None = optional("ifInState", nullable(text), None)
    emails: dict[str, Json] = required("emails", properties.objects)


async def import_emails(session: Session, asked: Import) -> Json:
    """Store uploaded messages, together where they fit."""
    if len(asked.emails) > session.limits.max_objects_in_set:
        raise MethodError("requestTooLarge")
    old_state = await session.fresh_state()
    check_state(asked.if_in_state, old_state)
    places = await Places.of(session)
    modseqs: set[int] = set()
    async with Stores(session, modseqs) as stores:
        for creation_id, given in asked.emails.items():
            try:
                await stores.add(creation_id, await _arriving(session, given, places))
            except SetError as error:
                stores.results[creation_id] = error
    return {
        "accountId": session.account_id,
        "oldState": old_state,
        "newState": await session.advanced(modseqs),
        **creations(session, stores.results),
    }


def creations(session: Session, results: Mapping[str, Json | SetError]) -> Json:
    """Return `created` and `notCreated`, and note the ids that were made."""
    made = {each: result for each, result in results.items() if not isinstance(result, SetError)}
    failed = {each: result for each, result in results.items() if isinstance(result, SetError)}
    session.created_ids.update((each, values["id"]) for each, values in made.items())
    return {"created": made or None, "notCreated": shown_errors(failed)}


async def _arriving(session: Session, given: Mapping[str, Any], places: Places) -> Arriving:
    def resolve(name: str) -> str | None:
        return session.created_ids.get(name[1:]) if name.startswith("#") else name

    values = records.created(TABLE, given, resolve)
    places.check(values["mailboxIds"], values["keywords"])
    raw = await blob.read_for_record(session, values["blobId"])
    if raw is None:
        raise invalid_properties(["blobId"], "there is no such blob")
    block = HeaderBlock(raw)
    if not len(block):
        raise SetError("invalidEmail", "a message starts with a header")
    if b"\n" in raw and b"\r\n" not in raw:  # a file of a system with other line ends
        raw = _LONE_LF.sub(b"\r\n", raw)
        block = HeaderBlock(raw)
    received_at = values["receivedAt"] or _received(block) or session.mail.now()
    name = parse_blob(session.resolved(values["blobId"]))
    return Arriving(
        raw,
        values["mailboxIds"],
        values["keywords"],
        received_at,
        name.blob_id if name is not None and name.part is None else None,
    )


def _received(block: HeaderBlock) -> datetime | None:
    """Return the date of the newest Received field, which is the first one."""
    value = block.first("received")
    shown = None if value is None else as_date(value.rpartition(b";")[2])
    found = None if shown is None else datetime.fromisoformat(shown)
    try:
        return None if found is None else found.astimezone(UTC)
    except OverflowError:
        return None
