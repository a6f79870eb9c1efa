"""VacationResponse/get and /set (RFC 8621 §8)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from mailserver.jmap.methods.get import Get
from mailserver.jmap.methods.set import Json, Records, Set, run
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.dates import parse_utc, render_utc
from mailserver.jmap.protocol.errors import SetError
from mailserver.jmap.protocol.properties import WrongType, boolean, nullable, short_text, text
from mailserver.jmap.protocol.records import Property, server_set
from mailserver.jmap.session import Session
from mailserver.mail import vacation
from mailserver.model import Vacation

SINGLETON = "singleton"
MAX_SUBJECT = 500  # characters
MAX_BODY = 100_000


def _utc(value: object) -> datetime:
    moment = parse_utc(value) if isinstance(value, str) else None
    if moment is None:
        raise WrongType("a UTCDate")
    return moment


TABLE = {
    "id": server_set(text),
    "isEnabled": Property(boolean, False),
    "fromDate": Property(nullable(_utc), None),
    "toDate": Property(nullable(_utc), None),
    "subject": Property(nullable(short_text(MAX_SUBJECT)), None),
    "textBody": Property(nullable(short_text(MAX_BODY)), None),
    "htmlBody": Property(nullable(short_text(MAX_BODY)), None),
}
_FIELDS = {
    "isEnabled": "enabled",
    "fromDate": "from_date",
    "toDate": "to_date",
    "subject": "subject",
    "textBody": "text_body",
    "htmlBody": "html_body",
}


def _date(moment: datetime | None) -> str | None:
    return None if moment is None else render_utc(moment)


_SHOWN: dict[str, Callable[[Vacation], Any]] = {
    "id": lambda response: SINGLETON,
    "isEnabled": lambda response: response.enabled,
    "fromDate": lambda response: _date(response.from_date),
    "toDate": lambda response: _date(response.to_date),
    "subject": lambda response: response.subject,
    "textBody": lambda response: response.text_body,
    "htmlBody": lambda response: response.html_body,
}


async def get(session: Session, asked: Get) -> dict[str, object]:
    """Return the one vacation response (RFC 8621 §8.1)."""
    shown = properties.check_properties(asked.properties, _SHOWN)
    ids = [SINGLETON]
    if asked.ids is not None:
        ids = properties.unique_ids(asked.ids, session.limits.max_objects_in_get)
    state = await session.state()
    response = await vacation.get(session.mail, session.account)
    values = {name: show(response) for name, show in _SHOWN.items() if name in shown}
    return {
        "accountId": session.account_id,
        "state": state,
        "list": [values] if SINGLETON in ids else [],
        "notFound": [each for each in ids if each != SINGLETON],
    }


async def set_vacation(session: Session, asked: Set) -> Json:
    """Change the vacation response (RFC 8621 §8.2)."""
    return await run(session, asked, VacationRecords(session))


class VacationRecords(Records):
    """The vacation response while a /set works on it."""

    table = TABLE

    async def create(self, new: Mapping[str, Json]) -> Mapping[str, Json | SetError]:
        """Refuse: there is one already."""
        return {each: SetError("singleton") for each in new}

    async def current(self, ids: Sequence[str]) -> Mapping[str, Json]:
        """Return the response as /get shows it."""
        if SINGLETON not in ids:
            return {}
        response = await vacation.get(self.session.mail, self.session.account)
        return {SINGLETON: {name: show(response) for name, show in _SHOWN.items()}}

    async def change(self, changes: Mapping[str, Json]) -> Mapping[str, Json | SetError | None]:
        """Set what is answered."""
        results: dict[str, Json | SetError | None] = {}
        for each, values in changes.items():
            fields = {_FIELDS[name]: value for name, value in values.items()}
            async with self.session.mail.change(self.session.account) as change:
                await vacation.put(change, replace(await vacation.locked(change), **fields))
            self.modseqs.add(change.modseq)
            results[each] = None
        return results

    async def destroy(self, ids: Sequence[str]) -> Mapping[str, SetError | None]:
        """Refuse: there is always one."""
        return {each: SetError("singleton" if each == SINGLETON else "notFound") for each in ids}
